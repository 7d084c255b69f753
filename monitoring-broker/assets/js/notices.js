// What is wrong, told at the top. In: a name for each trouble and its text. Out: one line each while it lasts.
import { at, make, say } from './dom.js';

const shown = new Map();

/** Tells of a trouble, or of another form of it. */
export function tell(name, text, { level = 'warn', action } = {}) {
  let line = shown.get(name);
  if (!line) {
    line = make('p', { class: 'notice', 'data-level': level }, make('span'));
    if (action) line.append(make('button', { type: 'button', textContent: action.text, onclick: action.run }));
    shown.set(name, line);
    at('notices').append(line);
  }
  say(line.firstElementChild, text);
}

/** The trouble is over. */
export function settle(name) {
  shown.get(name)?.remove();
  shown.delete(name);
}

/** Reads a short text to those who listen to the page. */
export const announce = (text) => say(at('announcer'), text);
