// One pair of ports: its delays and losses over time, its windows, and the probes of one of these with their four stamps.

import { make, setText, table } from "/web/dom.js";
import { duration, seconds, time } from "/web/format.js";
import { Grid } from "/web/grid.js";
import { losses, resultFigures } from "/web/results.js";
import { get } from "/web/stream.js";

const RANGES = [["15m", "15 min"], ["1h", "1 h"], ["1d", "1 day"], ["7d", "7 days"]];
const SPOKEN = { window: "windows", minute: "minutes", quarter: "quarters of an hour" };
/** Rows of the table of windows. */
const MAX_WINDOWS = 200;
const MAX_AGE_S = 10;

const COLUMNS = [
  ["Window", "left", "When it ended"],
  ["Sent", "", "Probes sent in it"],
  ["Lost", "", "Of these: share, then forward → and backward ←, ? of unknown direction"],
  ["Median", "", "Round-trip time: half of the replies were faster"],
  ["99 %", "", "Round-trip time: 99 % of the replies were faster"],
  ["Slowest", "wide", "The slowest round trip"],
  ["Probes", "wide", "Single probes that were kept"],
];

/** `10:10:38.123456789`. */
function stamp(text) {
  return text ? `${time(text)}${/\.\d+/.exec(text)?.[0] ?? ""}` : "–";
}

export class Pair {
  #place;
  #title = make("h2", { id: "detail-title", tabindex: "-1" });
  #note = make("p", { class: "note", role: "status" });
  #ports = make("select", { "aria-label": "Ports" });
  #figures = resultFigures();
  #windows = make("div", { class: "scroll short windows" });
  #stamps = make("div", { class: "scroll", "aria-live": "polite" });
  #stampsTitle = make("h3", { id: "stamps-title", tabindex: "-1" });
  #grid;
  #rows = new Map();
  #range = "1h";
  /** Hosts. */
  #chosen = null;
  #asked_s = 0;
  #request = 0;

  /** `turn` opens the pair in the other direction. */
  constructor(place, turn) {
    this.#place = place;
    const radios = RANGES.map(([range, label]) => make("label", {},
      make("input", { type: "radio", name: "range", checked: range === this.#range, onchange: () => this.#span(range) }), label));
    this.#ports.addEventListener("change", () => this.load());
    place.append(
      make("div", { class: "heading" }, this.#title,
        make("div", { class: "controls live-only" }, this.#ports,
          make("button", { type: "button", onclick: () => turn(this.#chosen.to, this.#chosen.from) }, "Other direction"),
          make("fieldset", { "aria-label": "Time shown" }, ...radios))),
      this.#note,
      make("div", { class: "plots" }, ...this.#figures.map(({ element }) => element)),
      make("h3", { id: "windows-title" }, "Windows"), this.#windows, this.#stampsTitle, this.#stamps);
    this.#grid = new Grid(this.#windows, "windows-title", COLUMNS, (row) => this.#show(row?.window ?? null), "stamps-title");
  }

  /** Opens a pair of hosts, at its worst pair of ports. */
  async open(from, to) {
    this.#chosen = { from, to };
    this.#place.hidden = false;
    setText(this.#title, `${from} → ${to}`);
    this.#ports.hidden = true;
    this.#clear("Loading.");
    const request = (this.#request += 1);
    try {
      const { pairs } = await get(`/api/v1/matrix?${new URLSearchParams({ from, to })}`);
      if (request !== this.#request) return;
      const options = pairs.map((pair) => make("option", { value: JSON.stringify([pair.from, pair.to]) }, `${pair.from} → ${pair.to}`));
      this.#ports.replaceChildren(...options);
      this.#ports.hidden = pairs.length < 2;
      if (!pairs.length) return this.#clear(`${from} does not probe ${to}: it is not among its neighbours, or the hub has no window yet.`);
    } catch (error) {
      if (request === this.#request) this.#clear(`The hub does not answer: ${error.message}`);
      return;
    }
    await this.load();
  }

  /** The windows of the chosen ports. */
  async load() {
    if (!this.#chosen || !this.#ports.value) return;
    const request = (this.#request += 1);
    const [from, to] = JSON.parse(this.#ports.value);
    this.#asked_s = performance.now() / 1000;
    setText(this.#title, `${from} → ${to}`);
    try {
      const { windows, by } = await get(`/api/v1/pair?${new URLSearchParams({ from, to, range: this.#range })}`);
      if (request !== this.#request) return;
      this.#take(windows, by);
    } catch (error) {
      if (request === this.#request) this.#clear(`No windows: ${error.message}`);
    }
  }

  /** Asks again, if the last answer is old. */
  follow() {
    const isOld = performance.now() / 1000 - this.#asked_s > MAX_AGE_S;
    if (this.#chosen && isOld && ["15m", "1h"].includes(this.#range)) this.load();
  }

  repaint() {
    this.#figures.forEach((one) => one.draw());
  }

  #span(range) {
    this.#range = range;
    this.load();
  }

  #clear(text) {
    this.#take([], "window");
    setText(this.#note, text);
  }

  #take(windows, by) {
    const shown = windows.toReversed().map((window) => ({ ...window, start_s: seconds(window.start), end_s: seconds(window.end) }));
    setText(this.#note, windows.length ? `${windows.length} ${SPOKEN[by]}.` : "No window in this time.");
    this.#figures.forEach((one) => one.show(shown));
    const before = this.#rows;
    this.#rows = new Map(shown.slice(-MAX_WINDOWS).reverse().map((window) => {
      const row = before.get(window.start) ?? this.#grid.row({});
      row.window = window;
      const texts = [time(window.end), String(window.sent), losses(window), duration(window.rtt_ns?.p50), duration(window.rtt_ns?.p99),
        duration(window.rtt_ns?.max), String(window.probes.length)];
      row.cells.forEach((cell, index) => setText(cell, texts[index]));
      row.cells[2].className = window.lost ? "lossy" : "";
      return [window.start, row];
    }));
    this.#grid.show([...this.#rows.values()]);
    if (![...this.#rows.values()].includes(this.#grid.chosen)) this.#grid.choose(null);
  }

  /** The probes of a window. */
  #show(window) {
    const probes = window?.probes ?? [];
    this.#stamps.replaceChildren();
    setText(this.#stampsTitle, window ? `Probes of the window that ended at ${time(window.end)}` : "");
    if (!window) return;
    if (!probes.length) {
      const why = window.sent ? "Only windows have single probes; minutes and quarters of an hour add them up." : "No probe was sent.";
      return this.#stamps.append(make("p", { class: "empty" }, why));
    }
    const rows = probes.map((probe) => [String(probe.seq), probe.t4 ? "slowest" : "lost",
      ...[probe.t1, probe.t2, probe.t3, probe.t4].map(stamp),
      ...[probe.forward_ns, probe.residence_ns, probe.backward_ns, probe.rtt_ns].map(duration)]);
    const headings = ["Probe", "", "T1 sent", "T2 arrived", "T3 left", "T4 back", "T2 − T1", "T3 − T2", "T4 − T3", "Round trip"];
    const shown = table("The slowest probe, and the first ones that were lost. T2 and T3 are by the clock of the far host", headings, rows);
    shown.classList.add("stamps");
    this.#stamps.append(shown);
  }
}
