// The chart of one reading over a time. In: which reading, which time, live messages. Out: a line, its numbers in words
// and as a table. History is read newest first, page by page up to a limit; what is left out or thinned is said.
import { json, query } from './api.js';
import { at, make, say, throttled } from './dom.js';
import { plot } from './plot.js';
import { number, readingName } from './payload.js';
import { since, table, thin } from './series.js';
import { local, now } from './time.js';

const PAGE = 10_000;
const MOST_READINGS = 100_000;
/** Intervals after thinning; two points each. */
const INTERVALS = 1_000;
const MOST_POINTS = 8_000;
const THINNED = 'Thinned out: the lowest and the highest reading of each interval are drawn.';
const ROWS = 40;
const MOST_CHOICES = 500;

const canvas = plot(at('plot'));
const draw = throttled(show, 300);
let view = null;

/** Begins with a device's path in the API. */
export function open(path, signal) {
  view = { path, signal, choices: new Map(), chosen: null, loading: new AbortController(), ...live(300) };
  at('reading').replaceChildren();
  at('reading').onchange = () => pick(at('reading').value);
  at('ranges').onchange = (event) => range(event.target.value);
  at('ranges').querySelector('input').checked = true;
  at('custom').hidden = true;
  at('custom').onsubmit = (event) => {
    event.preventDefault();
    custom();
  };
  at('chart-details').ontoggle = draw;
  clear();
}

/** Ends. */
export function close() {
  view?.loading.abort();
  view = null;
}

export const recolour = () => { if (view) canvas.recolour(); };

const live = (seconds) => ({ seconds, from: null, to: null });

function clear() {
  Object.assign(view, { points: [[], []], waiting: [], thinned: false, note: '', newest: 0 });
  draw();
}

/** Learns which readings there are; the first number is shown until another is chosen. */
export function offer(messages) {
  for (const message of messages) {
    for (const { name, value } of message.readings) if (number(value) !== null) choice(message.topic, name);
  }
  if (!view.chosen && view.choices.size) pick(view.choices.keys().next().value);
  draw();
}

function choice(topic, name) {
  const key = JSON.stringify([topic, name]);
  if (view.choices.has(key) || view.choices.size >= MOST_CHOICES) return key;
  view.choices.set(key, { topic, name });
  let group = [...at('reading').children].find((group) => group.label === topic);
  if (!group) at('reading').append(group = make('optgroup', { label: topic }));
  group.append(make('option', { value: key, textContent: readingName(name) }));
  return key;
}

/** Shows a reading of a topic. */
export function choose(topic, name) {
  pick(choice(topic, name));
  at('chart-title').scrollIntoView({ block: 'nearest' });
  at('reading').focus();
}

function pick(key) {
  view.chosen = view.choices.get(key) ?? view.chosen;
  at('reading').value = key;
  load();
}

function range(value) {
  at('custom').hidden = value !== 'custom';
  if (value !== 'custom') {
    Object.assign(view, live(Number(value)));
    return load();
  }
  const zone = new Date().getTimezoneOffset() * 60_000;
  const field = (ms) => new Date(ms - zone).toISOString().slice(0, 19);
  at('from').value ||= field(now() - 3_600_000);
  at('to').value ||= field(now());
  at('from').focus();
}

function custom() {
  const from = Date.parse(at('from').value) / 1000;
  const to = at('to').value ? Date.parse(at('to').value) / 1000 : null;
  if (to !== null && to <= from) return say(at('chart-note'), 'The end has to be after the beginning.');
  Object.assign(view, { seconds: null, from, to });
  load();
}

/** The times that are shown, in seconds. */
function bounds() {
  const end = now() / 1000;
  return view.seconds ? [end - view.seconds, end] : [view.from, view.to ?? end];
}

async function load() {
  view.loading.abort();
  view.loading = new AbortController();
  const signal = AbortSignal.any([view.signal, view.loading.signal]);
  clear();
  if (!view.chosen) return;
  const mine = view;
  const [from] = bounds();
  const { topic, name } = view.chosen;
  const parts = [];
  let token = '';
  try {
    do {
      const parameters = { topic, from: from.toFixed(3), to: view.to?.toFixed(3), limit: PAGE, page_token: token };
      // An empty name is that of a plain value, so it is sent as well.
      const path = `${query(`${view.path}/readings`, parameters)}&name=${encodeURIComponent(name)}`;
      const page = await json(path, { signal });
      parts.push(...page.readings);
      token = page.next_page_token ?? '';
      mine.note = token ? `Loading, ${parts.length.toLocaleString()} readings so far.` : '';
      take(mine, parts);
    } while (token && parts.length < MOST_READINGS);
    if (token) mine.note = `Only the newest ${parts.length.toLocaleString()} readings of this time are shown.`;
  } catch (error) {
    if (signal.aborted) return;
    mine.note = `The readings cannot be read: ${error.message}`;
  }
  draw();
}

/** Readings, newest first, become the points; live ones that came meanwhile follow. */
function take(view, readings) {
  const points = [[], []];
  for (let index = readings.length - 1; index >= 0; index -= 1) push(points, readings[index]);
  view.newest = readings[0]?.sequence ?? 0;
  view.points = thin(points, INTERVALS);
  view.thinned = view.points[0].length < points[0].length;
  const late = view.waiting.filter((reading) => reading.sequence > view.newest);
  for (const reading of late) append(view, reading);
  draw();
}

function push(points, { value, received_at: time }) {
  const shown = number(value);
  if (shown === null) return;
  const at = Date.parse(time) / 1000;
  // The chart wants its times in order; a clock that was stepped back stays where it was.
  points[0].push(Math.max(at, points[0].at(-1) ?? at));
  points[1].push(shown);
}

function append(view, reading) {
  push(view.points, reading);
  view.newest = reading.sequence;
  if (view.points[0].length <= MOST_POINTS) return;
  view.points = thin(view.points, INTERVALS);
  view.thinned = true;
}

/** Takes a live message. */
export function add(message) {
  if (!view.chosen) return offer([message]);
  for (const { name, value } of message.readings) {
    const isChosen = message.topic === view.chosen.topic && name === view.chosen.name;
    if (!isChosen) {
      if (number(value) !== null) choice(message.topic, name);
      continue;
    }
    if (view.to !== null || message.sequence <= view.newest) continue;
    const reading = { value, received_at: message.received_at, sequence: message.sequence };
    // Kept until the history is there, which may end before it.
    if (view.waiting.push(reading) > PAGE) view.waiting.shift();
    append(view, reading);
    draw();
  }
}

function show() {
  if (!view) return;
  const [from, to] = bounds();
  if (view.seconds) view.points = since(view.points, from);
  const [, values] = view.points;
  canvas.draw(view.points, from, to);
  at('plot').setAttribute('aria-label', view.chosen ? `Chart of ${readingName(view.chosen.name)} on ${view.chosen.topic}` : 'Chart');
  say(at('chart-sum'), sum(values));
  say(at('chart-note'), [view.note, view.thinned ? THINNED : ''].filter(Boolean).join(' '));
  if (at('chart-details').open) rows();
}

function sum(values) {
  if (!view.chosen) return 'No numbers yet.';
  if (values.length === 0) return 'No readings in this time.';
  const [low, high] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  return `Last ${short(values.at(-1))} · lowest ${short(low)} · highest ${short(high)}`;
}

const short = (value) => Number(value.toPrecision(8)).toString();

function rows() {
  const filled = table(view.points, ROWS).reverse();
  at('chart-rows').replaceChildren(...filled.map(({ start, low, high, last }) => make(
    'tr', {}, make('th', { scope: 'row' }, local(start * 1000)), ...[low, high, last].map((value) => make('td', {}, short(value))),
  )));
}

// Time goes on also when nothing comes.
setInterval(() => { if (view?.seconds && !document.hidden) draw(); }, 1_000);
