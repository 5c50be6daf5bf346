// One peer and path over the last hour or day.

import { make, setText } from "/web/dom.js";
import { age, seconds } from "/web/format.js";
import { last, resultFigures } from "/web/results.js";
import { get } from "/web/stream.js";
import { Hops } from "./hops.js";

const SPANS = {
  report: { label: "Last hour", lasts_s: 3600 },
  minute: { label: "Last day, by minute", lasts_s: 86400 },
};

export class Detail {
  hops = new Hops();
  #place;
  #title = make("h2", { id: "detail-title", tabindex: "-1" });
  #note = make("p", { class: "note" });
  #events = make("ol", { class: "events" });
  #figures = resultFigures();
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
      make("div", { class: "plots" }, ...this.#figures.map(({ element }) => element)),
      this.hops.element,
      make("h3", {}, "Events of this peer"), this.#events);
  }

  /** Shows a peer and path. `events` has all events. */
  choose(chosen, name, events) {
    this.#history = events;
    this.#name = name ? `${name} (${chosen.peer})` : chosen.peer;
    if (chosen.peer === this.#chosen?.peer && chosen.path === this.#chosen?.path) return;
    this.#chosen = chosen;
    this.hops.choose(chosen);
    setText(this.#title, `${this.#name}, ${chosen.path}`);
    this.#place.hidden = false;
    this.reload();
  }

  /** There is no peer. */
  leave() {
    this.#chosen = null;
    this.hops.choose(null);
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
    this.#figures.forEach((one) => one.draw());
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
    this.#figures.forEach((one) => one.show(rows));
    const own = this.#history.lines(this.#chosen.peer, 10);
    this.#events.replaceChildren(...(own.length ? own : [make("li", { class: "empty" }, "None.")]));
  }

  #span(by) {
    this.#by = by;
    this.reload();
  }
}
