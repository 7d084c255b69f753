// A stream of Server-Sent Events that goes on after a break. In: a path. Out: events in order, and how the stream is.
// Read with fetch(), since an EventSource cannot send a token.
import { request } from './api.js';

/** A comment comes every 15 s; a stream that is silent for so long is dead. */
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 500;
const MOST_WAIT_MS = 10_000;

/** Cuts text into events (HTML Standard, 9.2.6). */
export class Parser {
  #rest = '';
  #data = [];
  #type = '';
  #id = '';
  /** The id of the last whole event; half an event does not count. */
  id = '';

  /** The events that are complete with this piece of text. */
  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

  #line(line) {
    if (line === '') return this.#end();
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') this.#data.push(value);
    else if (name === 'event') this.#type = value;
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    return null;
  }

  #end() {
    this.id = this.#id;
    const event = this.#data.length ? { type: this.#type || 'message', data: this.#data.join('\n'), id: this.id } : null;
    this.#data = [];
    this.#type = '';
    return event;
  }
}

/**
 * Follows a stream until the returned function is called.
 * `onState` gets `live`, or `broken` with the error; `onEvent` the type and the parsed data of each event.
 */
export function follow(path, { onEvent, onState }) {
  const stopped = new AbortController();
  let last = '';
  let wait = FIRST_WAIT_MS;

  async function connection() {
    const own = new AbortController();
    const stop = () => own.abort();
    stopped.signal.addEventListener('abort', stop);
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
    };
    try {
      heard();
      const headers = last ? { 'last-event-id': last } : {};
      const response = await request(path, { headers, signal: own.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      onState('live');
      wait = FIRST_WAIT_MS;
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        heard();
        for (const event of parser.push(value)) onEvent(event.type, JSON.parse(event.data));
        last = parser.id || last;
      }
    } finally {
      clearTimeout(timer);
      stopped.signal.removeEventListener('abort', stop);
      own.abort();
    }
  }

  (async () => {
    while (!stopped.signal.aborted) {
      const error = await connection().then(() => new Error('The stream ended.'), (error) => error);
      if (stopped.signal.aborted) return;
      onState('broken', error);
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 2, MOST_WAIT_MS);
    }
  })();
  return () => stopped.abort();
}
