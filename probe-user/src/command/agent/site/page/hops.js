// Where the probes to a peer spend their time, where they are lost, and those that took longest (--hops).

import { make, setText, table } from "/web/dom.js";
import { duration, percent, time } from "/web/format.js";
import { get } from "/web/stream.js";

/** Segments in the order of the path: name, words, and a colour of the style sheet. */
const SEGMENTS = [
  ["own_switch", "own switch", "blue"],
  ["own_encapsulation", "own encapsulation", "sky"],
  ["underlay", "underlay", "grey"],
  ["far_encapsulation", "far encapsulation", "orange"],
  ["far_switch", "far switch", "vermillion"],
  ["reflector", "reflector", "green"],
];
const WORDS = Object.fromEntries(SEGMENTS);
const MAX_OUTLIERS = 10;

const words = (segment) => WORDS[segment] ?? segment.replaceAll("_", " ");
const place = (segment, direction) => words(segment) + (direction && direction !== "both" ? `, ${direction}` : "");

/** Mean time of a round trip in each segment, less the residence, and what is not split. */
function shares(record) {
  const mean = (segment, direction) =>
    record.parts.find((part) => part.segment === segment && part.direction === direction)?.delay_ns?.mean ?? null;
  const all = SEGMENTS.filter(([segment]) => segment !== "reflector").map(([segment, text, colour]) => {
    const means = segment === "underlay" ? [mean(segment, "both")] : [mean(segment, "forward"), mean(segment, "backward")];
    const known = means.filter((value) => value !== null);
    return { text, colour, ns: known.length ? known.reduce((sum, value) => sum + value, 0) : null };
  });
  if (!record.both_halves && record.rest_ns) all.push({ text: "not split", colour: "line", ns: record.rest_ns.mean });
  return all.filter(({ ns }) => ns !== null);
}

/** The devices at the ends of a segment. A device that is not known is shown as its host. */
function ends(record, segment, port) {
  const named = (devices, host, roles) => {
    const of = (role) => (devices ?? []).filter((device) => device.role === role).map(({ device }) => device).join("/");
    return roles.map(of).find(Boolean) ?? host;
  };
  const own = (...roles) => named(record.own_devices, "this host", roles);
  const far = (...roles) => named(record.far_devices, "peer’s host", roles);
  // A switch ends at the leg on a host where no other device sees probes.
  const all = {
    own_switch: () => [port, own("tunnel", "nic", "leg")],
    own_encapsulation: () => [own("tunnel"), own("nic")],
    underlay: () => [own("nic", "tunnel", "leg"), far("nic", "tunnel", "leg")],
    far_encapsulation: () => [far("nic"), far("tunnel")],
    far_switch: () => [far("tunnel", "nic", "leg"), "peer’s port"],
    reflector: () => ["peer’s port"],
  };
  return all[segment]?.().join(" → ") ?? "";
}

/** What is not known, and why. */
function notes(record) {
  const answered = record.both_halves + record.own_half + record.no_half;
  const of = (number) => (number === answered ? "" : ` of ${number} of ${answered} probes`);
  const all = [];
  if (record.no_half) {
    const reasons = {
      unseen: "no device of this host was seen to carry the probes; see kstamp doctor, or name another --host-netns",
      elsewhere: "none of the observed devices carried these probes; does --host-netns name the namespace of the NICs?",
      some: "stamps were lost, or these probes passed no observed device",
    };
    const whereSeen = record.no_half === answered ? "elsewhere" : "some";
    const why = reasons[record.own_devices.length ? whereSeen : "unseen"];
    all.push(`The near half${of(record.no_half)} is missing: ${why}.`);
  }
  if (record.own_half) {
    const why = record.far_devices ? "the peer’s stamps did not come in time"
      : "the peer sends no hop stamps; it needs --hops, see kstamp doctor there";
    all.push(`The far half${of(record.own_half)} is missing: ${why}.`);
  }
  if (record.contradictory) all.push(`Stamps of ${record.contradictory} probes contradict each other, and are not used.`);
  if (record.clock) {
    const bound = record.clock_bound_ns === null ? "" : `, ± ${duration(record.clock_bound_ns)}`;
    all.push(`The underlay by direction rests on the clock: ${record.clock}${bound}.`);
  }
  return all.join(" ");
}

function outlierText(record) {
  const ordinary = record.ordinary_ns === null ? "" : `, ordinarily ${duration(record.ordinary_ns)}`;
  const where = record.largest_segment
    ? `${duration(record.largest_ns)} in ${place(record.largest_segment, record.largest_direction)}${ordinary}`
    : "it is not known where";
  const waited = record.upcall_wait_ns ?? record.cpu_wait_ns ?? null;
  const wait = waited === null ? "" : ` of ${duration(waited)}`;
  const what = record.cause === "cpu" ? "CPU wait" : words(record.cause ?? "");
  const cause = record.cause ? `; cause: ${what}${wait}` : "";
  return `Probe ${record.seq} took ${duration(record.elapsed_ns)}: ${where}${cause}`;
}

/** Multicast probes have no hops; with their path, those of unicast probes are shown. */
const key = (peer, path) => `${peer} ${path === "cold" ? "cold" : "unicast"}`;

export class Hops {
  element = make("section", { class: "hops", "aria-labelledby": "hops-title", hidden: true });
  #title = make("h3", { id: "hops-title" });
  #bar = make("div", { class: "bar", role: "img" });
  #key = make("ul", { class: "key" });
  #note = make("p", { class: "note" });
  #table = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Segments" });
  #lost = make("p", { class: "note" });
  #outliers = make("ol", { class: "events" });
  /** Where this host sends probes. */
  port = "port";
  #chosen = null;
  /** By peer and path: the reply of the API. */
  #all = new Map();
  /** The newest first. */
  #slow = [];

  constructor() {
    this.element.append(this.#title, this.#bar, this.#key, this.#note, this.#table, this.#lost,
      make("h3", {}, "Outliers of this peer"), this.#outliers);
  }

  /** All that the agent remembers. */
  async load() {
    const [{ hops }, { outliers }] = await Promise.all([get("/api/v1/hops"), get("/api/v1/outliers?limit=500")]);
    this.#all = new Map(hops.map((one) => [key(one.latest.peer, one.latest.path), one]));
    this.#slow = outliers;
    this.#show();
  }

  /** A peer and path; null: none. */
  choose(chosen) {
    this.#chosen = chosen && key(chosen.peer, chosen.path);
    this.#show();
  }

  /** A record `hops` or `outlier`. */
  take(record) {
    const of = key(record.peer, record.path);
    if (record.type === "outlier") {
      this.#slow = [record, ...this.#slow].slice(0, 500);
    } else {
      const one = this.#all.get(of) ?? { since: record.start, places: [], lost: 0, lost_late: 0, lost_unknown: 0, outliers: 0 };
      if (one.latest?.end === record.end) return;
      one.latest = record;
      for (const name of ["lost", "lost_late", "lost_unknown", "outliers"]) one[name] += record[name];
      for (const { segment, direction, lost } of record.parts.filter((part) => part.lost)) {
        const known = one.places.find((there) => there.segment === segment && there.direction === direction);
        if (known) known.lost += lost;
        else one.places.push({ segment, direction, lost });
      }
      this.#all.set(of, one);
    }
    if (of === this.#chosen) this.#show();
  }

  #show() {
    const one = this.#all.get(this.#chosen);
    this.element.hidden = !one;
    if (!one) return;
    const record = one.latest;
    const parts = shares(record);
    const whole = parts.reduce((sum, { ns }) => sum + ns, 0);
    setText(this.#title, parts.length ? `Where a mean round trip of ${duration(whole)} is spent` : "Where round trips are spent");
    const wide = parts.filter(({ ns }) => ns > 0);
    this.#bar.replaceChildren(...wide.map(({ text, colour, ns }) => {
      const part = make("span", { title: `${text}: ${duration(ns)}` });
      part.style.flexGrow = ns / whole;
      part.style.background = `var(--${colour})`;
      return part;
    }));
    this.#bar.hidden = !wide.length;
    this.#bar.setAttribute("aria-label", parts.map(({ text, ns }) => `${text} ${percent(ns, whole)}`).join(", "));
    this.#key.replaceChildren(...parts.map(({ text, colour, ns }) => {
      const mark = make("i", {});
      mark.style.background = `var(--${colour})`;
      return make("li", {}, mark, `${text} ${duration(ns)} (${percent(ns, whole)})`);
    }));
    setText(this.#note, notes(record));
    this.#note.hidden = !this.#note.textContent;
    this.#table.replaceChildren(this.#tableOf(one));
    setText(this.#lost, this.#lossText(one));
    const slow = this.#slow.filter(({ peer, path }) => key(peer, path) === this.#chosen).slice(0, MAX_OUTLIERS);
    const lines = slow.map((outlier) => make("li", {},
      make("time", { datetime: outlier.time }, time(outlier.time)), make("span", {}, outlierText(outlier))));
    this.#outliers.replaceChildren(...(lines.length ? lines : [make("li", { class: "empty" }, "None.")]));
  }

  #tableOf({ latest, places }) {
    const known = SEGMENTS.filter(([segment]) => [...latest.parts, ...places].some((part) => part.segment === segment));
    const part = (segment, direction) => latest.parts.find((one) => one.segment === segment && one.direction === direction);
    const quantiles = (segment, direction) => {
      const delay = part(segment, direction)?.delay_ns;
      return delay ? `${duration(delay.p50)} / ${duration(delay.p99)}` : "–";
    };
    const rows = known.map(([segment, text]) => {
      const lost = places.filter((one) => one.segment === segment);
      const signs = { forward: "→ ", backward: "← ", both: "" };
      return [text, ends(latest, segment, this.port), ...["forward", "backward", "both"].map((way) => quantiles(segment, way)),
        lost.map((one) => `${signs[one.direction]}${one.lost}`).join(" ") || "0"];
    });
    return table("Median / 99 % of the last window, and probes lost there so far: forward →, backward ←",
      ["Segment", "Devices", "Forward", "Backward", "Both ways", "Lost there"], rows);
  }

  #lossText({ since, places, lost, lost_late, lost_unknown }) {
    if (!lost) return `No probe lost since ${time(since)}.`;
    const parts = places.map((one) => `${one.lost} in ${place(one.segment, one.direction)}`);
    if (lost_unknown) parts.push(`${lost_unknown} in an unknown place`);
    if (lost_late) parts.push(`${lost_late} answered too late`);
    return `${lost} lost since ${time(since)}: ${parts.join("; ")}.`;
  }
}
