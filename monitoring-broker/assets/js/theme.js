// Light or dark: as the system has it, or as the user chose. Out: `data-theme` on the document, kept in this browser.
import { at, say } from './dom.js';

const KEY = 'akri-mqtt-theme';
const CHOICES = ['system', 'light', 'dark'];

/** Begins with what was chosen before; calls `changed` whenever the colours change. */
export function start(changed) {
  let chosen = localStorage.getItem(KEY);
  if (!CHOICES.includes(chosen)) chosen = 'system';
  const show = () => {
    document.documentElement.dataset.theme = chosen;
    say(at('theme'), `Theme: ${chosen}`);
    changed();
  };
  at('theme').onclick = () => {
    chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
    localStorage.setItem(KEY, chosen);
    show();
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  show();
}
