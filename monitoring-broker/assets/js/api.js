// Requests to the API, relative to the page, so that it works behind any prefix. In: paths. Out: answers, or errors
// with the problem's own words.
import { learn } from './time.js';
import { another, token } from './token.js';

/** The path of a device in the API. */
export const devicePath = (id) => `v1/devices/${encodeURIComponent(id)}`;

/** A path with those parameters that have a value. A `+` stays one: the API takes it as it is. */
export function query(path, parameters) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== '' && value !== undefined && value !== null);
  return pairs.length ? `${path}?${pairs.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join('&')}` : path;
}

/** An answer that is no error; asks for a token when one is wanted. */
export async function request(path, { headers = {}, signal, method, body } = {}) {
  for (;;) {
    const known = token();
    const sent = known ? { ...headers, authorization: `Bearer ${known}` } : headers;
    const response = await fetch(path, { headers: sent, signal, method, body, cache: 'no-store' });
    learn(response.headers.get('date'));
    if (response.ok) return response;
    if (response.status !== 401) throw await problem(response);
    await another(known);
  }
}

/** The JSON of an answer. */
export const json = async (path, options) => (await request(path, options)).json();

async function problem(response) {
  const told = await response.json().catch(() => ({}));
  return Object.assign(new Error(told.detail ?? `The answer was ${response.status}.`), { status: response.status });
}
