// The messages of a device, newest first. In: live messages, topic filter, text. Out: a list of bounded length; older
// ones are read on demand.
import { json, query } from './api.js';
import { arrange, at, make, say, throttled } from './dom.js';
import { forms, line, readingName, valueText } from './payload.js';
import { age, clock, local } from './time.js';
import { takes } from './topic.js';

const PAGE = 50;
/** Rows that are kept: live ones push the oldest out, unless older ones were asked for. */
const MOST_LIVE = 200;
const MOST_ROWS = 1_000;

const draw = throttled(show);
let view = null;

/** Begins with a device's path in the API. */
export function open(path, signal) {
  view = { path, signal, ...fresh('', '') };
  at('message-topic').value = '';
  at('message-text').value = '';
  at('messages').replaceChildren();
  at('lookup').onsubmit = (event) => {
    event.preventDefault();
    Object.assign(view, fresh(at('message-topic').value.trim(), at('message-text').value));
    pause(false);
    search();
  };
  at('pause').onclick = () => pause(!view.paused);
  at('older').onclick = older;
  pause(false);
}

/** Ends. */
export const close = () => { view = null; };

const fresh = (topic, text) => ({ topic, text, items: [], held: [], next: null, looked: false, note: '' });

/** Reads the newest messages that fit. */
export async function search() {
  const mine = view;
  const [topic, text] = [mine.topic, mine.text];
  say(at('messages-note'), 'Searching.');
  try {
    const page = await read(mine, '');
    if (view !== mine || mine.topic !== topic || mine.text !== text) return;
    mine.note = '';
    mine.looked = true;
    merge(page.messages);
    mine.next = page.next_page_token ?? null;
  } catch (error) {
    if (mine.signal.aborted) return;
    mine.note = error.message;
  }
  draw();
}

async function older() {
  const mine = view;
  at('older').disabled = true;
  try {
    const page = await read(mine, mine.next);
    if (view !== mine) return;
    pause(true);
    merge(page.messages);
    mine.next = page.next_page_token ?? null;
  } catch (error) {
    mine.note = error.message;
  } finally {
    at('older').disabled = false;
  }
  draw();
}

function read({ path, topic, text, signal }, token) {
  return json(query(`${path}/messages`, { topic, text, limit: PAGE, page_token: token }), { signal });
}

function merge(messages) {
  const known = new Set(view.items.map((item) => item.sequence));
  const items = messages.filter((message) => !known.has(message.sequence)).map((message) => ({ sequence: message.sequence, message }));
  view.items = [...view.items, ...items].sort((a, b) => b.sequence - a.sequence).slice(0, MOST_ROWS);
}

/** Takes a live message. */
export function add(message) {
  if (takes(view.topic, message.topic) && hasText(message)) put({ sequence: message.sequence, message });
}

/** Shows that messages are missing. */
export function gap(text) {
  put({ sequence: (view.items[0]?.sequence ?? 0) + 0.5, gap: text });
}

function put(item) {
  const into = view.paused ? view.held : view.items;
  if (into.length && into[0].sequence >= item.sequence && !item.gap) return;
  into.unshift(item);
  if (into.length > MOST_LIVE) into.length = MOST_LIVE;
  draw();
}

function hasText({ payload, payload_encoding: encoding }) {
  if (!view.text) return true;
  const text = encoding === 'json' ? JSON.stringify(payload) : encoding === 'base64' ? atob(payload) : payload;
  return text.toLowerCase().includes(view.text.toLowerCase());
}

function pause(paused) {
  view.paused = paused;
  at('pause').setAttribute('aria-pressed', String(paused));
  if (!paused) {
    // What was held and has been pushed out is in the store; the list begins with what is newest.
    const held = new Set(view.held.map((item) => item.sequence));
    view.items = [...view.held, ...view.items.filter((item) => !held.has(item.sequence))].slice(0, MOST_LIVE);
    view.held = [];
  }
  draw();
}

function show() {
  if (!view) return;
  say(at('pause'), view.paused ? `Resume${view.held.length ? ` (${view.held.length === MOST_LIVE ? 'more than ' : ''}${view.held.length} new)` : ''}` : 'Pause');
  arrange(at('messages'), view.items.map((item) => (item.row ??= row(item))));
  at('older').hidden = !view.next || view.items.length >= MOST_ROWS;
  say(at('messages-note'), note());
}

function note() {
  if (view.note) return view.note;
  if (view.items.length >= MOST_ROWS) return `The newest ${MOST_ROWS.toLocaleString()} are shown; narrow the search to see older ones.`;
  if (view.items.length) return '';
  if (!view.looked) return 'Loading.';
  if (view.next) return 'Nothing found in the newest messages; look into older ones.';
  return view.topic || view.text ? 'No message fits.' : 'No message yet.';
}

function row({ message, gap: missing }) {
  if (missing) return make('li', { class: 'gap' }, missing);
  const time = make('time', { dateTime: message.received_at, title: local(Date.parse(message.received_at)) }, clock(Date.parse(message.received_at)));
  const marks = [`QoS ${message.qos}`, message.retained ? 'retained' : null, message.duplicate ? 'duplicate' : null, message.decode_error ? 'decode error' : null];
  const summary = make(
    'summary', {}, time, make('span', { class: 'where' }, message.topic), make('code', { class: 'what' }, line(message)),
    make('span', { class: 'marks', 'data-error': message.decode_error ? 'true' : null }, marks.filter(Boolean).join(' · ')),
  );
  const details = make('details', {}, summary);
  details.ontoggle = () => {
    if (!details.open) return;
    if (!view.paused) pause(true);
    if (details.children.length === 1) details.append(whole(message));
  };
  return make('li', {}, details);
}

function whole(message) {
  const facts = [
    ['Topic', message.topic],
    ['Received', make('span', {}, local(Date.parse(message.received_at)), ' (', age(message.received_at), ')')],
    ['Sequence', String(message.sequence)],
    ['Decode error', message.decode_error],
    ['Content type', message.content_type],
    ['Response topic', message.response_topic],
    ['Correlation data', message.correlation_data],
    ...(message.user_properties ?? []).map(({ name, value }) => [`Property ${name}`, value]),
  ];
  const listed = facts.filter(([, value]) => value).map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value)));
  const texts = forms(message).map(([name, text]) => make('figure', {}, make('figcaption', {}, name), make('pre', { tabIndex: 0 }, text)));
  const readings = message.readings.slice(0, 200).map((said) => make('div', {}, make('dt', {}, readingName(said.name)), make('dd', {}, valueText(said))));
  return make('div', { class: 'whole' }, make('dl', { class: 'facts' }, ...listed), ...texts, readings.length ? make('dl', { class: 'readings' }, ...readings) : null);
}
