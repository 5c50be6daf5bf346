// Reads the stream of records, and knows whether it is alive.

const FIRST_WAIT_MS = 1000;
const MAX_WAIT_MS = 15000;

/**
 * Follows server-sent events for ever. `kinds`: types of records. `onRecord(record)` gets each, `onOpen()` is called when the
 * stream begins, also again after a break: what came between is missing. `onState(text)`: `open`, `connecting` or `broken`.
 */
export function follow(url, kinds, { onRecord, onOpen, onState }) {
  let wait = FIRST_WAIT_MS;
  const connect = () => {
    onState("connecting");
    const source = new EventSource(url);
    source.onopen = () => {
      wait = FIRST_WAIT_MS;
      onState("open");
      onOpen();
    };
    const again = () => {
      // The browser itself would give up after some errors, so each attempt is ours.
      source.close();
      onState("broken");
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, MAX_WAIT_MS);
    };
    source.onerror = again;
    source.addEventListener("cut", again);
    for (const kind of kinds) {
      source.addEventListener(kind, (event) => onRecord(JSON.parse(event.data)));
    }
  };
  connect();
}

/** Gets JSON, or fails with the server's line. */
export async function get(path) {
  const reply = await fetch(path);
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(body.error ?? `${path}: ${reply.status}`);
  return body;
}
