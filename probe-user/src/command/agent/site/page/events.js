// Events in words, the newest first.

import { make } from "/web/dom.js";
import { duration, time } from "/web/format.js";

const MAX_SHOWN = 50;
const MAX_KEPT = 500;

/** A port of Open vSwitch in words. */
export function port(ovs) {
  const tunnels = ovs.tunnels.map((one) => `${one.type} ${one.key ?? ""} to ${one.remote_ip}`);
  const many = tunnels.length + ovs.more_tunnels;
  return [
    `port ${ovs.port} of ${ovs.bridge}`,
    ovs.ofport === null ? "without an OpenFlow port" : `OpenFlow port ${ovs.ofport}`,
    ovs.vlan === null ? null : `VLAN ${ovs.vlan}`,
    ovs.iface_id && `iface-id ${ovs.iface_id}`,
    `${ovs.datapath_type} datapath`,
    ovs.version && `Open vSwitch ${ovs.version}`,
    many > 1 ? `${many} tunnels` : tunnels[0],
  ].filter(Boolean).join(", ");
}

function text(record) {
  const of = (value, words) => (value === undefined || value === null ? "" : words(value));
  switch (record.type) {
    case "peer":
      return `Peer ${record.peer}${of(record.name, (name) => ` (${name})`)} ${record.event}`
        + of(record.moved_from, (from) => ` from ${from}`) + of(record.reason, (reason) => `: ${reason}`);
    case "interface":
      return `Interface ${record.interface} ${record.event}${of(record.group, (group) => ` ${group}`)}`;
    case "attach":
      return `Receives by ${record.receive} from now on: ${record.reason}`;
    case "clock":
      return `${record.peer ? `The clock of ${record.peer}` : "This host’s clock"} was stepped by ${duration(record.by_ns)}`;
    case "ovs":
      return `Interface ${record.interface} is ${record.ovs ? `now ${port(record.ovs)}` : "no port of Open vSwitch any more"}`;
    default:
      return record.type;
  }
}

const line = (record) => make("li", {}, make("time", { datetime: record.time }, time(record.time)), make("span", {}, text(record)));

export class Events {
  #place;
  /** The newest first. */
  #records = [];

  constructor(place) {
    this.#place = place;
  }

  load(records) {
    this.#records = records;
    const lines = records.slice(0, MAX_SHOWN).map(line);
    this.#place.replaceChildren(...(lines.length ? lines : [make("li", { class: "empty" }, "None.")]));
  }

  add(record) {
    this.#records = [record, ...this.#records].slice(0, MAX_KEPT);
    this.#place.querySelector(".empty")?.remove();
    this.#place.prepend(line(record));
    if (this.#place.children.length > MAX_SHOWN) this.#place.lastChild.remove();
  }

  /** Those of a peer. */
  lines(peer, number) {
    const own = this.#records.filter((record) => record.peer === peer || record.moved_from === peer);
    return own.slice(0, number).map(line);
  }
}
