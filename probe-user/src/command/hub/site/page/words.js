// Cells in words.

import { age, duration } from "/web/format.js";
import { ARROWS, DIRECTIONS } from "./paint.js";

/** Losses by direction, each a share from 0 to 1: `10 % →, 1.2 % ←`. */
export function lossText(loss) {
  const parts = DIRECTIONS.filter((direction) => loss[direction] > 0).map((direction) => {
    const percent = 100 * loss[direction];
    return `${percent < 0.1 ? "< 0.1" : percent.toFixed(percent < 9.95 ? 1 : 0)} % ${ARROWS[direction]}`;
  });
  return parts.length ? parts.join(", ") : "0 %";
}

/** One cell in a sentence. */
export function describe(cells, from, to) {
  const named = (host) => {
    const { name, zone, rack } = cells.hosts[host];
    const place = [zone, rack].filter(Boolean).join(" ");
    return `${name}${place ? ` (${place})` : ""}${cells.down.has(host) ? ", down" : ""}`;
  };
  if (from === to) return `${named(from)} does not probe itself.`;
  const cell = cells.of(from, to);
  const ends = `${named(from)} → ${named(to)}`;
  if (!cell) return `${ends}: no data.`;
  const silent = cell.silent ? ` No answer: lost ${cell.silent === "unknown" ? "in an unknown direction" : cell.silent}.` : "";
  if (cell.isOld) return `${ends}: no data for ${age(cell.age_s)}.${silent}`;
  const delays = cell.p50 === null ? "no reply" : `median ${duration(cell.p50)}, 99 % ${duration(cell.p99)}`;
  return `${ends}: ${delays}, lost ${lossText(cell)}, ${age(cell.age_s)} ago.${silent}`;
}
