// Times as the monitoring broker's clock has them. In: RFC 3339 texts, Date headers. Out: ages and local times.
import { make, say } from './dom.js';

/** A clock that is this much off counts as right: the header has whole seconds. */
const TOLERATED_MS = 2_000;
let skew = 0;

/** Learns from an answer's Date header by how much the browser's clock is off. */
export function learn(date) {
  const told = Date.parse(date ?? '');
  if (Number.isNaN(told)) return;
  const off = told - Date.now();
  skew = Math.abs(off) > TOLERATED_MS ? off : 0;
}

/** Milliseconds since 1970 by the server's clock. */
export const now = () => Date.now() + skew;

/** How long ago that was, in words. */
export function ago(ms) {
  const seconds = Math.max(0, Math.floor((now() - ms) / 1000));
  if (seconds < 1) return 'now';
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const clockTime = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, hourCycle: 'h23',
});

export const local = (ms) => dateTime.format(ms);
export const clock = (ms) => clockTime.format(ms);

/** Shows the age of a time in an element, and keeps it right; nothing for `null`. */
export function showAge(element, time) {
  const ms = typeof time === 'number' ? time : Date.parse(time ?? '');
  if (Number.isNaN(ms)) {
    delete element.dataset.at;
    say(element, 'never');
    return element;
  }
  if (element.dataset.at !== String(ms)) {
    element.dataset.at = String(ms);
    element.title = local(ms);
    if (element instanceof HTMLTimeElement) element.dateTime = new Date(ms).toISOString();
  }
  say(element, ago(ms));
  return element;
}

/** A new element with the age of a time. */
export const age = (time) => showAge(make('time', { class: 'age' }), time);

/** Keeps all ages on the page right. */
export function keepAges() {
  setInterval(() => {
    if (document.hidden) return;
    for (const element of document.querySelectorAll('[data-at]')) say(element, ago(Number(element.dataset.at)));
  }, 1_000);
}
