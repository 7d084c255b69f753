// MQTT topic filters (MQTT 5.0, 4.7). In: a filter and a topic. Out: whether it takes it.

/** Whether a filter takes a topic; an empty one takes all. */
export function takes(filter, topic) {
  if (filter === '') return true;
  const wanted = filter.split('/');
  const levels = topic.split('/');
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false;
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return true;
    if (index >= levels.length || (level !== '+' && level !== levels[index])) return false;
  }
  return wanted.length === levels.length;
}
