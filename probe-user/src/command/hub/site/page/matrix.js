// The matrix on a canvas: rows probe columns. It can be zoomed, moved, and walked through with keys.

import { make } from "/web/dom.js";
import { colour } from "/web/plots.js";
import { arrange } from "./order.js";
import { hatch, palette, pixels } from "./paint.js";
import { rangeOf, shadesOf } from "./shades.js";

const FONT = "11px system-ui, sans-serif";
/** Sizes in pixels: of a label with its gap, of the largest cell when all are shown, and of the largest at all. */
const LABEL = 13;
const MAX_FIT = 34;
const MAX_SCALE = 48;
/** Smaller cells have no marks and no hatching. */
const MIN_MARKED = 7;
/** A pointer that moves less than this clicks. */
const CLICK = 5;

const bound = (value, low, high) => Math.max(low, Math.min(high, value));

export class MatrixView {
  #cells;
  #canvas = make("canvas", {
    tabindex: "0", role: "application", "aria-roledescription": "matrix", "aria-describedby": "about",
    "aria-label": "Matrix of all hosts. Arrow keys move from cell to cell, Enter opens the pair, plus and minus zoom.",
  });
  #context = this.#canvas.getContext("2d");
  #image = document.createElement("canvas");
  #place;
  #act;
  #metric = "p99";
  #by = "name";
  #order = new Uint16Array(0);
  #groups = [];
  /** The place of a host in the order. */
  #rank = [];
  /** Codes of the fastest and the slowest colour. */
  #range = [0, 1];
  #paint = null;
  /** Of each place. */
  #shades = new Int16Array(0);
  #isDrawn = true;
  #isRastered = false;
  /** Pixels of a cell; the first row and column shown, which may be parts; and the picture's sizes in pixels. */
  #view = { scale: 0, fit: 0, x: 0, y: 0, left: 0, top: 0, side: 0, width: 0, height: 0, ratio: 1 };
  /** Hosts of the cell that is pointed at, and of the pair that is open. */
  #cursor = null;
  #chosen = null;
  #pointers = new Map();
  #moved = 0;

  /** `act.onPoint(from, to)` gets the cell that is pointed at, `act.onChoose(from, to)` the one that is opened. */
  constructor(place, cells, act) {
    this.#place = place;
    this.#cells = cells;
    this.#act = act;
    place.append(this.#canvas);
    const on = (kind, listener) => this.#canvas.addEventListener(kind, listener);
    on("keydown", (event) => this.#key(event));
    on("pointerdown", (event) => this.#press(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#release(event));
    on("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    on("wheel", (event) => this.#wheel(event));
    on("focus", () => this.#cursor ?? (this.#order.length && this.point(this.#order[0], this.#order[0])));
    new ResizeObserver(() => this.#layout()).observe(place);
  }

  /** The colours and the codes at both ends of the scale. */
  get scale() {
    return { metric: this.#metric, range: this.#range, colours: this.#paint?.colours ?? [] };
  }

  set metric(metric) {
    this.#metric = metric;
    this.repaint();
    if (this.#by === "worst") this.arrange();
  }

  set by(by) {
    this.#by = by;
    this.arrange();
  }

  /** Puts the hosts in order; by worst, as they are now. */
  arrange() {
    this.#shade();
    const { order, groups } = arrange(this.#cells.hosts, this.#by, this.#shades);
    const isOther = order.length !== this.#order.length;
    [this.#order, this.#groups] = [Uint16Array.from(order), groups];
    this.#rank = [];
    order.forEach((host, rank) => (this.#rank[host] = rank));
    if (isOther) [this.#cursor, this.#chosen, this.#view.scale] = [null, null, 0];
    this.#layout();
  }

  /** Other colours: of another metric, or in the dark. */
  repaint() {
    const colours = palette(this.#metric);
    this.#paint = { colours, pixels: pixels(colours), hatch: hatch(this.#context) };
    this.update();
  }

  /** Draws new data. */
  update() {
    if (!this.#paint) return this.repaint();
    this.#shade();
    this.draw();
  }

  #shade() {
    if (this.#metric !== "loss") this.#range = rangeOf(this.#cells, this.#metric) ?? this.#range;
    if (this.#shades.length !== this.#cells.at.length) this.#shades = new Int16Array(this.#cells.at.length);
    shadesOf(this.#cells, this.#metric, this.#range, this.#shades);
    this.#isRastered = false;
  }

  point(from, to) {
    this.#cursor = { from, to };
    this.#show(from, to);
    this.#act.onPoint(from, to);
    this.#later();
  }

  mark(from, to) {
    this.#chosen = { from, to };
    this.#later();
  }

  /** One pixel for each cell; for several cells if they are smaller than a pixel: the worst of them. */
  #raster() {
    const { scale, ratio } = this.#view;
    const order = this.#order;
    const number = order.length;
    const several = Math.max(1, Math.ceil(1 / (scale * ratio) - 0.01));
    if (this.#isRastered === several) return;
    this.#isRastered = several;
    const size = Math.ceil(number / several);
    if (this.#image.width !== size) this.#image.width = this.#image.height = size;
    const worst = new Int16Array(size * size).fill(-1);
    const shades = this.#shades;
    for (let row = 0; row < number; row += 1) {
      const begin = order[row] * number;
      const out = Math.floor(row / several) * size;
      for (let column = 0; column < number; column += 1) {
        const shade = shades[begin + order[column]];
        const pixel = out + Math.floor(column / several);
        if (shade > worst[pixel]) worst[pixel] = shade;
      }
    }
    const context = this.#image.getContext("2d");
    const image = context.createImageData(size, size);
    const target = new Uint32Array(image.data.buffer);
    const { pixels } = this.#paint;
    for (let pixel = 0; pixel < target.length; pixel += 1) {
      if (worst[pixel] >= 0) target[pixel] = pixels[worst[pixel]];
    }
    context.putImageData(image, 0, 0);
  }

  #layout() {
    const number = this.#order.length;
    const room = this.#place.clientWidth;
    if (!number || !room) return;
    const view = this.#view;
    const context = this.#context;
    context.font = FONT;
    const texts = [...this.#cells.hosts.map(({ name }) => name), ...this.#groups.map(({ label }) => label)];
    const longest = texts.reduce((longest, text) => (text.length > longest.length ? text : longest), "");
    const margin = Math.ceil(Math.min(context.measureText(`× ${longest}`).width, room < 500 ? 78 : 150)) + 8;
    const wasFit = !view.scale || view.scale === view.fit;
    view.ratio = window.devicePixelRatio || 1;
    view.left = view.top = margin;
    const most = Math.max(260, Math.min(room - margin - 1, window.innerHeight * 0.85, 1100));
    view.fit = Math.min(most / number, MAX_FIT);
    view.side = Math.round(view.fit * number);
    [view.width, view.height] = [margin + view.side + 1, margin + view.side + 1];
    if (wasFit) view.scale = view.fit;
    this.#canvas.width = Math.round(view.width * view.ratio);
    this.#canvas.height = Math.round(view.height * view.ratio);
    this.#canvas.style.width = `${view.width}px`;
    this.#canvas.style.height = `${view.height}px`;
    this.#zoom(1);
    this.draw();
  }

  /** Draws with the next frame, once. */
  #later() {
    if (!this.#isDrawn) return;
    this.#isDrawn = false;
    setTimeout(() => this.#isDrawn || this.draw(), 0);
  }

  draw() {
    this.#isDrawn = true;
    const { scale, x, y, left, top, side, width, height, ratio } = this.#view;
    if (!this.#order.length || !scale || !this.#paint || !this.#cells.head) return;
    this.#raster();
    const context = this.#context;
    const several = this.#isRastered;
    const span = side / scale;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.save();
    context.beginPath();
    context.rect(left, top, side, side);
    context.clip();
    context.fillStyle = scale >= MIN_MARKED ? this.#paint.hatch : colour("panel");
    context.fillRect(left, top, side, side);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#image, x / several, y / several, span / several, span / several, left, top, side, side);
    this.#diagonal();
    if (scale >= MIN_MARKED) this.#cellLines();
    this.#groupLines();
    if (scale >= MIN_MARKED) this.#marks();
    this.#rings();
    context.restore();
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.strokeRect(left - 0.5, top - 0.5, side + 1, side + 1);
    this.#labels();
  }

  /** Ranks that are shown, at least in part. */
  #shown(offset) {
    const { scale, side } = this.#view;
    return [Math.max(0, Math.floor(offset)), Math.min(this.#order.length, Math.ceil(offset + side / scale))];
  }

  #left(column) {
    return this.#view.left + (column - this.#view.x) * this.#view.scale;
  }

  #top(row) {
    return this.#view.top + (row - this.#view.y) * this.#view.scale;
  }

  /** No host probes itself. */
  #diagonal() {
    const { scale, x } = this.#view;
    const [begin, end] = this.#shown(x);
    this.#context.fillStyle = colour("line");
    for (let rank = begin; rank < end; rank += 1) {
      this.#context.fillRect(this.#left(rank), this.#top(rank), Math.max(1, scale), Math.max(1, scale));
    }
  }

  #lines(ranks, style, thickness) {
    const { left, top, side } = this.#view;
    const context = this.#context;
    context.strokeStyle = style;
    context.lineWidth = thickness;
    context.beginPath();
    for (const rank of ranks) {
      const [column, row] = [Math.round(this.#left(rank)) + 0.5, Math.round(this.#top(rank)) + 0.5];
      context.moveTo(column, top);
      context.lineTo(column, top + side);
      context.moveTo(left, row);
      context.lineTo(left + side, row);
    }
    context.stroke();
  }

  #cellLines() {
    const first = Math.floor(Math.min(this.#view.x, this.#view.y));
    const last = Math.ceil(Math.max(this.#view.x, this.#view.y) + this.#view.side / this.#view.scale);
    this.#lines(Array.from({ length: last - first + 1 }, (_, index) => first + index), colour("back"), 1);
  }

  #groupLines() {
    this.#lines(this.#groups.slice(1).map(({ begin }) => begin), colour("text"), 1);
  }

  /** Arrows in cells with loss: by their shape, the direction is seen without colours. */
  #marks() {
    const { scale, x, y } = this.#view;
    const number = this.#order.length;
    const cells = this.#cells;
    const context = this.#context;
    const size = bound(scale * 0.36, 3, 8);
    context.fillStyle = colour("text");
    context.strokeStyle = colour("back");
    context.lineWidth = 2;
    context.beginPath();
    const [firstRow, lastRow] = this.#shown(y);
    const [firstColumn, lastColumn] = this.#shown(x);
    for (let row = firstRow; row < lastRow; row += 1) {
      for (let column = firstColumn; column < lastColumn; column += 1) {
        const place = this.#order[row] * number + this.#order[column];
        const silent = cells.silent.get(place);
        if (!silent && cells.isOld(place)) continue;
        const isLost = (direction) => silent === direction || cells[direction][place];
        const [centre, middle] = [this.#left(column) + scale / 2, this.#top(row) + scale / 2];
        const arrow = (sign) => {
          context.moveTo(centre + sign * size * 1.2, middle);
          context.lineTo(centre + sign * 0.15 * size, middle - size);
          context.lineTo(centre + sign * 0.15 * size, middle + size);
          context.closePath();
        };
        if (isLost("forward")) arrow(1);
        if (isLost("backward")) arrow(-1);
        if (isLost("unknown")) {
          context.moveTo(centre + size * 0.7, middle);
          context.arc(centre, middle, size * 0.7, 0, 2 * Math.PI);
        }
      }
    }
    context.stroke();
    context.fill();
  }

  /** Frames around pairs that are silent, the open pair, and the cell that is pointed at. */
  #rings() {
    const { scale, left, top, side } = this.#view;
    const context = this.#context;
    const number = this.#order.length;
    const frame = (from, to, style, thickness, least) => {
      const size = Math.max(scale, least);
      const grow = (size - scale) / 2;
      context.strokeStyle = style;
      context.lineWidth = thickness;
      context.strokeRect(this.#left(this.#rank[to]) - grow, this.#top(this.#rank[from]) - grow, size, size);
    };
    for (const place of this.#cells.silent.keys()) {
      frame(Math.floor(place / number), place % number, colour("vermillion"), 2, 7);
    }
    if (this.#chosen) frame(this.#chosen.from, this.#chosen.to, colour("blue"), 3, 9);
    if (!this.#cursor) return;
    const { from, to } = this.#cursor;
    const [column, row] = [this.#left(this.#rank[to]), this.#top(this.#rank[from])];
    context.globalAlpha = 0.18;
    context.fillStyle = colour("text");
    context.fillRect(left, row, side, Math.max(1, scale));
    context.fillRect(column, top, Math.max(1, scale), side);
    context.globalAlpha = 1;
    frame(from, to, colour("text"), 2, 7);
  }

  #labels() {
    const { scale, x, y, left, top, side } = this.#view;
    const context = this.#context;
    context.font = FONT;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const draw = (text, at, isRow, style) => {
      context.fillStyle = style;
      context.save();
      if (isRow) context.translate(left - 5, at);
      else {
        context.translate(at, top - 5);
        context.rotate(Math.PI / 2);
      }
      context.fillText(cut(context, text, left - 10), 0, 0);
      context.restore();
    };
    const [plain, down, current] = [colour("faint"), colour("vermillion"), colour("text")];
    for (const [isRow, offset, begin] of [[true, y, top], [false, x, left]]) {
      const at = (rank) => begin + (rank - offset) * scale;
      const isInside = (place) => place >= begin && place <= begin + side;
      const pointed = this.#cursor && this.#rank[isRow ? this.#cursor.from : this.#cursor.to];
      // The label of the cell that is pointed at comes first, and others keep away from it.
      const taken = [];
      const put = (rank, text, place, style) => {
        if (!isInside(place) || taken.some((other) => Math.abs(other - place) < LABEL)) return;
        taken.push(place);
        draw(text, place, isRow, style);
      };
      const host = (rank, style) => {
        const { name } = this.#cells.hosts[this.#order[rank]];
        const isDown = this.#cells.down.has(this.#order[rank]);
        put(rank, isDown ? `× ${name}` : name, at(rank + 0.5), style ?? (isDown ? down : plain));
      };
      if (this.#cursor) host(pointed, current);
      const isOfGroups = this.#groups.length > 1 && scale < LABEL;
      if (isOfGroups) {
        for (const { label, begin, end } of this.#groups) {
          const [first, last] = [Math.max(begin, offset), Math.min(end, offset + side / scale)];
          if (first < last) put(begin, label || "none", at((first + last) / 2), plain);
        }
        continue;
      }
      const step = Math.ceil(LABEL / scale);
      const [first, last] = this.#shown(offset);
      for (let rank = Math.ceil(first / step) * step; rank < last; rank += step) host(rank);
    }
  }

  /** Zooms by a factor, around a point of the canvas. */
  #zoom(factor, atX = this.#view.left + this.#view.side / 2, atY = this.#view.top + this.#view.side / 2) {
    const view = this.#view;
    const [column, row] = [view.x + (atX - view.left) / view.scale, view.y + (atY - view.top) / view.scale];
    view.scale = bound(view.scale * factor, view.fit, Math.max(view.fit, MAX_SCALE));
    this.#moveTo(column - (atX - view.left) / view.scale, row - (atY - view.top) / view.scale);
  }

  #moveTo(x, y) {
    const view = this.#view;
    const most = Math.max(0, this.#order.length - view.side / view.scale);
    [view.x, view.y] = [bound(x, 0, most), bound(y, 0, most)];
    this.#place.classList.toggle("is-close", view.scale > view.fit);
    this.#later();
  }

  zoom(factor) {
    const cursor = this.#cursor;
    const { scale } = this.#view;
    const middle = (rank, place) => place(rank) + scale / 2;
    if (!cursor) return this.#zoom(factor);
    const [atX, atY] = [middle(this.#rank[cursor.to], (rank) => this.#left(rank)), middle(this.#rank[cursor.from], (rank) => this.#top(rank))];
    this.#zoom(factor, atX, atY);
    this.#show(cursor.from, cursor.to);
  }

  fit() {
    this.#view.scale = this.#view.fit;
    this.#moveTo(0, 0);
  }

  /** Moves so that a cell is seen. */
  #show(from, to) {
    const view = this.#view;
    const span = view.side / view.scale;
    const near = (offset, rank) => bound(offset, rank + 1 - span, rank);
    this.#moveTo(near(view.x, this.#rank[to]), near(view.y, this.#rank[from]));
  }

  #cellAt({ offsetX, offsetY }) {
    const { left, top, side, scale, x, y } = this.#view;
    const [column, row] = [(offsetX - left) / scale + x, (offsetY - top) / scale + y];
    const isInside = offsetX >= left && offsetY >= top && offsetX < left + side && offsetY < top + side;
    const [from, to] = [this.#order[Math.floor(row)], this.#order[Math.floor(column)]];
    return isInside && from !== undefined && to !== undefined ? { from, to } : null;
  }

  #press(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.#pointers.size === 1) this.#moved = 0;
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      const cell = this.#cellAt(event);
      const isOther = cell && (cell.from !== this.#cursor?.from || cell.to !== this.#cursor?.to);
      if (isOther && event.pointerType === "mouse") this.point(cell.from, cell.to);
      return;
    }
    const now = [event.offsetX, event.offsetY];
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
    this.#moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    this.#pointers.set(event.pointerId, now);
    if (other) this.#zoom(apart(now) / Math.max(1, apart(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    const { x, y, scale } = this.#view;
    const share = other ? 2 : 1;
    this.#moveTo(x - (now[0] - before[0]) / scale / share, y - (now[1] - before[1]) / scale / share);
  }

  #release(event) {
    const isClick = this.#pointers.size === 1 && this.#moved < CLICK;
    this.#pointers.delete(event.pointerId);
    const cell = isClick && this.#cellAt(event);
    if (!cell) return;
    this.point(cell.from, cell.to);
    this.#act.onChoose(cell.from, cell.to);
  }

  #wheel(event) {
    // Otherwise the page is scrolled.
    if (!event.ctrlKey && this.#view.scale === this.#view.fit) return;
    event.preventDefault();
    this.#zoom(2 ** (-event.deltaY / 200), event.offsetX, event.offsetY);
  }

  #key(event) {
    if (!this.#cursor || event.altKey || event.metaKey || event.ctrlKey) return;
    const [row, column] = [this.#rank[this.#cursor.from], this.#rank[this.#cursor.to]];
    const last = this.#order.length - 1;
    const to = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      PageUp: [row - 10, column], PageDown: [row + 10, column], Home: [row, 0], End: [row, last],
    }[event.key];
    const act = {
      "+": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => this.fit(),
      Enter: () => this.#act.onChoose(this.#cursor.from, this.#cursor.to),
    }[event.key];
    if (!to && !act) return;
    event.preventDefault();
    if (act) act();
    else this.point(...to.map((rank) => this.#order[bound(rank, 0, last)]));
  }
}

/** A text, or its beginning if it is wider than `most`. */
function cut(context, text, most) {
  if (context.measureText(text).width <= most) return text;
  let end = text.length - 1;
  while (end > 1 && context.measureText(`${text.slice(0, end)}…`).width > most) end -= 1;
  return `${text.slice(0, end)}…`;
}
