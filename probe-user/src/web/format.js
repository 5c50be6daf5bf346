// Numbers and times as people read them.

const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];

/** A duration in nanoseconds with three digits: `161 µs`. */
export function duration(ns) {
  if (ns === null || ns === undefined || Number.isNaN(ns)) return "–";
  const size = Math.abs(ns);
  const [factor, unit] = UNITS.find(([factor]) => size >= factor * 0.9995) ?? UNITS[3];
  const value = ns / factor;
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 1))));
  return `${value.toFixed(unit === "ns" ? 0 : digits)} ${unit}`;
}

/** A long time in words: `3 min`. */
export function age(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

/** A share, or nothing of nothing. */
export function percent(part, all) {
  if (!all) return "–";
  if (!part) return "0 %";
  const share = (100 * part) / all;
  return `${share < 0.01 ? "< 0.01" : share.toFixed(share < 10 ? 2 : 1)} %`;
}

const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DATE = new Intl.DateTimeFormat([], { month: "short", day: "numeric" });

/** Seconds since 1970 of a time of RFC 3339. */
export function seconds(text) {
  return Date.parse(text) / 1000;
}

/** `10:10:38`, of another day with its date. */
export function time(text) {
  const date = new Date(text);
  const isToday = new Date().toDateString() === date.toDateString();
  return isToday ? CLOCK.format(date) : `${DATE.format(date)} ${CLOCK.format(date)}`;
}
