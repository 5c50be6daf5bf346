// Figures of the results of one pair: round trips, losses by direction, one-way delays.

import { duration, percent, time } from "/web/format.js";
import { bands, figure, heatMap, lines, ofIndex, shares } from "/web/plots.js";

const at = ["Time", (row) => time(row.end)];
const of = (name, quantile) => (row) => duration(row[name]?.[quantile] ?? null);
const count = (name) => (row) => String(row[name]);
export const last = (rows) => rows[rows.length - 1];
const total = (rows, name) => rows.reduce((sum, row) => sum + row[name], 0);

/** Figures of rows that are windows, each with `start_s` and `end_s`. */
export const resultFigures = () => [
  figure("Round-trip time", {
    plot: (rows) => (rows.some((row) => row.rtt_ns) ? bands(rows, (row) => row.rtt_ns) : null),
    columns: [at, ["Minimum", of("rtt_ns", "min")], ["Median", of("rtt_ns", "p50")], ["90 %", of("rtt_ns", "p90")],
      ["99 %", of("rtt_ns", "p99")], ["Maximum", of("rtt_ns", "max")]],
    describe: (rows) => `median ${of("rtt_ns", "p50")(last(rows))} and 99 % ${of("rtt_ns", "p99")(last(rows))} in the last of ${rows.length}.`,
    note: (rows) => (rows.some((row) => row.rtt_ns) ? "" : "No reply yet."),
  }),
  figure("Round-trip time, heat map", {
    plot: heatMap,
    columns: [at, ["Replies", count("received")], ["Most replies within", (row) => {
      const most = row.rtt_buckets.reduce((best, pair) => (pair[1] > best[1] ? pair : best), [0, 0]);
      const bound = (index) => duration(ofIndex(index));
      return most[1] ? `${bound(most[0] - 1)} to ${bound(most[0])}` : "–";
    }], ["Slowest", of("rtt_ns", "max")]],
    describe: (rows) => `${total(rows, "received")} replies; the darker, the more of them at that time.`,
  }),
  figure("Lost, in percent of the probes sent", {
    plot: (rows) => shares(rows,
      ["forward →", "orange", (row) => row.lost_forward],
      ["backward ←", "blue", (row) => row.lost_backward],
      ["direction unknown", "grey", (row) => row.lost_unknown]),
    columns: [at, ["Sent", count("sent")], ["Lost", count("lost")], ["Forward", count("lost_forward")],
      ["Backward", count("lost_backward")], ["Unknown", count("lost_unknown")], ["Not sent out", count("send_failed")]],
    describe: (rows) => lossText(rows),
    note: (rows) => lossText(rows),
  }),
  figure("One-way delay, median", {
    plot: (rows) => (last(rows).clock ? lines(rows,
      ["forward →", "orange", null, (row) => row.forward_ns?.p50 ?? null],
      ["backward ←", "blue", [6, 3], (row) => row.backward_ns?.p50 ?? null]) : null),
    columns: [at, ["Forward", of("forward_ns", "p50")], ["Forward 99 %", of("forward_ns", "p99")],
      ["Backward", of("backward_ns", "p50")], ["Backward 99 %", of("backward_ns", "p99")], ["Clock", (row) => row.clock ?? "–"]],
    describe: (rows) => `forward ${of("forward_ns", "p50")(last(rows))}, backward ${of("backward_ns", "p50")(last(rows))} in the last window.`,
    note: (rows) => clockText(last(rows)),
  }),
];

function lossText(rows) {
  const names = ["sent", "lost", "lost_forward", "lost_backward", "lost_unknown"];
  const [sent, lost, forward, backward, unknown] = names.map((name) => total(rows, name));
  if (!lost) return `None of ${sent} lost.`;
  return `${lost} of ${sent} (${percent(lost, sent)}): ${forward} forward, ${backward} backward, ${unknown} of unknown direction.`;
}

function clockText(row) {
  if (!row) return "";
  if (!row.clock) return "No clock backs one-way delays: neither one clock, nor two that are synchronised, nor an estimate.";
  const names = { "same-clock": "one clock for both ends", synced: "both clocks are synchronised to UTC", estimated: "estimated from round trips" };
  const bound = row.clock_bound_ns === null ? "" : `, ± ${duration(row.clock_bound_ns)}`;
  return `Clock: ${names[row.clock] ?? row.clock}${bound}.`;
}

/** The losses of a row: share, then forward → and backward ←, ? of unknown direction. */
export function losses(row) {
  const parts = [["→", row.lost_forward], ["←", row.lost_backward], ["?", row.lost_unknown]].filter(([, count]) => count);
  return [percent(row.lost, row.sent), ...parts.map(([sign, count]) => `${sign}${count}`)].join(" ");
}
