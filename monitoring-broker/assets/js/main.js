// Starts the page, and shows what its address says: the list, or a device (`#/device/<id>`).
import * as device from './device.js';
import { at } from './dom.js';
import * as list from './list.js';
import * as theme from './theme.js';
import { keepAges } from './time.js';

const DEVICE = '#/device/';

/** Whether this page has shown anything yet: at first the focus stays where the browser put it. */
let isFirst = true;

function route() {
  const { hash } = location;
  const id = hash.startsWith(DEVICE) ? decode(hash.slice(DEVICE.length)) : null;
  document.body.dataset.view = id === null ? 'list' : 'device';
  document.title = id === null ? 'akri-mqtt' : `${id} · akri-mqtt`;
  list.mark(id);
  if (id === null) {
    device.close();
    if (!isFirst) at('search').focus();
  } else {
    device.open(id);
    if (!isFirst) at('device-title').focus();
  }
  isFirst = false;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

at('skip').onclick = (event) => {
  event.preventDefault();
  at('main').focus();
};
theme.start(device.recolour);
keepAges();
list.start((id) => {
  // A pod's monitoring broker has one device: its page opens on it.
  if (location.hash === '') location.replace(DEVICE + encodeURIComponent(id));
});
addEventListener('hashchange', route);
route();
