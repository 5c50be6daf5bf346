// What each cell is painted with. All cells at once, in plain loops: there may be a million.

import { ALL_LOST, AMOUNTS, FADES } from "./paint.js";

/** Between the fastest and the slowest colour there is this factor at least, in steps of a delay's code. */
const MIN_SPAN = 1024;
const MAX_SHARE = 255;

/** The codes of the fastest and the slowest colour: without the hundredth of all cells at each end. */
export function rangeOf({ at, life, now, ...columns }, metric) {
  const codes = columns[metric];
  const counts = new Uint32Array(4096);
  let all = 0;
  for (let place = 0; place < codes.length; place += 1) {
    const code = codes[place];
    if (code !== 0 && now - at[place] <= life[place]) {
      counts[code >> 4] += 1;
      all += 1;
    }
  }
  if (!all) return null;
  const reached = (share) => {
    let left = share * all;
    return 16 * counts.findIndex((count) => (left -= count) <= 0);
  };
  const [low, high] = [reached(0.01), reached(0.99)];
  const missing = Math.max(0, MIN_SPAN - (high - low)) / 2;
  return [low - missing, high + missing];
}

/**
 * Sets the shade of each place, -1 without data: `level * FADES + (FADES - 1 - fade)`, so the greatest is the worst, and of these the
 * newest. For half of its life a cell does not fade: its next window is not late.
 */
export function shadesOf({ at, life, now, p50, p99, forward, backward, unknown }, metric, range, shades) {
  const isLoss = metric === "loss";
  const codes = metric === "p50" ? p50 : p99;
  const ofDelay = shadesOfDelays(range);
  const ofShare = Int16Array.from({ length: MAX_SHARE + 1 }, (_, code) => newest(code && 1 + 3 * Math.round((code * (AMOUNTS - 1)) / MAX_SHARE)));
  for (let place = 0; place < shades.length; place += 1) {
    const age = now - at[place];
    const lasts = life[place];
    let shade = -1;
    if (age <= lasts) {
      const to = forward[place];
      const back = backward[place];
      const lost = unknown[place];
      const most = to > back ? (to > lost ? to : lost) : back > lost ? back : lost;
      if (isLoss) shade = ofShare[most] + (most === 0 || most === to ? 0 : most === back ? FADES : 2 * FADES);
      else if (codes[place] !== 0) shade = ofDelay[codes[place]];
      else if (most !== 0) shade = newest(ALL_LOST);
      const late = 2 * age - lasts;
      if (late > 0 && shade >= 0) shade -= Math.min(FADES - 1, 1 + Math.floor(((FADES - 1) * late) / (lasts + 1)));
    }
    shades[place] = shade;
  }
}

/** The shade of a level that does not fade. */
const newest = (level) => level * FADES + FADES - 1;

/** A shade for each code of a delay. */
function shadesOfDelays([low, high]) {
  const factor = (ALL_LOST - 1) / (high - low);
  return Int16Array.from({ length: 65536 }, (_, code) => newest(Math.max(0, Math.min(ALL_LOST - 1, Math.round((code - low) * factor)))));
}
