// Payloads as people read them. In: messages of the API. Out: texts, shortened where they are long.

/** What one payload shows at most. */
const MOST = 64 * 1024;
const LINE = 160;

const cut = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** In one line. */
export function line(message) {
  const { payload, payload_encoding: encoding } = message;
  if (encoding === 'json') return cut(JSON.stringify(payload), LINE);
  if (encoding === 'text') return payload === '' ? '(empty)' : cut(payload, LINE).replace(/\s+/g, ' ');
  return cut(hex(payload, LINE / 2), LINE);
}

/** In full, by its encoding. */
export function forms(message) {
  const { payload, payload_encoding: encoding } = message;
  if (encoding === 'json') return [['JSON', cut(JSON.stringify(payload, null, 2), MOST)]];
  if (encoding === 'text') return [['Text', cut(payload, MOST)]];
  return [['Hex', cut(hex(payload, MOST / 4), MOST)], ['Base64', cut(payload, MOST)]];
}

function hex(base64, bytes) {
  const text = atob(base64.slice(0, Math.ceil(bytes / 3) * 4));
  const all = Array.from(text, (c) => c.charCodeAt(0).toString(16).padStart(2, '0'));
  return all.join(' ') + (base64.length * 3 > bytes * 4 ? ' …' : '');
}

/** A reading's name without the form of a JSON pointer (RFC 6901). */
export function readingName(name) {
  if (name === '') return 'value';
  return name.replace(/^\//, '').replaceAll('~1', '/').replaceAll('~0', '~');
}

/** A reading's value with its unit, if it has one. */
export const valueText = ({ value, unit }) => cut(unit ? `${value} ${unit}` : String(value), LINE);

/** A value as a number for the chart, or none; integers that a double cannot hold come as texts. */
export function number(value) {
  if (typeof value === 'number') return value;
  if (typeof value === 'boolean') return Number(value);
  return /^-?\d{16,20}$/.test(value) ? Number(value) : null;
}
