// Draws a line over time with uPlot. In: points and bounds. Out: a canvas in the colours of the page.

const HEIGHT = 240;

/** A chart in an element. */
export function plot(element) {
  let chart = null;
  let shown = [[[], []], 0, 1];

  function build() {
    chart?.destroy();
    const style = getComputedStyle(element);
    const axis = { stroke: style.caretColor, grid: { stroke: style.outlineColor, width: 1 }, ticks: { show: false }, font: `12px ${style.fontFamily}` };
    chart = new globalThis.uPlot({
      width: Math.max(200, element.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { time: true, range: () => shown.slice(1) }, y: { range: padded } },
      axes: [
        { ...axis, values: [
          [86_400, '{YYYY}-{MM}-{DD}', null, null, null, null, null, null, 1],
          [3_600, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
          [60, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
          [1, '{HH}:{mm}:{ss}', null, null, null, null, null, null, 1],
          [0.001, '{ss}.{fff}', null, null, null, null, null, null, 1],
        ], space: 70 },
        { ...axis, size: 62 },
      ],
      series: [{}, { stroke: style.color, fill: style.columnRuleColor, width: 1.75, points: { size: 5, fill: style.color }, spanGaps: true }],
    }, shown[0], element);
    tip(chart, element);
  }

  new ResizeObserver(() => {
    if (chart && element.clientWidth) chart.setSize({ width: element.clientWidth, height: HEIGHT });
  }).observe(element);

  return {
    /** Shows points between two times in seconds. */
    draw(points, from, to) {
      shown = [points, from, to];
      if (!chart) build();
      else chart.setData(points);
    },
    /** Draws again in new colours. */
    recolour() {
      if (chart) build();
    },
  };
}

/** Room above and below, also for a line that is flat. */
function padded(_, low, high) {
  if (low === null || high === null) return [0, 1];
  const room = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

/** The value under the pointer. */
function tip(chart, element) {
  const label = document.createElement('p');
  label.className = 'tip';
  label.hidden = true;
  chart.over.append(label);
  chart.over.addEventListener('mouseleave', () => { label.hidden = true; });
  chart.over.addEventListener('mousemove', () => {
    const { idx, left } = chart.cursor;
    const time = chart.data[0][idx];
    if (time === undefined) return;
    label.hidden = false;
    label.textContent = `${chart.data[1][idx]} at ${new Date(time * 1000).toLocaleTimeString()}`;
    label.style.left = `${Math.min(left, Math.max(0, element.clientWidth - 220))}px`;
  });
}
