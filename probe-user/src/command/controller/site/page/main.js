// The page of a controller: the drawing, a path, links, the history of one, and events.

import { make, setText, showFacts, showState } from "/web/dom.js";
import { age, duration, seconds, time } from "/web/format.js";
import { figure, lines } from "/web/plots.js";
import { follow, get } from "/web/stream.js";
import { Links, best, nameOf, titleOf } from "./links.js";

const KINDS = ["start", "event", "link", "switch", "summary"];
const MAX_EVENTS = 100;
/** Reports without which the page is stale. */
const MISSED_REPORTS = 3;

const byId = (id) => document.getElementById(id);
const page = {
  start: null, links: [], switches: [], summary: null, stream: "connecting", reported: performance.now(), every_s: 5,
  /** Of the report that is being received. */
  coming: { links: [], switches: [] },
  path: [], link: null,
};

const links = new Links(byId("links"), chooseLink);
const plot = figure("Round trip by method", {
  plot: (rows) => lines(rows,
    ["kernel", "green", undefined, (row) => row.rtt_ns.kernel],
    ["bounce", "orange", undefined, (row) => row.rtt_ns.bounce],
    ["LLDP/echo", "blue", undefined, (row) => row.rtt_ns.lldp_echo]),
  columns: [["Time", (row) => time(row.time)], ["State", (row) => row.state.replace("_", " ")],
    ["LLDP/echo", (row) => duration(row.rtt_ns.lldp_echo)], ["Bounce", (row) => duration(row.rtt_ns.bounce)],
    ["Kernel", (row) => duration(row.rtt_ns.kernel)]],
  describe: (rows) => `${rows.length} reports, the last one ${duration(best(rows[rows.length - 1].rtt_ns))}.`,
});
byId("detail-plot").append(plot.element);

function showController() {
  const { start, summary } = page;
  if (!start) return;
  setText(byId("name"), `kstamp controller ${start.agent}`);
  const facts = [["Switches at", start.listen], ["Measures every", duration(start.period_ns)], ["Version", start.version]];
  if (summary) {
    facts.unshift(["Switches", String(summary.switches)], ["Links", String(page.links.length)], ["Hosts", String(summary.hosts)],
      ["Reroutes", String(summary.reroutes)]);
    if (summary.storms) facts.push(["Storms", String(summary.storms)]);
  }
  if (start.measure_only) facts.push(["Forwards", "nothing"]);
  showFacts(byId("facts"), facts);
}

/** The state of the page in words: it must never look alive when it is not. */
function followState() {
  const silent_s = (performance.now() - page.reported) / 1000;
  let [state, text] = ["live", "Live"];
  if (page.stream === "broken" || (page.stream === "connecting" && page.start)) {
    [state, text] = ["stale", `Stale: no connection for ${age(silent_s)}; trying again`];
  } else if (page.stream === "connecting") {
    [state, text] = ["connecting", "Connecting"];
  } else if (silent_s > MISSED_REPORTS * page.every_s + 2) {
    [state, text] = ["stale", `Stale: no report for ${age(silent_s)}`];
  }
  showState(byId("state"), state, text, `kstamp controller ${page.start?.agent ?? ""}`);
}

/** Puts the drawing in place of the one before: the server draws and escapes it, and it has no script. */
async function draw() {
  const reply = await fetch("/drawing").catch(() => null);
  if (!reply?.ok) return;
  const drawn = new DOMParser().parseFromString(await reply.text(), "text/html");
  const place = byId("network");
  const scrolled = place.querySelector(".scroll")?.scrollLeft ?? 0;
  place.replaceChildren(...drawn.body.children);
  if (scrolled) place.querySelector(".scroll").scrollLeft = scrolled;
  mark();
}

/** Marks the chosen path and link in the drawing. */
function mark() {
  const network = byId("network");
  const on = new Set(page.path.flatMap(({ from, to }) => [nameOf({ from, to }), nameOf({ from: to, to: from })]));
  const ends = new Set([byId("from").value, byId("to").value, ...page.path.flatMap(({ from, to }) => [from.dpid, to.dpid])]);
  network.classList.toggle("has-path", page.path.length > 0);
  for (const element of network.querySelectorAll(".link")) {
    element.classList.toggle("on", on.has(element.dataset.link));
    element.classList.toggle("chosen", element.dataset.link === page.link);
  }
  for (const element of network.querySelectorAll(".switch")) element.classList.toggle("on", ends.has(element.dataset.dpid));
}

byId("network").addEventListener("click", (event) => {
  const link = event.target.closest(".link");
  const node = event.target.closest(".switch");
  if (link) links.choose(link.dataset.link);
  if (node) {
    // The first, then the second, then a new first.
    const [from, to] = [byId("from"), byId("to")];
    if (!from.value || to.value) {
      from.value = node.dataset.dpid;
      to.value = "";
    } else if (node.dataset.dpid !== from.value) to.value = node.dataset.dpid;
    showPath();
  }
});

function fillSwitches() {
  for (const select of [byId("from"), byId("to")]) {
    const wanted = page.switches.map(({ dpid, name }) => `${dpid} ${name}`).join("\n");
    if (select.dataset.filled === wanted) continue;
    select.dataset.filled = wanted;
    const { value } = select;
    const options = page.switches.map(({ dpid, name }) => make("option", { value: dpid }, name));
    select.replaceChildren(make("option", { value: "" }, "–"), ...options);
    select.value = page.switches.some(({ dpid }) => dpid === value) ? value : "";
  }
}

async function showPath() {
  const [from, to] = [byId("from").value, byId("to").value];
  let hops = [];
  let text = "Choose two switches, here or in the drawing.";
  if (from && to && from !== to) {
    const found = await get(`/api/v1/paths?${new URLSearchParams({ from, to })}`).catch((error) => ({ error }));
    if (from !== byId("from").value || to !== byId("to").value) return;
    const path = found.paths?.[0];
    hops = path?.hops ?? [];
    const names = path && (path.from === from ? path.switches : path.switches.toReversed());
    text = path ? `${names.join(" – ")}: ${duration(path.delay_ns)} one way`
      : found.error ? `The controller does not answer: ${found.error.message}` : "There is no measured path.";
  }
  page.path = hops;
  setText(byId("path"), text);
  mark();
}
byId("from").addEventListener("change", showPath);
byId("to").addEventListener("change", showPath);

function chooseLink(link) {
  const name = link && nameOf(link);
  const isNew = name !== page.link;
  page.link = name;
  byId("detail").hidden = !link;
  mark();
  if (isNew) plot.show([]);
  showLink();
}

async function showLink() {
  const name = page.link;
  if (!name) return;
  const found = await get(`/api/v1/history?${new URLSearchParams({ link: name })}`).catch(() => null);
  if (!found || name !== page.link) return;
  const { link } = found;
  setText(byId("detail-title"), titleOf(link));
  setText(byId("detail-about"), `${link.from.name ?? "port"} – ${link.to.name ?? "port"}. ${link.in_tree ? "Broadcast uses it." : ""} ` +
    `One way, for paths: ${duration(link.weight_ns)}.`);
  let before = null;
  const rows = found.history.map((row) => {
    const end_s = seconds(row.time);
    const start_s = before === null ? end_s - page.every_s : Math.max(before, end_s - 15);
    before = end_s;
    return { ...row, start_s, end_s };
  });
  plot.show(rows);
}

function addEvent(event, isLive) {
  const item = make("li", {}, make("time", { datetime: event.time }, time(event.time)), make("span", {}, event.text));
  byId("events").prepend(item);
  while (byId("events").children.length > MAX_EVENTS) byId("events").lastChild.remove();
  if (isLive && event.event !== "trouble") showPath();
}

function showReport() {
  links.show(page.links);
  byId("no-links").hidden = page.links.length > 0;
  setText(byId("no-links"), page.switches.length ? "No link yet: LLDP finds them within a second or two."
    : `No switch is connected. Try ovs-vsctl set-controller BRIDGE tcp:${page.start?.listen ?? "ADDR:PORT"}`);
  fillSwitches();
  showController();
  showPath();
  showLink();
  draw();
  followState();
}

function take(record) {
  if (record.type === "start") page.start = record;
  else if (record.type === "event") addEvent(record, true);
  else if (record.type === "link") page.coming.links.push(record);
  else if (record.type === "switch") page.coming.switches.push(record);
  else if (record.type === "summary") {
    const now = performance.now();
    if (page.summary) page.every_s = Math.min(60, Math.max(1, (Date.parse(record.time) - Date.parse(page.summary.time)) / 1000));
    Object.assign(page, page.coming, { summary: record, reported: now, coming: { links: [], switches: [] } });
    showReport();
  }
}

/** What is not in the stream's first records. */
async function load() {
  page.coming = { links: [], switches: [] };
  const happened = await get("/api/v1/events").catch(() => ({ events: [] }));
  byId("events").replaceChildren();
  happened.events.slice(0, MAX_EVENTS).toReversed().forEach((event) => addEvent(event, false));
}

follow("/api/v1/stream", KINDS, {
  onRecord: take,
  onOpen: load,
  onState(state) {
    page.stream = state;
    followState();
  },
});
setInterval(followState, 1000);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.draw());
