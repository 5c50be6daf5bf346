// What the colours of the matrix mean.

import { make } from "/web/dom.js";
import { duration } from "/web/format.js";
import { delay } from "./cells.js";
import { ALL_LOST, AMOUNTS, ARROWS, DIRECTIONS, hatch } from "./paint.js";

const [WIDTH, HEIGHT] = [120, 12];

function swatch(width, draw) {
  const canvas = make("canvas", { width, height: HEIGHT, "aria-hidden": "true" });
  draw(canvas.getContext("2d"));
  return canvas;
}

function strip(levels, colours) {
  return swatch(WIDTH, (context) => {
    for (let x = 0; x < WIDTH; x += 1) {
      context.fillStyle = `rgb(${colours[levels[Math.floor((x * levels.length) / WIDTH)]].join()})`;
      context.fillRect(x, 0, 1, HEIGHT);
    }
  });
}

const one = (level, colours) => swatch(HEIGHT, (context) => {
  context.fillStyle = `rgb(${colours[level].join()})`;
  context.fillRect(0, 0, HEIGHT, HEIGHT);
});

export function showLegend(place, { metric, range, colours }) {
  const parts = [];
  if (metric === "loss") {
    parts.push(make("span", {}, one(0, colours), "none"));
    DIRECTIONS.forEach((direction, index) => {
      const levels = Array.from({ length: AMOUNTS }, (_, amount) => 1 + 3 * amount + index);
      parts.push(make("span", {}, `${ARROWS[direction]} ${direction}, some`, strip(levels, colours), "all"));
    });
  } else {
    const levels = Array.from({ length: ALL_LOST }, (_, level) => level);
    parts.push(make("span", {}, duration(delay(range[0])), strip(levels, colours), duration(delay(range[1]))));
    parts.push(make("span", {}, one(ALL_LOST, colours), "all lost"));
    parts.push(make("span", {}, "→ ← ● some lost: forward, backward, unknown"));
  }
  const blank = swatch(HEIGHT * 2, (context) => {
    context.fillStyle = hatch(context);
    context.fillRect(0, 0, HEIGHT * 2, HEIGHT);
  });
  parts.push(make("span", {}, blank, "no data: cells fade as they age, and are gone after three windows"));
  place.replaceChildren(...parts);
}
