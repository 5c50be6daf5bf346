// The page of an agent: what it is, its peers, one of them in detail, and events.

import { setText, showFacts, showState } from "/web/dom.js";
import { age, duration } from "/web/format.js";
import { follow, get } from "/web/stream.js";
import { Detail } from "./detail.js";
import { Events, port } from "./events.js";
import { Peers } from "./peers.js";

const KINDS = ["start", "attach", "interface", "peer", "clock", "ovs", "window", "status", "hops", "outlier"];
/** Reasons for which a peer is down and gone. */
const GONE = ["ended", "no-address"];
/** The server sends its state this often, whether there are windows or not. */
const STATUS_S = 5;

const byId = (id) => document.getElementById(id);
const page = { start: null, status: null, stream: "connecting", heard: performance.now(), measured: performance.now() };

const detail = new Detail(byId("detail"));
const events = new Events(byId("events"));
const peers = new Peers(byId("peers"), (chosen, name) => {
  location.replace(`#${new URLSearchParams(chosen)}`);
  detail.choose(chosen, name, events);
});

function showAgent() {
  const { start, status } = page;
  if (!start) return;
  detail.hops.port = start.interface;
  setText(byId("name"), `kstamp agent ${start.name}`);
  const clock = status?.clock ?? start.clock;
  const facts = [
    ["Interface", `${start.interface}${status && !status.interface_up ? " (down)" : ""}`],
    ["Attached", `${start.attach.receive}, sends by ${start.attach.egress}`],
    ["Clock", clock.synchronised ? `synchronised, ± ${duration(clock.error_ns)}` : "not synchronised to UTC"],
    ["Addresses", start.addresses.join(", ")],
    ["Probes every", duration(start.interval_ns)],
    ["Version", `${start.version}, Linux ${start.kernel}`],
  ];
  if (start.ovs) facts.push(["Open vSwitch", port(start.ovs)]);
  if (status?.updates_lost) facts.push(["Records missing here", String(status.updates_lost)]);
  showFacts(byId("facts"), facts);
}

/** The state of the page in words: it must never look alive when it is not. */
function followState() {
  const now = performance.now();
  const report_s = (page.status?.report_ns ?? 10e9) / 1e9;
  const silent_s = (now - page.heard) / 1000;
  const old_s = (now - page.measured) / 1000;
  let [state, text] = ["live", "Live"];
  if (page.stream === "broken" || (page.stream === "connecting" && page.start)) {
    [state, text] = ["stale", `Stale: no connection for ${age(silent_s)}; trying again`];
  } else if (page.stream === "connecting") {
    [state, text] = ["connecting", "Connecting"];
  } else if (silent_s > 3 * STATUS_S) {
    [state, text] = ["stale", `Stale: nothing heard for ${age(silent_s)}`];
  } else if (peers.number && old_s > 2 * report_s + 2) {
    [state, text] = ["stale", `Stale: no window for ${age(old_s)}`];
  } else if (page.status && !page.status.interface_up) {
    [state, text] = ["stale", "The interface is down"];
  }
  showState(byId("state"), state, text, `kstamp agent ${page.start?.name ?? ""}`);
}

let isDue = false;

/** Draws once for all records that came together. */
function due() {
  if (isDue) return;
  isDue = true;
  // Not a frame: a page in the background has none.
  setTimeout(() => {
    isDue = false;
    const begin = performance.now();
    peers.draw();
    byId("no-peers").hidden = peers.number > 0;
    setText(byId("no-peers"), "No peer yet. A peer appears when another kstamp answers, or with --peer ADDRESS.");
    detail.follow();
    followState();
    performance.measure("update", { start: begin, end: performance.now() });
  }, 0);
}

function take(record) {
  page.heard = performance.now();
  if (record.type === "window") {
    page.measured = page.heard;
    peers.window(record);
  } else if (["hops", "outlier"].includes(record.type)) {
    detail.hops.take(record);
    return;
  } else if (record.type === "start") {
    page.start = record;
    showAgent();
  } else if (record.type === "status") {
    page.status = record;
    showAgent();
  } else {
    if (record.type === "attach" && page.start) page.start.attach.receive = record.receive;
    if (record.type === "ovs" && page.start) page.start.ovs = record.ovs;
    if (record.type === "peer") peers.changed(record);
    events.add(record);
    // The server has dropped the peer's history.
    if (GONE.includes(record.reason)) load();
    showAgent();
  }
  due();
}

/** All that there is, at first and after a break of the stream. */
async function load() {
  try {
    const [all, happened] = await Promise.all([get("/api/v1/peers"), get("/api/v1/events?limit=100"), detail.hops.load()]);
    page.start = all.agent ?? page.start;
    page.status = all.status;
    page.measured = page.heard = performance.now();
    peers.load(all.peers);
    events.load(happened.events);
    showAgent();
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (peers.choose(wanted.get("peer"), wanted.get("path"))) detail.reload();
    else detail.leave();
    due();
  } catch (error) {
    setText(byId("no-peers"), `The agent does not answer: ${error.message}`);
  }
}

follow("/api/v1/stream", KINDS, {
  onRecord: take,
  onOpen: load,
  onState(state) {
    page.stream = state;
    followState();
  },
});
// No record says that a silent peer was removed.
setInterval(() => page.stream === "open" && load(), 60000);
setInterval(followState, 1000);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  peers.repaint();
  detail.repaint();
});
