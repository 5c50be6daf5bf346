// Plots with uPlot, each with its data as a table. Colours are those of Okabe and Ito, which colour-blind people can tell apart.

import { make, setText, table } from "/web/dom.js";
import { duration } from "/web/format.js";

const HEIGHT = 190;
const SYNC = uPlot.sync("time");

/** A colour of the style sheet, as it is now (light or dark). */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function translucent(name, alpha) {
  return colour(name) + Math.round(alpha * 255).toString(16).padStart(2, "0");
}

function axis(options) {
  const grid = { stroke: colour("grid"), width: 1 };
  return { stroke: colour("faint"), grid, ticks: grid, font: "12px system-ui, sans-serif", ...options };
}

/** Times of day; with seconds where steps are shorter than a minute. */
function times() {
  const values = (_, ticks, index, space, step) => ticks.map((second) => {
    const date = new Date(second * 1000);
    const digits = (number) => String(number).padStart(2, "0");
    const day = `${digits(date.getHours())}:${digits(date.getMinutes())}`;
    return step < 60 ? `${day}:${digits(date.getSeconds())}` : day;
  });
  // Between two ticks there is a second at least: labels have no parts of it.
  const incrs = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  return axis({ values, incrs, space: 70 });
}

const durations = () => axis({ size: 64, values: (_, ticks) => ticks.map((ns) => duration(ns)) });

/**
 * A figure with a plot that is drawn anew with each `show(rows)`, and its data as a table.
 * `plot(rows)` returns uPlot's options and data, or null if there is nothing to draw; `columns`: pairs of a heading and a
 * function of a row; `describe(rows)`: the plot in a sentence.
 */
export function figure(title, { plot, columns, describe, note }) {
  const place = make("div", { class: "plot", role: "img" });
  const body = make("div", {});
  const about = make("p", { class: "note" });
  const details = make("details", {}, make("summary", {}, "As a table"), body);
  const element = make("figure", {}, make("figcaption", {}, title), about, place, details);
  let chart = null;
  let rows = [];
  const fill = () => {
    if (!details.open) return body.replaceChildren();
    const shown = rows.slice(-120).reverse();
    const caption = `${title}, the newest first`;
    const texts = shown.map((row) => columns.map(([, text]) => text(row)));
    body.replaceChildren(table(caption, columns.map(([heading]) => heading), texts));
  };
  details.addEventListener("toggle", fill);
  const draw = () => {
    const drawn = rows.length ? plot(rows) : null;
    chart?.destroy();
    chart = null;
    place.hidden = !drawn;
    if (!drawn) return;
    const width = Math.max(240, place.clientWidth);
    const options = { width, height: HEIGHT, legend: { live: false }, ...drawn.options };
    options.cursor = { sync: { key: SYNC.key }, drag: { x: true, y: false }, ...options.cursor };
    chart = new uPlot(options, drawn.data, place);
  };
  const resized = new ResizeObserver(() => {
    const width = place.clientWidth;
    if (chart && width && width !== chart.width) chart.setSize({ width, height: HEIGHT });
  });
  resized.observe(place);
  return {
    element,
    draw,
    show(next) {
      rows = next;
      const text = rows.length ? describe(rows) : "No data yet.";
      place.setAttribute("aria-label", `${title}: ${text}`);
      setText(about, note ? note(rows) : rows.length ? "" : text);
      about.hidden = !about.textContent;
      draw();
      fill();
    },
  };
}

/** Values at the ends of rows; a gap where a row is missing. */
export function columnsOf(rows, ...values) {
  const data = [[], ...values.map(() => [])];
  let before = null;
  for (const row of rows) {
    const lasts = row.end_s - row.start_s;
    if (before !== null && row.start_s - before > 1.5 * lasts + 1) {
      data[0].push(before + lasts / 2);
      values.forEach((_, index) => data[index + 1].push(null));
    }
    data[0].push(row.end_s);
    values.forEach((value, index) => data[index + 1].push(value(row)));
    before = row.end_s;
  }
  return data;
}

/** A value between two gaps: no line leads to it, so it is drawn as a point. */
function lone(chart, series) {
  const values = chart.data[series];
  const isGap = (index) => (values[index] ?? null) === null;
  return [...values.keys()].filter((index) => !isGap(index) && isGap(index - 1) && isGap(index + 1));
}

function line(label, name, options = {}) {
  const points = { show: false, filter: lone, size: 5 };
  return { label, stroke: colour(name), width: 1.5, points, spanGaps: false, ...options };
}

/** Quantiles over time: the median as a line, bands up to the 90th and the 99th percentile, and down to the minimum. */
export function bands(rows, of) {
  const pick = (name) => (row) => of(row)?.[name] ?? null;
  const data = columnsOf(rows, pick("p99"), pick("p90"), pick("p50"), pick("min"));
  const options = {
    axes: [times(), durations()],
    series: [{}, line("99 %", "sky", { width: 1 }), line("90 %", "blue", { width: 1 }), line("median", "text", { width: 2 }),
      line("minimum", "faint", { width: 1, dash: [4, 4] })],
    bands: [
      { series: [1, 2], fill: translucent("sky", 0.25) },
      { series: [2, 3], fill: translucent("blue", 0.3) },
    ],
  };
  return { options, data };
}

/** Lines of durations. `lines`: label, colour, dash and value of a row. */
export function lines(rows, ...list) {
  const data = columnsOf(rows, ...list.map(([, , , value]) => value));
  const series = list.map(([label, name, dash]) => line(label, name, { dash }));
  return { options: { axes: [times(), durations()], series: [{}, ...series] }, data };
}

/** Shares of the sent probes in percent, one on the other. `parts`: label, colour and value of a row, from the bottom. */
export function shares(rows, ...parts) {
  const sums = parts.map((_, index) => (row) => {
    const lost = parts.slice(0, index + 1).reduce((sum, [, , value]) => sum + value(row), 0);
    return row.sent ? (100 * lost) / row.sent : null;
  });
  const data = columnsOf(rows, ...sums.toReversed());
  const bars = uPlot.paths.bars({ size: [0.9, 60], align: -1 });
  const series = parts.toReversed().map(([label, name]) => ({
    label, stroke: colour(name), fill: colour(name), paths: bars, points: { show: false },
  }));
  const top = Math.max(1, ...data[1].map((value) => value ?? 0));
  const options = {
    axes: [times(), axis({ size: 64, values: (_, ticks) => ticks.map((share) => `${share} %`) })],
    scales: { y: { range: [0, Math.min(100, top * 1.1)] } },
    series: [{}, ...series],
  };
  return { options, data };
}

const NS_PER_S = 1e9;
const PER_POWER = 8;
/** The upper bound of a bucket, in nanoseconds. */
export const ofIndex = (index) => NS_PER_S * 2 ** (index / PER_POWER);

/** Counts by time and round-trip time: the darker, the more replies. The scale of y is the index of a bucket. */
export function heatMap(rows) {
  const indices = rows.flatMap((row) => row.rtt_buckets.map(([index]) => index));
  if (!indices.length) return null;
  const low = Math.min(...indices) - 2;
  const high = Math.max(...indices) + 1;
  const most = Math.max(...rows.map((row) => Math.max(0, ...row.rtt_buckets.map(([, count]) => count / (row.received || 1)))));
  const paint = (chart) => {
    const context = chart.ctx;
    context.save();
    context.beginPath();
    context.rect(chart.bbox.left, chart.bbox.top, chart.bbox.width, chart.bbox.height);
    context.clip();
    context.fillStyle = colour("heat");
    for (const row of rows) {
      const left = Math.floor(chart.valToPos(row.start_s, "x", true));
      const width = Math.max(1, Math.ceil(chart.valToPos(row.end_s, "x", true)) - left);
      for (const [index, count] of row.rtt_buckets) {
        const top = Math.floor(chart.valToPos(index, "y", true));
        const height = Math.max(1, Math.ceil(chart.valToPos(index - 1, "y", true)) - top);
        // A single slow reply must be seen.
        context.globalAlpha = 0.15 + 0.85 * Math.sqrt(count / (row.received || 1) / most);
        context.fillRect(left, top, width, height);
      }
    }
    context.restore();
  };
  const middle = columnsOf(rows, () => (low + high) / 2);
  const span = high - low;
  const step = PER_POWER * Math.max(1, Math.ceil(span / PER_POWER / 6));
  const splits = () => Array.from({ length: Math.ceil(span / step) + 1 }, (_, number) => Math.ceil(low / step) * step + number * step)
    .filter((index) => index <= high);
  const options = {
    axes: [times(), axis({ size: 64, splits, values: (_, ticks) => ticks.map((index) => duration(ofIndex(index))) })],
    scales: { x: { range: [rows[0].start_s, rows[rows.length - 1].end_s] }, y: { range: [low, high] } },
    legend: { show: false },
    cursor: { drag: { x: false, y: false } },
    hooks: { draw: [paint] },
    series: [{}, { stroke: "transparent", points: { show: false } }],
  };
  return { options, data: middle };
}

/** A small plot in a cell: a line, and marks below it where something was lost. */
export function sparkline(canvas, values, losses) {
  const [width, height] = [120, 24];
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== width * ratio) {
    canvas.width = width * ratio;
    canvas.height = height * ratio;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const step = width / Math.max(59, values.length - 1);
  const left = width - step * (values.length - 1);
  context.strokeStyle = canvas.dataset.line;
  context.lineWidth = 1.25;
  context.beginPath();
  let isOpen = false;
  values.forEach((value, index) => {
    if (value === null) {
      isOpen = false;
      return;
    }
    const share = high > low ? (value - low) / (high - low) : 0.5;
    const [x, y] = [left + index * step, height - 6 - share * (height - 9)];
    if (isOpen) context.lineTo(x, y);
    else context.moveTo(x, y);
    isOpen = true;
  });
  context.stroke();
  context.fillStyle = canvas.dataset.loss;
  losses.forEach((lost, index) => {
    if (lost) context.fillRect(left + index * step - step / 2, height - 4, Math.max(2, step), 4);
  });
}
