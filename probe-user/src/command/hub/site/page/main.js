// The page of a hub: alerts, the matrix, one pair, one host, the worst pairs, and all hosts.

import { make, setText, showFacts, showState } from "/web/dom.js";
import { age, duration, time } from "/web/format.js";
import { Grid } from "/web/grid.js";
import { losses } from "/web/results.js";
import { get } from "/web/stream.js";
import { Cells } from "./cells.js";
import { showLegend } from "./legend.js";
import { MatrixView } from "./matrix.js";
import { ARROWS } from "./paint.js";
import { Pair } from "./pair.js";
import { describe, lossText } from "./words.js";

const POLL_MS = 2000;
/** Polls between two looks at what changes slowly. */
const SLOW = 5;
/** Time without an answer after which the page is stale. */
const STALE_S = 7;
/** Age of the newest window of all at which it is stale. */
const MAX_OLD_S = 60;
const NO_HOSTS = "No host yet. `kstamp hub enroll HOST` makes its credentials, with which its agent finds this hub.";

const byId = (id) => document.getElementById(id);
const page = { answered: performance.now(), isAnswered: false, error: null, polls: 0, zone: "", host: null, wanted: null };
const cells = new Cells();

const pair = new Pair(byId("pair"), (from, to) => openByName(from, to));
const view = new MatrixView(byId("matrix"), cells, {
  onPoint: (from, to) => setText(byId("about"), describe(cells, from, to)),
  onChoose: open,
});

const alerts = new Grid(byId("alerts"), "alerts-title", [
  ["Since", "left", "When it began"],
  ["Alert", "left", "What is wrong; of losses, where: → probes do not arrive, ← replies do not come back"],
  ["Where", "left wraps", "Ports or host"],
  ["", "left wraps wide", "More about it"],
], (row) => row?.alert.to && openByName(hostOf(row.alert.from), hostOf(row.alert.to)));
const row = new Grid(byId("row"), "row-title", [
  ["Host", "left", "The other host"],
  ["Median", "", "Round-trip time of the newest window: half of the replies were faster"],
  ["99 %", "", "Round-trip time of the newest window: 99 % of the replies were faster"],
  ["Lost", "", "Forward →, backward ←, ? of unknown direction"],
  ["Age", "wide", "Since the window ended"],
], (chosen) => chosen && open(...chosen.hosts));
const hosts = new Grid(byId("hosts"), "hosts-title", [
  ["Host", "left", "Name at its enrolment"],
  ["Zone", "left wide", "Label of its ports"],
  ["Rack", "left wide", "Label of its ports"],
  ["State", "left", "Whether heartbeats of its agents come"],
  ["Ports", "", "Measured ports"],
  ["Peers", "", "Peers that answer, of those that are probed"],
  ["Waiting", "wide", "Batches and events that wait for the hub"],
  ["Dropped", "wide", "Batches for which there was no room"],
  ["Version", "left wide", "Of the agent"],
], (chosen) => chosen && choose(cells.indexOf(chosen.host.name)));
const tops = [
  ["loss", "Most lost", "Highest loss in the newest window"],
  ["p99", "Slowest", "Highest 99 % in the newest window"],
].map(([by, title, meaning]) => {
  const place = make("div", { class: "scroll short", tabindex: "-1" });
  const heading = make("h3", { id: `top-${by}`, title: meaning }, title);
  byId("top").append(make("div", {}, heading, place));
  return { by, grid: new Grid(place, `top-${by}`, [["Pair", "left", "Ports"], ["Lost", "", meaning], ["99 %", "", meaning]],
    (chosen) => chosen && openByName(hostOf(chosen.pair.from), hostOf(chosen.pair.to))) };
});

const hostOf = (port) => port.split("/")[0];

/** Rows of each grid by the keys of their items. */
const shownRows = new Map();

/** Fills a grid. A row of the same key stays where it is. */
function fill(grid, items, key, texts) {
  const before = shownRows.get(grid);
  const rows = new Map(items.map((item) => {
    const shown = before?.get(key(item)) ?? grid.row({});
    const { classes = {}, ...properties } = texts(item);
    Object.assign(shown, properties);
    shown.cells.forEach((cell, index) => {
      setText(cell, properties.texts[index]);
      if (classes[index] !== undefined) cell.className = classes[index];
    });
    return [key(item), shown];
  }));
  shownRows.set(grid, rows);
  grid.show([...rows.values()]);
}

function open(from, to) {
  if (from < 0 || to < 0 || from === to) return;
  view.mark(from, to);
  choose(page.host === to && byId("row").dataset.side === "to" ? to : from, false);
  const [one, other] = [cells.hosts[from].name, cells.hosts[to].name];
  location.replace(`#${new URLSearchParams({ from: one, to: other })}`);
  pair.open(one, other);
}

function openByName(from, to) {
  const [one, other] = [cells.indexOf(from), cells.indexOf(to)];
  if (one < 0 || other < 0) return;
  view.point(one, other);
  open(one, other);
}

/** Shows one host as a table. */
function choose(host, isPointed = true) {
  if (host < 0) return;
  page.host = host;
  if (isPointed) view.point(host, cells.number > 1 && host === 0 ? 1 : 0);
  showRow();
}

function showRow() {
  const host = page.host;
  byId("no-row").hidden = host !== null;
  byId("row").hidden = host === null;
  if (host === null) return;
  const side = document.querySelector("input[name=side]:checked").value;
  byId("row").dataset.side = side;
  setText(byId("row-title"), `${side === "from" ? "From" : "To"} ${cells.hosts[host].name}`);
  const others = cells.hosts.map((_, index) => index).filter((index) => index !== host);
  const ends = (other) => (side === "from" ? [host, other] : [other, host]);
  const known = others.filter((other) => cells.of(...ends(other)));
  fill(row, known, (other) => cells.hosts[other].name, (other) => {
    const cell = cells.of(...ends(other));
    const { name } = cells.hosts[other];
    const isLossy = cell.silent || (!cell.isOld && cell.forward + cell.backward + cell.unknown > 0);
    const lost = cell.silent ? `no answer ${ARROWS[cell.silent]}` : cell.isOld ? "" : lossText(cell);
    const texts = cell.isOld ? [name, "no data", "", lost, age(cell.age_s)]
      : [name, duration(cell.p50), duration(cell.p99), lost, age(cell.age_s)];
    return { hosts: ends(other), texts, classes: { 3: isLossy ? "lossy" : "" } };
  });
}

function showHub() {
  const { hub } = cells.head;
  setText(byId("name"), `kstamp hub ${hub.name}`);
  showFacts(byId("facts"), [
    ["This hub", hub.coordinating ? "coordinates" : `stands by; ${hub.coordinator ?? "no hub"} coordinates`], ["NATS", hub.connected ? "connected" : "not connected"],
    ["Hosts", String(cells.head.hosts_in_all)], ["Ports", `${hub.ports_alive} of ${hub.ports} alive`],
    ["Newest window", hub.newest_age_ns === null ? "none yet" : `${age(hub.newest_age_ns / 1e9)} ago`],
    ["Batches taken", String(hub.batches)], ["Version", hub.version],
  ]);
}

/** The state of the page in words: it must never look alive when it is not. */
function followState() {
  const silent_s = (performance.now() - page.answered) / 1000;
  const hub = cells.head?.hub;
  let [state, text] = ["live", "Live"];
  if (!page.isAnswered) {
    [state, text] = ["connecting", page.error ? `No answer: ${page.error}` : "Connecting"];
  } else if (silent_s > STALE_S) {
    [state, text] = ["stale", `Stale: no answer for ${age(silent_s)}; trying again`];
  } else if (!hub.connected) {
    [state, text] = ["stale", "Stale: the hub has no connection to NATS"];
  } else if (hub.newest_age_ns !== null && hub.newest_age_ns / 1e9 > MAX_OLD_S) {
    [state, text] = ["stale", `Stale: no window for ${age(hub.newest_age_ns / 1e9)}`];
  }
  showState(byId("state"), state, text, `kstamp hub ${hub?.name ?? ""}`);
}

/** The zones that can be chosen, when there are too many hosts for one matrix. */
function showZones() {
  const { zones, hosts_in_all } = cells.head;
  const isCut = hosts_in_all > cells.number || page.zone !== "";
  byId("zones").hidden = !isCut || zones.length < 2;
  const select = byId("zone");
  if (select.dataset.filled === zones.join("\n")) return;
  select.dataset.filled = zones.join("\n");
  select.replaceChildren(make("option", { value: "" }, "all"), ...zones.map((zone) => make("option", { value: zone }, zone)));
  select.value = page.zone;
}

function takeHosts() {
  byId("names").replaceChildren(...cells.hosts.map(({ name }) => make("option", { value: name })));
  showZones();
  page.host = null;
  const { number, head } = cells;
  byId("no-matrix").hidden = number > 1 && number === head.hosts_in_all;
  setText(byId("no-matrix"), number === 0 ? NO_HOSTS : number === 1 ? "A single host has no other to probe."
    : `${number} of ${head.hosts_in_all} hosts are shown${page.zone ? ` (zone ${page.zone})` : ""}.`);
  view.arrange();
}

/** The pair that the address names. */
function followAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (wanted.has("from")) openByName(wanted.get("from"), wanted.get("to"));
}

async function loadCells() {
  const query = new URLSearchParams({ ...cells.query, ...(page.zone && { zone: page.zone }) });
  const reply = await fetch(`/api/v1/cells?${query}`);
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({}))).error ?? String(reply.status));
  const buffer = await reply.arrayBuffer();
  const begin = performance.now();
  const chosen = page.host !== null ? cells.hosts[page.host]?.name : null;
  const isNew = cells.take(buffer);
  if (isNew) takeHosts();
  view.update();
  if (isNew && chosen) choose(cells.indexOf(chosen), false);
  else showRow();
  showHub();
  showLegend(byId("legend"), view.scale);
  Object.assign(page, { answered: performance.now(), isAnswered: true, error: null });
  followState();
  performance.measure("update", { start: begin, end: performance.now() });
  if (isNew && !chosen) followAddress();
}

const KINDS = {
  silent: "no answer", host_down: "host down", loss: "loss", clock: "clock", name_conflict: "two hosts of one name",
  address_conflict: "one address twice", foreign_address: "address outside its prefixes", not_enrolled: "not enrolled",
  too_many_ports: "too many ports", bad_presence: "presence that cannot be read",
};

async function loadAlerts() {
  const { alerts: raised, more } = await get("/api/v1/alerts");
  byId("no-alerts").hidden = raised.length > 0 && !more;
  setText(byId("no-alerts"), more ? `${more} more are not shown.` : "None.");
  byId("alerts").hidden = raised.length === 0;
  fill(alerts, raised, ({ kind, from, to, port, host }) => [kind, from, to, port, host].join(), (alert) => ({
    alert,
    texts: [time(alert.since), `${KINDS[alert.kind] ?? alert.kind}${alert.direction ? ` ${ARROWS[alert.direction]} ${alert.direction}` : ""}`,
      alert.to ? `${alert.from} → ${alert.to}` : alert.port ?? alert.host, alert.text],
    classes: { 1: "left wraps down" },
  }));
}

async function loadSlow() {
  const [top, all] = await Promise.all([get("/api/v1/top"), get("/api/v1/hosts")]);
  for (const { by, grid } of tops) {
    fill(grid, top[by], ({ from, to }) => `${from} ${to}`, (item) => ({
      pair: item,
      texts: [`${item.from} → ${item.to}`, losses(item), duration(item.p99_ns)],
      classes: { 1: item.lost ? "lossy" : "" },
    }));
  }
  fill(hosts, all.hosts, ({ name }) => name, (host) => ({
    host,
    texts: [host.name, host.zone, host.rack, host.alive ? "▲ heard" : "▼ not heard", String(host.ports.length),
      `${host.up} of ${host.peers}`, String(host.waiting), String(host.dropped), host.version],
    classes: { 3: `left ${host.alive ? "up" : "down"}` },
  }));
}

async function poll() {
  try {
    await loadCells();
    await loadAlerts();
    if (page.polls % SLOW === 0) await loadSlow();
    page.polls += 1;
    pair.follow();
  } catch (error) {
    page.error = error.message;
    followState();
  }
}

let isPolling = false;

async function pollOnce() {
  if (isPolling || document.hidden) return;
  isPolling = true;
  await poll();
  isPolling = false;
}

for (const radio of document.querySelectorAll("input[name=metric]")) {
  radio.addEventListener("change", () => {
    view.metric = radio.value;
    showLegend(byId("legend"), view.scale);
  });
}
document.querySelectorAll("input[name=side]").forEach((radio) => radio.addEventListener("change", showRow));
byId("order").addEventListener("change", () => (view.by = byId("order").value));
byId("zone").addEventListener("change", () => {
  page.zone = byId("zone").value;
  pollOnce();
});
byId("search").addEventListener("change", () => {
  const name = byId("search").value.trim();
  if (name && cells.indexOf(name) < 0) setText(byId("about"), `No host ${name} is shown.`);
  choose(cells.indexOf(name));
});
byId("closer").addEventListener("click", () => view.zoom(1.6));
byId("farther").addEventListener("click", () => view.zoom(1 / 1.6));
byId("fit").addEventListener("click", () => view.fit());
document.addEventListener("visibilitychange", pollOnce);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  view.repaint();
  pair.repaint();
  if (cells.head) showLegend(byId("legend"), view.scale);
});
setInterval(followState, 1000);
setInterval(pollOnce, POLL_MS);
pollOnce();
