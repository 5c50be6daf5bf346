// One peer and path over the last hour or day.

import { make, setText } from "/web/dom.js";
import { age, duration, percent, seconds, time } from "/web/format.js";
import { bands, figure, heatMap, lines, ofIndex, shares } from "/web/plots.js";
import { get } from "/web/stream.js";

const SPANS = {
  report: { label: "Last hour", lasts_s: 3600 },
  minute: { label: "Last day, by minute", lasts_s: 86400 },
};

const at = ["Time", (row) => time(row.end)];
const of = (name, quantile) => (row) => duration(row[name]?.[quantile] ?? null);
const count = (name) => (row) => String(row[name]);
const last = (rows) => rows[rows.length - 1];
const total = (rows, name) => rows.reduce((sum, row) => sum + row[name], 0);

const FIGURES = [
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

export class Detail {
  #place;
  #title = make("h2", { id: "detail-title", tabindex: "-1" });
  #note = make("p", { class: "note" });
  #events = make("ol", { class: "events" });
  #by = "report";
  #chosen = null;
  #name = "";
  #history = null;
  /** By start. */
  #rows = new Map();
  #isLoading = false;
  #isDue = false;

  constructor(place) {
    this.#place = place;
    const radios = Object.entries(SPANS).map(([by, { label }]) => make("label", {},
      make("input", { type: "radio", name: "span", value: by, checked: by === this.#by, onchange: () => this.#span(by) }), label));
    place.append(
      make("div", { class: "heading" }, this.#title, make("fieldset", { "aria-label": "Time shown" }, ...radios)),
      this.#note,
      make("div", { class: "plots" }, ...FIGURES.map(({ element }) => element)),
      make("h3", {}, "Events of this peer"), this.#events);
  }

  /** Shows a peer and path. `events` has all events. */
  choose(chosen, name, events) {
    this.#history = events;
    this.#name = name ? `${name} (${chosen.peer})` : chosen.peer;
    if (chosen.peer === this.#chosen?.peer && chosen.path === this.#chosen?.path) return;
    this.#chosen = chosen;
    setText(this.#title, `${this.#name}, ${chosen.path}`);
    this.#place.hidden = false;
    this.reload();
  }

  /** There is no peer. */
  leave() {
    this.#chosen = null;
    this.#place.hidden = true;
  }

  /** All rows anew. */
  reload() {
    this.#rows = new Map();
    this.follow();
  }

  /** The rows since the last one. */
  async follow() {
    if (!this.#chosen) return;
    this.#isDue = true;
    if (this.#isLoading) return;
    this.#isLoading = true;
    while (this.#isDue && this.#chosen) {
      this.#isDue = false;
      await this.#load();
    }
    this.#isLoading = false;
  }

  repaint() {
    FIGURES.forEach((one) => one.draw());
  }

  async #load() {
    const { peer, path } = this.#chosen;
    const [by, held] = [this.#by, this.#rows];
    const query = new URLSearchParams({ peer, path, by });
    const newest = [...held.values()].pop();
    // The last minute may have grown.
    if (newest) query.set("since", newest.start);
    try {
      const { windows } = await get(`/api/v1/windows?${query}`);
      // Another one was chosen meanwhile.
      if (!this.#chosen || held !== this.#rows || by !== this.#by) return;
      for (const row of windows.toReversed()) {
        held.set(row.start, { ...row, start_s: seconds(row.start), end_s: seconds(row.end) });
      }
      setText(this.#note, "");
    } catch (error) {
      if (!this.#chosen) return;
      setText(this.#note, `No windows: ${error.message}`);
    }
    this.#show();
  }

  #show() {
    const all = [...this.#rows.values()];
    const newest = last(all);
    const rows = newest ? all.filter((row) => row.end_s > newest.end_s - SPANS[this.#by].lasts_s) : [];
    this.#rows = new Map(rows.map((row) => [row.start, row]));
    this.#note.hidden = !this.#note.textContent;
    if (rows.length) {
      setText(this.#title, `${this.#name}, ${newest.path}, ${age(newest.end_s - rows[0].start_s)}`);
    }
    FIGURES.forEach((one) => one.show(rows));
    const own = this.#history.lines(this.#chosen.peer, 10);
    this.#events.replaceChildren(...(own.length ? own : [make("li", { class: "empty" }, "None.")]));
  }

  #span(by) {
    this.#by = by;
    this.reload();
  }
}
