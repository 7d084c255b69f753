// The bearer token, if the monitoring broker wants one. In: the user's entry. Out: the token, kept in this tab only.
import { at, say } from './dom.js';
import { settle, tell } from './notices.js';

const KEY = 'akri-mqtt-token';
let asking = null;
let declined = false;

/** The token, or nothing. */
export const token = () => sessionStorage.getItem(KEY);

/** Waits for a token that is not the refused one. Fails when the user declines. */
export function another(refused) {
  if (token() !== refused) return Promise.resolve();
  if (declined) return Promise.reject(missing());
  asking ??= ask(refused).finally(() => { asking = null; });
  return asking;
}

function ask(refused) {
  const dialog = at('token-dialog');
  const field = at('token');
  say(at('token-why'), refused
    ? 'The monitoring broker did not accept this token.'
    : 'This monitoring broker answers only to those who have its token.');
  field.value = '';
  dialog.showModal();
  return new Promise((resolve, reject) => {
    at('token-form').onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      field.value = '';
      dialog.close();
    };
    at('token-cancel').onclick = () => dialog.close();
    dialog.onclose = () => {
      if (token() !== refused) return resolve();
      declined = true;
      tell('token', 'The monitoring broker wants a token.', { action: { text: 'Enter it', run: again } });
      reject(missing());
    };
  });
}

const missing = () => Object.assign(new Error('A token is needed.'), { status: 401 });

function again() {
  declined = false;
  settle('token');
  another(token()).catch(() => {});
}
