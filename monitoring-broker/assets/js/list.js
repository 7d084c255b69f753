// The list of devices, page by page. In: search, presence, page. Out: rows that are asked for again every 2 s, what is
// wrong with the MQTT servers, and whether the monitoring broker answers.
import { json, query } from './api.js';
import { arrange, at, make, say } from './dom.js';
import { announce, settle, tell } from './notices.js';
import { age, ago, now, showAge } from './time.js';

const PAGE = 50;
const EVERY_MS = 2_000;
const TYPING_MS = 200;

const view = { search: '', state: '', tokens: [''], marked: null };
const rows = new Map();
let timer;
let asking = new AbortController();
/** When the monitoring broker last answered. */
let answered = null;
let told = '';

/** Begins to ask; `alone` is called with the device's id when there is just one. */
export function start(alone) {
  let first = alone;
  at('find').onsubmit = (event) => event.preventDefault();
  at('search').oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => reset({ search: at('search').value.trim() }), TYPING_MS);
  };
  at('states').onchange = (event) => reset({ state: event.target.value });
  at('next').onclick = () => turn(1);
  at('previous').onclick = () => turn(-1);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
  refresh();

  function reset(change) {
    Object.assign(view, change, { tokens: [''] });
    refresh();
  }

  async function refresh() {
    clearTimeout(timer);
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    try {
      const { search, state, tokens } = view;
      const path = query('v1/devices', { search, state, limit: PAGE, page_token: tokens.at(-1) });
      const page = await json(path, { signal });
      if (signal.aborted) return;
      reachable();
      show(page);
      if (first && page.devices.length === 1 && !search && !state && !page.next_page_token) first(page.devices[0].id);
      first = null;
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 400 && view.tokens.length > 1) view.tokens = [''];
      unreachable(error);
    }
    if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
  }

  function turn(step) {
    if (step > 0) view.tokens.push(view.next);
    else view.tokens.pop();
    refresh().then(() => at('list').querySelector('a')?.focus());
  }
}

/** Marks the device that is shown beside the list. */
export function mark(id) {
  view.marked = id;
  for (const [device, row] of rows) current(row, device);
}

function current(row, id) {
  if (id === view.marked) row.link.setAttribute('aria-current', 'page');
  else row.link.removeAttribute('aria-current');
}

function show({ devices, next_page_token: next, counts, servers }) {
  view.next = next;
  const seen = new Set(devices.map((device) => device.id));
  for (const id of rows.keys()) if (!seen.has(id)) rows.delete(id);
  arrange(at('list'), devices.map((device) => update(device)));
  count(counts);
  const of = view.state ? counts[view.state] : counts.online + counts.offline + counts.unknown;
  const before = (view.tokens.length - 1) * PAGE;
  at('pager').hidden = of <= PAGE;
  at('previous').disabled = before === 0;
  at('next').disabled = !next;
  say(at('pages'), `${(before + 1).toLocaleString()}–${(before + devices.length).toLocaleString()} of ${of.toLocaleString()}`);
  at('list-empty').hidden = devices.length > 0;
  say(at('list-empty'), view.search || view.state
    ? 'No device fits. Try another search or presence.'
    : 'No devices yet. They show up here when they publish.');
  outages(servers);
}

function update({ id, name, server, presence }) {
  let row = rows.get(id);
  if (!row) {
    row = {
      state: make('span', { class: 'state' }),
      reason: make('span', { class: 'reason' }),
      last: age(null),
    };
    row.link = make(
      'a',
      { href: `#/device/${encodeURIComponent(id)}` },
      make('span', { class: 'name' }, name, ' ', make('small', {}, server)),
      row.state,
      row.last,
      row.reason,
    );
    row.element = make('li', {}, row.link);
    rows.set(id, row);
    current(row, id);
  }
  row.state.dataset.state = presence.state;
  say(row.state, presence.state);
  say(row.reason, presence.reason);
  showAge(row.last, presence.last_message_at);
  row.link.dataset.stale = String(!presence.server_connected);
  return row.element;
}

function count(counts) {
  const all = counts.online + counts.offline + counts.unknown;
  for (const [state, number] of Object.entries({ ...counts, all })) say(at(`count-${state}`), number.toLocaleString());
  // Told once it has settled, and only when it is another one.
  const text = `${all} devices, ${counts.online} online, ${counts.offline} offline`;
  if (told && told !== text && document.body.dataset.view === 'list') announce(text);
  told = text;
}

function outages(servers) {
  const gone = servers.filter((server) => !server.connected).map((server) => server.name);
  if (gone.length === 0) return settle('servers');
  const some = gone.length > 5 ? `${gone.slice(0, 5).join(', ')} and ${gone.length - 5} more` : gone.join(', ');
  const noun = gone.length === 1 ? 'MQTT server' : 'MQTT servers';
  tell('servers', `No connection to the ${noun} ${some}. No data comes in, and presence stays as it was before.`);
}

function reachable() {
  answered = now();
  at('link').dataset.state = 'live';
  delete at('link-text').dataset.at;
  say(at('link-text'), 'Connected');
  settle('api');
}

function unreachable(error) {
  at('link').dataset.state = 'broken';
  // Told by the notice that asks for a token.
  if (error.status === 401) return;
  const since = answered === null ? 'nothing was received yet' : 'what you see is as old as that';
  if (answered === null) say(at('link-text'), 'Not connected');
  else say(at('link-text'), `Data of ${ago(answered)}`);
  const why = error.status ? error.message : 'The monitoring broker does not answer';
  tell('api', `${why.replace(/\.$/, '')}: ${since}. Trying again.`, { level: 'bad' });
}
