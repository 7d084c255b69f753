// A device's view. In: its id. Out: presence, and the live data handed to values, chart and messages.
// The stream is opened first and the stored data read then, so that nothing falls between.
import { devicePath, json, query } from './api.js';
import * as chart from './chart.js';
import * as commands from './commands.js';
import { at, say } from './dom.js';
import * as messages from './messages.js';
import { announce, settle, tell } from './notices.js';
import { follow } from './sse.js';
import { showAge } from './time.js';
import * as values from './values.js';

let shown = null;

/** Shows a device and follows it. */
export function open(id) {
  if (shown?.id === id) return;
  close();
  const stopped = new AbortController();
  shown = { id, stopped, last: null, state: null, loaded: false };
  at('device').hidden = false;
  at('device').dataset.stale = 'false';
  say(at('device-title'), id);
  present({ state: 'unknown', reason: 'Loading', since: null, last_message_at: null, server_connected: true });
  shown.state = null;
  const path = devicePath(id);
  begin(path, stopped.signal);
  commands.open(path, stopped.signal);
  shown.stop = follow(`${path}/stream`, { onEvent, onState: (state, error) => streamState(path, state, error) });
}

/** Empties the parts that show what was stored. */
function begin(path, signal) {
  chart.open(path, signal);
  values.open(chart.choose);
  messages.open(path, signal);
}

/** Ends what `open` began. */
export function close() {
  if (!shown) return;
  shown.stop();
  shown.stopped.abort();
  shown = null;
  settle('stream');
  settle('device');
  settle('gap');
  at('device').hidden = true;
  messages.close();
  chart.close();
}

/** The colours have changed. */
export const recolour = () => chart.recolour();

function onEvent(type, data) {
  if (type === 'message') {
    shown.last = data.received_at;
    showAge(at('device-last'), data.received_at);
    values.add(data);
    chart.add(data);
    messages.add(data);
  } else if (type === 'presence') {
    present(data.presence);
  } else if (type === 'gap') {
    const count = data.to - data.from + 1;
    const text = data.to ? `${count.toLocaleString()} messages are missing here: ${data.reason}` : `Messages are missing here: ${data.reason}`;
    // Without an extent it is another store, which counts from the beginning: nothing here can be told from it.
    if (!data.to) {
      const path = devicePath(shown.id);
      begin(path, shown.stopped.signal);
      load(path);
    }
    messages.gap(text);
    tell('gap', text, { action: { text: 'Understood', run: () => settle('gap') } });
  }
}

function present(presence) {
  const { state, reason, since, last_message_at: last, server_connected: connected } = presence;
  at('device-state').dataset.state = state;
  say(at('device-state'), state);
  say(at('device-reason'), reason);
  showAge(at('device-since'), since);
  // A message that came meanwhile is newer than what presence knows.
  if (!shown.last || (last && last > shown.last)) shown.last = last;
  showAge(at('device-last'), shown.last);
  say(at('device-server'), connected ? 'connected' : 'not connected');
  at('device-server').dataset.state = connected ? 'live' : 'broken';
  if (shown.state && shown.state !== state) announce(`${shown.id} is ${state}. ${reason}`);
  shown.state = state;
}

function streamState(path, state, error) {
  const line = at('device-stream');
  line.dataset.state = state;
  if (state === 'live') {
    say(line, 'live');
    at('device').dataset.stale = 'false';
    settle('stream');
    settle('device');
    if (!shown.loaded) load(path);
    return;
  }
  at('device').dataset.stale = 'true';
  say(line, 'broken, trying again');
  // That a token is missing is told by the notice that asks for it.
  if (error.status === 401) return;
  if (error.status === 404) tell('device', error.message, { level: 'bad' });
  else tell('stream', 'The live stream broke. It goes on where it was as soon as it is back; until then everything below is as old as it says.', { level: 'bad' });
}

async function load(path) {
  const { signal } = shown.stopped;
  shown.loaded = true;
  try {
    const [device, latest] = await Promise.all([json(path, { signal }), json(query(`${path}/latest`, {}), { signal })]);
    present(device.presence);
    latest.messages.forEach(values.add);
    chart.offer(latest.messages);
    await messages.search();
  } catch (error) {
    if (signal.aborted) return;
    shown.loaded = false;
    if (error.status === 401) return;
    tell('device', `The device's data cannot be read: ${error.message}`, { level: 'bad' });
  }
}
