// Sends a command to a device. In: topic, payload and options of the form. Out: that the MQTT server took it, the device's
// response, or why not. Which topics are allowed is the monitoring broker's to say (`--allow-publish`).
import { json } from './api.js';
import { at, say } from './dom.js';
import { forms } from './payload.js';

/** Begins with a device's path in the API. */
export function open(path, signal) {
  at('commands').open = false;
  at('command').reset();
  answer('');
  at('command').onsubmit = (event) => {
    event.preventDefault();
    send(path, signal);
  };
}

async function send(path, signal) {
  const command = {
    topic: at('command-topic').value,
    payload: at('command-payload').value,
    qos: Number(at('command-qos').value),
    retain: at('command-retain').checked,
    expect_response: at('command-wait').checked,
  };
  const headers = { 'content-type': 'application/json' };
  answer('Sending.');
  try {
    const done = await json(`${path}/commands`, { method: 'POST', headers, body: JSON.stringify(command), signal });
    if (done.response) answer('The device answered:', forms(done.response)[0][1]);
    else answer(done.no_subscribers ? 'The MQTT server took it, and nobody is subscribed to the topic.' : 'The MQTT server took it.');
  } catch (error) {
    if (!signal.aborted) answer(`Not sent: ${error.message}`);
  }
}

function answer(text, response = '') {
  say(at('command-note'), text);
  say(at('command-response'), response);
  at('command-response').hidden = response === '';
}
