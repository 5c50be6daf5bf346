// Colours of cells. The brightness grows or falls all along a scale, so it is read without colours, too.

import { colour } from "/web/plots.js";

/** Levels of a cell: 0 to 254, and one whose probes were all lost. */
const LEVELS = 255;
export const ALL_LOST = 255;
/** Steps in which a cell fades as it ages. */
export const FADES = 4;
const ALPHA = [255, 190, 125, 70];

/** From fast to slow: away from the background. */
const RAMPS = {
  light: ["#d9e9f4", "#8dbbdc", "#4a85b9", "#3d4f97", "#2a1a55"],
  dark: ["#20344a", "#2f628f", "#5f93b0", "#c0c67c", "#ffe97a"],
};
/** Amounts of loss, each of three directions: the level is `1 + 3 * amount + direction`. */
export const AMOUNTS = 84;
export const DIRECTIONS = ["forward", "backward", "unknown"];
export const DIRECTION_COLOURS = { forward: "orange", backward: "blue", unknown: "grey" };
export const ARROWS = { forward: "→", backward: "←", unknown: "?" };

const parse = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const mix = (from, to, share) => from.map((value, index) => Math.round(value + (to[index] - value) * share));

export const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

/** A colour for each level of a metric. */
export function palette(metric) {
  const stops = RAMPS[isDark() ? "dark" : "light"].map(parse);
  const [back, lost] = [colour("back"), colour("vermillion")].map(parse);
  const calm = mix(back, parse(colour("grey")), 0.18);
  return Array.from({ length: LEVELS + 1 }, (_, level) => {
    if (level === ALL_LOST) return lost;
    if (metric === "loss") {
      if (level === 0) return calm;
      const amount = Math.floor((level - 1) / 3);
      const name = DIRECTION_COLOURS[DIRECTIONS[(level - 1) % 3]];
      return mix(back, parse(colour(name)), 0.4 + (0.6 * amount) / (AMOUNTS - 1));
    }
    const at = (level / (LEVELS - 1)) * (stops.length - 1);
    const index = Math.min(stops.length - 2, Math.floor(at));
    return mix(stops[index], stops[index + 1], at - index);
  });
}

/** The palette in each state of fading, as pixels: the index is `level * FADES + (FADES - 1 - fade)`. */
export function pixels(colours) {
  const bytes = new Uint8ClampedArray(colours.length * FADES * 4);
  colours.forEach((rgb, level) => ALPHA.forEach((alpha, fade) => {
    bytes.set([...rgb, alpha], 4 * (level * FADES + (FADES - 1 - fade)));
  }));
  return new Uint32Array(bytes.buffer);
}

/** A pattern for cells without data. */
export function hatch(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const draw = tile.getContext("2d");
  draw.fillStyle = colour("back");
  draw.fillRect(0, 0, 6, 6);
  draw.strokeStyle = colour("grid");
  draw.beginPath();
  for (const at of [-6, 0, 6]) {
    draw.moveTo(at, 6);
    draw.lineTo(at + 6, 0);
  }
  draw.stroke();
  return context.createPattern(tile, "repeat");
}
