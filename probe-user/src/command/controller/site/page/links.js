// The table of links.

import { make, setText } from "/web/dom.js";
import { duration } from "/web/format.js";

/** Heading, class, and what it means. */
const COLUMNS = [
  ["Link", "left", "Switch and port of both ends"],
  ["State", "left", "Whether it is measured"],
  ["RTT", "", "Round-trip time by the best method: kernel, bounce, LLDP/echo"],
  ["LLDP/echo", "wide", "LLDP in both directions, less the echo times of both switches"],
  ["±", "wide", "Bound on the error of LLDP/echo"],
  ["Bounce", "wide", "A frame that the far switch sends straight back"],
  ["Kernel", "wide", "Kernel stamps at both ends (--tap)"],
];

/** Names a link as the drawing and the API do. */
export function nameOf({ from, to }) {
  return `${from.dpid}:${from.port} ${to.dpid}:${to.port}`;
}

export function titleOf({ from, to }) {
  return `${from.switch}:${from.port} – ${to.switch}:${to.port}`;
}

export function best({ kernel, bounce, lldp_echo }) {
  return kernel ?? bounce ?? lldp_echo;
}

/** The best estimate in words; below the resolution, the resolution. */
function roundTrip({ state, rtt_ns, error_ns }) {
  if (state === "below_resolution" && rtt_ns.kernel === null) return `< ${duration(error_ns.lldp_echo)}`;
  return duration(best(rtt_ns));
}

/** The state in words; of a link that loses LLDP in one direction, which. */
function stateOf({ state, silent, from, to }) {
  const words = state.replace("_", " ");
  if (silent.forward === silent.backward || !["stale", "missing"].includes(state)) return words;
  const [sender, receiver] = silent.forward ? [from, to] : [to, from];
  return `${words}: loses ${sender.switch} → ${receiver.switch}`;
}

export class Links {
  #body = make("tbody");
  #rows = new Map();
  #chosen = null;
  #onChoose;

  constructor(place, onChoose) {
    this.#onChoose = onChoose;
    const headings = COLUMNS.map(([text, kind, title]) => make("th", { scope: "col", class: kind, title }, text));
    this.#body.addEventListener("click", (event) => this.choose(event.target.closest("tr")?.dataset.link));
    this.#body.addEventListener("keydown", (event) => this.#key(event));
    place.append(make("table", { role: "grid", "aria-labelledby": "links-title" },
      make("thead", {}, make("tr", {}, ...headings)), this.#body));
  }

  /** All links of a report. */
  show(links) {
    const before = this.#rows;
    this.#rows = new Map();
    links.forEach((link, index) => {
      const name = nameOf(link);
      const row = before.get(name) ?? this.#row(name);
      before.delete(name);
      this.#rows.set(name, row);
      this.#draw(row, link);
      if (this.#body.children[index] !== row.element) this.#body.insertBefore(row.element, this.#body.children[index] ?? null);
    });
    before.forEach((row) => row.element.remove());
    if (!this.#rows.has(this.#chosen)) this.choose(this.#rows.keys().next().value);
  }

  choose(name) {
    const row = this.#rows.get(name);
    const before = this.#rows.get(this.#chosen);
    if (before) {
      before.element.setAttribute("aria-selected", "false");
      before.element.tabIndex = -1;
    }
    this.#chosen = row ? name : null;
    if (row) {
      row.element.setAttribute("aria-selected", "true");
      row.element.tabIndex = 0;
    }
    this.#onChoose(row?.link ?? null);
  }

  #row(name) {
    const cells = COLUMNS.map(([, kind]) => make("td", { class: kind, role: "gridcell" }));
    const element = make("tr", { tabindex: "-1", "aria-selected": "false", "data-link": name }, ...cells);
    return { element, cells, link: null };
  }

  #draw(row, link) {
    row.link = link;
    const { rtt_ns, error_ns } = link;
    const isDown = ["stale", "missing"].includes(link.state);
    const texts = [titleOf(link), stateOf(link), roundTrip(link), duration(rtt_ns.lldp_echo), duration(error_ns.lldp_echo),
      duration(rtt_ns.bounce), duration(rtt_ns.kernel)];
    row.cells.forEach((cell, index) => setText(cell, texts[index]));
    row.cells[1].className = `left ${isDown ? "down" : "up"}`;
  }

  #key(event) {
    const rows = [...this.#body.children];
    const at = rows.indexOf(event.target.closest("tr"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, " ": at }[event.key];
    const row = rows[to];
    if (!row) return;
    event.preventDefault();
    this.choose(row.dataset.link);
    row.focus();
    if (event.key === "Enter") document.getElementById("detail-title")?.focus();
  }
}
