// The table of links.

import { setText } from "/web/dom.js";
import { duration } from "/web/format.js";
import { Grid } from "/web/grid.js";

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
  #rows = new Map();
  #grid;

  constructor(place, onChoose) {
    this.#grid = new Grid(place, "links-title", COLUMNS, (row) => onChoose(row?.link ?? null));
  }

  /** All links of a report. */
  show(links) {
    const before = this.#rows;
    this.#rows = new Map(links.map((link) => {
      const name = nameOf(link);
      const row = before.get(name) ?? this.#grid.row({ name });
      this.#draw(row, link);
      return [name, row];
    }));
    this.#grid.show([...this.#rows.values()]);
    if (!this.#rows.has(this.#grid.chosen?.name)) this.#grid.choose(this.#rows.values().next().value);
  }

  choose(name) {
    this.#grid.choose(this.#rows.get(name));
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
}
