// Points of a chart. In: readings. Out: two arrays, times in seconds and values, thinned where there are too many.

/** Keeps the lowest and the highest point of each of `intervals` equal times, so that no peak is lost. */
export function thin([times, values], intervals) {
  if (times.length <= intervals * 2) return [times, values];
  const first = times[0];
  const width = (times.at(-1) - first) / intervals || 1;
  const kept = [[], []];
  let at = 0;
  while (at < times.length) {
    const end = first + (Math.floor((times[at] - first) / width) + 1) * width;
    let low = at;
    let high = at;
    for (; at < times.length && times[at] < end; at += 1) {
      if (values[at] < values[low]) low = at;
      if (values[at] > values[high]) high = at;
    }
    // A time on the border can be below its own interval's end by rounding.
    if (at === Math.min(low, high)) at += 1;
    for (const index of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) {
      kept[0].push(times[index]);
      kept[1].push(values[index]);
    }
  }
  return kept;
}

/** What lies in each of `intervals` equal times: its start, lowest, highest and last value. */
export function table([times, values], intervals) {
  if (times.length === 0) return [];
  const first = times[0];
  const width = (times.at(-1) - first) / intervals || 1;
  const rows = [];
  for (const [index, value] of values.entries()) {
    const start = first + Math.min(intervals - 1, Math.floor((times[index] - first) / width)) * width;
    const row = rows.at(-1);
    if (row?.start === start) Object.assign(row, { low: Math.min(row.low, value), high: Math.max(row.high, value), last: value });
    else rows.push({ start, low: value, high: value, last: value });
  }
  return rows;
}

/** Drops what is before a time. */
export function since([times, values], from) {
  const first = times.findIndex((time) => time >= from);
  return first <= 0 ? (first === 0 ? [times, values] : [[], []]) : [times.slice(first), values.slice(first)];
}
