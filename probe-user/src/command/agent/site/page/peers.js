// The table of peers: one row for each peer and path, from its last windows.

import { make, setText } from "/web/dom.js";
import { duration, percent } from "/web/format.js";
import { Grid } from "/web/grid.js";
import { colour, sparkline } from "/web/plots.js";

const MAX_RECENT = 60;
/** Heading, class, and what it means. */
const COLUMNS = [
  ["Peer", "left", "Name and address"],
  ["State", "left", "Whether it answers"],
  ["Path", "left wide", "How it is probed"],
  ["Sent", "wide", "Probes in the last windows, as many as the trend shows"],
  ["Lost", "", "Of these: share, then forward → and backward ←, ? of unknown direction"],
  ["Median", "", "Round-trip time of the last window: half of the replies were faster"],
  ["99 %", "wide", "Round-trip time of the last window: 99 % of the replies were faster"],
  ["Jitter", "wide", "99 % less the minimum of the last window (RFC 5481: PDV)"],
  ["Trend", "wide", "Median of the last windows; marks below are windows with loss"],
];

const sum = (list) => list.reduce((all, value) => all + value, 0);
const last = (list) => list[list.length - 1];

export class Peers {
  /** By peer and path. */
  #rows = new Map();
  /** Peers without a window have a row of the path unicast. */
  #peers = new Map();
  #grid;

  constructor(place, onChoose) {
    this.#grid = new Grid(place, "peers-title", COLUMNS, (row) => {
      if (row) onChoose({ peer: row.peer, path: row.path }, this.#peers.get(row.peer)?.peer_name);
    });
  }

  get number() {
    return this.#peers.size;
  }

  /** The peers of the API. */
  load(list) {
    this.#peers = new Map(list.map((peer) => [peer.peer, peer]));
    const before = this.#rows;
    this.#rows = new Map();
    for (const peer of list) {
      const paths = peer.paths.length ? peer.paths : [{ path: "unicast", recent: null }];
      for (const { path, recent } of paths) {
        const key = `${peer.peer} ${path}`;
        const row = before.get(key) ?? this.#row(peer.peer, path);
        row.recent = recent ?? { end: [] };
        row.isNew = true;
        this.#rows.set(key, row);
      }
    }
    this.#grid.show([...this.#rows.values()]);
  }

  /** The record `peer`. */
  changed(record) {
    const peer = this.#peers.get(record.peer) ?? { peer: record.peer, peer_name: null };
    peer.state = record.event === "down" ? "down" : "up";
    peer.peer_name = record.name ?? peer.peer_name;
    this.#peers.set(record.peer, peer);
    const rows = [...this.#rows.values()].filter((row) => row.peer === record.peer);
    if (!rows.length) rows.push(this.#add(record.peer, "unicast"));
    rows.forEach((row) => (row.isNew = true));
  }

  /** The record `window`. The last one of a peer that is gone comes after the record that says so, and is left out. */
  window(record) {
    const peer = this.#peers.get(record.peer);
    if (!peer) return;
    peer.peer_name = record.peer_name ?? peer.peer_name ?? null;
    const row = this.#rows.get(`${record.peer} ${record.path}`) ?? this.#add(record.peer, record.path);
    const recent = row.recent;
    if (last(recent.end) === record.end) return;
    const values = {
      end: record.end, sent: record.sent, lost: record.lost, lost_forward: record.lost_forward,
      lost_backward: record.lost_backward, lost_unknown: record.lost_unknown, send_failed: record.send_failed,
      min_ns: record.rtt_ns?.min ?? null, p50_ns: record.rtt_ns?.p50 ?? null, p99_ns: record.rtt_ns?.p99 ?? null,
    };
    for (const [name, value] of Object.entries(values)) {
      recent[name] ??= [];
      recent[name].push(value);
      if (recent[name].length > MAX_RECENT) recent[name].shift();
    }
    row.isNew = true;
  }

  /** Chooses a peer and path, or the first if they are not there; false if there is none. */
  choose(peer, path) {
    const row = this.#rows.get(`${peer} ${path}`) ?? this.#rows.values().next().value;
    this.#grid.choose(row);
    return Boolean(row);
  }

  draw() {
    for (const row of this.#rows.values()) {
      if (row.isNew) this.#draw(row);
      row.isNew = false;
    }
  }

  /** Colours have changed. */
  repaint() {
    this.#rows.forEach((row) => {
      row.isNew = true;
      delete row.spark.dataset.line;
    });
    this.draw();
  }

  #add(peer, path) {
    const row = this.#row(peer, path);
    this.#rows.set(`${peer} ${path}`, row);
    this.#grid.show([...this.#rows.values()]);
    if (!this.#grid.chosen) this.#grid.choose(row);
    return row;
  }

  #row(peer, path) {
    const spark = make("canvas", { class: "spark", role: "img" });
    const [name, share] = [make("span"), make("span")];
    const address = make("span", { class: "address" });
    const split = make("span", { class: "split" });
    const row = this.#grid.row({ peer, path, recent: { end: [] }, name, address, share, split, spark, isNew: true });
    row.cells[0].append(name, address, make("span", { class: "address narrow" }, path));
    row.cells[4].append(share, " ", split);
    last(row.cells).append(spark);
    return row;
  }

  #draw(row) {
    const { cells, recent, spark } = row;
    const peer = this.#peers.get(row.peer) ?? {};
    setText(row.name, peer.peer_name || row.peer);
    setText(row.address, peer.peer_name ? row.peer : "");
    setText(cells[1], peer.state === "up" ? "▲ up" : "▼ down");
    cells[1].className = `left ${peer.state === "up" ? "up" : "down"}`;
    setText(cells[2], row.path);
    const number = recent.end.length;
    if (!number) {
      [cells[3], row.share, ...cells.slice(5, 8)].forEach((cell) => setText(cell, "–"));
      return;
    }
    const [sent, lost] = [sum(recent.sent), sum(recent.lost)];
    const [forward, backward, unknown] = [sum(recent.lost_forward), sum(recent.lost_backward), sum(recent.lost_unknown)];
    const directions = [[forward, "→"], [backward, "←"], [unknown, "?"]].filter(([count]) => count);
    setText(cells[3], String(sent));
    const split = directions.map(([count, sign]) => `${sign} ${count}`).join(" ");
    setText(row.share, percent(lost, sent));
    setText(row.split, split);
    cells[4].className = lost ? "lossy" : "";
    const [min, p50, p99] = [last(recent.min_ns), last(recent.p50_ns), last(recent.p99_ns)];
    setText(cells[5], duration(p50));
    setText(cells[6], duration(p99));
    setText(cells[7], duration(p99 === null ? null : p99 - min));
    spark.dataset.line ??= colour("blue");
    spark.dataset.loss = colour("vermillion");
    sparkline(spark, recent.p50_ns, recent.lost);
    const known = recent.p50_ns.filter((value) => value !== null);
    const range = known.length ? `from ${duration(Math.min(...known))} to ${duration(Math.max(...known))}` : "unknown";
    const lossy = recent.lost.filter(Boolean).length;
    spark.setAttribute("aria-label", `Median of the last ${number} windows: ${range}; ${lossy} windows with loss`);
  }
}
