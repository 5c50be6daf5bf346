// The newest window of each pair of hosts, in columns: `from * number + to` is the place of a pair.

const TEXT = new TextDecoder();
/** Steps of a delay's code in a factor of two, and of a share's code. */
const DELAY_STEPS = 1024;
const SHARE_STEPS = 16;

/** The delay of a code in nanoseconds; null of code 0. */
export const delay = (code) => (code ? 2 ** ((code - 1) / DELAY_STEPS) : null);
/** The share of a code, from 0 to 1. */
export const share = (code) => (code ? 2 ** ((code - 255) / SHARE_STEPS) : 0);

export class Cells {
  /** What the last message says beside the cells. */
  head = null;
  hosts = [];
  /** Seconds since 1970 by the hub's clock, at the last message. */
  now = 0;
  p50 = new Uint16Array(0);
  p99 = new Uint16Array(0);
  forward = new Uint8Array(0);
  backward = new Uint8Array(0);
  unknown = new Uint8Array(0);
  /** When the window ended, in seconds since 1970; 0 if there is none. */
  at = new Uint32Array(0);
  /** Seconds for which it says something. */
  life = new Uint16Array(0);
  /** Places of pairs that do not answer, and the direction. */
  silent = new Map();
  down = new Set();
  #index = new Map();

  get number() {
    return this.hosts.length;
  }

  /** What the next request has to ask for. */
  get query() {
    return this.head ? { since: this.head.version, hosts: this.head.hosts_version } : {};
  }

  indexOf(name) {
    return this.#index.get(name) ?? -1;
  }

  /** Takes a message. Returns whether the hosts are others than before. */
  take(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(TEXT.decode(new Uint8Array(buffer, 4, length)));
    const isNew = head.hosts !== null;
    if (isNew) this.#begin(head.hosts);
    const now = Math.round(Date.parse(head.time) / 1000);
    const many = head.cells;
    let offset = 4 + length;
    const column = (type) => {
      const values = new type(buffer, offset, many);
      offset += values.byteLength;
      return values;
    };
    const [from, to, p50, p99, age, life] = [0, 0, 0, 0, 0, 0].map(() => column(Uint16Array));
    const [forward, backward, unknown] = [0, 0, 0].map(() => column(Uint8Array));
    const number = this.number;
    for (let cell = 0; cell < many; cell += 1) {
      const place = from[cell] * number + to[cell];
      this.p50[place] = p50[cell];
      this.p99[place] = p99[cell];
      this.forward[place] = forward[cell];
      this.backward[place] = backward[cell];
      this.unknown[place] = unknown[cell];
      this.at[place] = now - age[cell];
      this.life[place] = life[cell];
    }
    this.silent = new Map(head.silent.map(([from, to, direction]) => [from * number + to, direction]));
    this.down = new Set(head.down);
    this.head = head;
    this.now = now;
    return isNew;
  }

  #begin(hosts) {
    this.hosts = hosts;
    this.#index = new Map(hosts.map(({ name }, index) => [name, index]));
    const places = hosts.length ** 2;
    for (const name of ["p50", "p99", "forward", "backward", "unknown", "at", "life"]) {
      this[name] = new this[name].constructor(places);
    }
  }

  /** One pair as numbers; null without a window. */
  of(from, to) {
    const place = from * this.number + to;
    if (!this.at[place]) return null;
    return {
      p50: delay(this.p50[place]), p99: delay(this.p99[place]),
      forward: share(this.forward[place]), backward: share(this.backward[place]), unknown: share(this.unknown[place]),
      age_s: Math.max(0, this.now - this.at[place]), silent: this.silent.get(place) ?? null,
      isOld: this.isOld(place),
    };
  }

  /** Whether a window says nothing about now. */
  isOld(place) {
    return this.now - this.at[place] > this.life[place];
  }
}
