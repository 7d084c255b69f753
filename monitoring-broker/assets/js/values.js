// The latest value of everything a device says. In: messages. Out: a block for each topic, with its readings.
import { arrange, at, make, say, throttled } from './dom.js';
import { line, number, readingName, valueText } from './payload.js';
import { age, showAge } from './time.js';

/** Topics that are remembered, and that are shown at a time; readings of one. */
const MOST_TOPICS = 2_000;
const MOST_SHOWN = 100;
const MOST_READINGS = 60;

let latest = new Map();
let blocks = new Map();
let left = 0;
let choose = () => {};
const draw = throttled(show);

/** Begins anew; `chosen` is called with topic and name of the reading that is to be in the chart. */
export function open(chosen) {
  latest = new Map();
  blocks = new Map();
  left = 0;
  choose = chosen;
  at('topics').value = '';
  at('topics').oninput = draw;
  at('values').replaceChildren();
  draw();
}

/** Takes a message, unless a newer one of its topic is here. */
export function add(message) {
  const before = latest.get(message.topic);
  if (before && before.sequence >= message.sequence) return;
  if (!before && latest.size >= MOST_TOPICS) {
    left += 1;
    return draw();
  }
  latest.set(message.topic, message);
  draw();
}

function show() {
  const wanted = at('topics').value.trim().toLowerCase();
  const topics = [...latest.keys()].filter((topic) => topic.toLowerCase().includes(wanted)).sort();
  const visible = topics.slice(0, MOST_SHOWN);
  const seen = new Set(visible);
  for (const topic of blocks.keys()) if (!seen.has(topic)) blocks.delete(topic);
  arrange(at('values'), visible.map((topic) => update(latest.get(topic))));
  at('topics').hidden = latest.size < 6;
  say(at('values-note'), note(topics.length));
}

function note(fitting) {
  if (latest.size === 0) return 'No message yet.';
  if (fitting === 0) return 'No topic fits.';
  const more = left > 0 ? ` There are more than the ${MOST_TOPICS.toLocaleString()} topics that this page remembers.` : '';
  return fitting > MOST_SHOWN ? `${MOST_SHOWN} of ${fitting.toLocaleString()} topics; filter to see others.${more}` : more.trim();
}

function update(message) {
  let block = blocks.get(message.topic);
  if (!block) {
    block = { sequence: -1, cells: new Map(), age: age(null), marks: make('span', { class: 'marks' }), body: make('dl') };
    const head = make('header', {}, make('h3', {}, message.topic), block.marks, block.age);
    block.element = make('section', { class: 'topic', 'aria-label': message.topic }, head, block.body);
    blocks.set(message.topic, block);
  }
  if (block.sequence === message.sequence) return block.element;
  const isFirst = block.sequence < 0;
  block.sequence = message.sequence;
  showAge(block.age, message.received_at);
  const marks = [`QoS ${message.qos}`, message.retained ? 'retained' : null].filter(Boolean);
  say(block.marks, marks.join(' · '));
  arrange(block.body, cells(block, message, isFirst));
  return block.element;
}

function cells(block, message, isFirst) {
  // A device may change its names without end.
  if (block.cells.size > MOST_READINGS * 4) block.cells.clear();
  const rows = message.readings.slice(0, MOST_READINGS).map((said) => {
    const cell = block.cells.get(said.name) ?? reading(block, message.topic, said.name, said.value);
    fill(cell, valueText(said), isFirst);
    return cell.element;
  });
  if (message.decode_error) rows.push(other(block, 'error', 'Decode error', message.decode_error));
  if (message.readings.length === 0) rows.push(other(block, 'payload', 'payload', line(message)));
  const more = message.readings.length - MOST_READINGS;
  if (more > 0) rows.push(other(block, 'more', 'more', `${more} further readings are in the messages below`));
  return rows;
}

function reading(block, topic, name, value) {
  const label = readingName(name);
  const title = number(value) === null
    ? make('span', {}, label)
    : make('button', { type: 'button', class: 'pick', title: 'Show in the chart', onclick: () => choose(topic, name) }, label);
  return keep(block, `reading ${name}`, name, title);
}

function other(block, key, label, text) {
  const cell = block.cells.get(` ${key}`) ?? keep(block, key, ` ${key}`, make('span', {}, label));
  fill(cell, text, true);
  return cell.element;
}

function keep(block, kind, key, title) {
  const value = make('dd');
  const cell = { value, element: make('div', { 'data-kind': kind.split(' ')[0] }, make('dt', {}, title), value) };
  block.cells.set(key, cell);
  return cell;
}

/** Changes the text, and lets a change glow for a moment. */
function fill(cell, text, quietly) {
  if (cell.value.textContent === text) return;
  const isNew = cell.value.textContent === '';
  cell.value.textContent = text;
  cell.value.title = text;
  if (quietly || isNew) return;
  for (const animation of cell.value.getAnimations()) animation.cancel();
  cell.value.classList.remove('changed');
  requestAnimationFrame(() => cell.value.classList.add('changed'));
}
