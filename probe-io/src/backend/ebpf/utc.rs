//! The offset of UTC from `CLOCK_MONOTONIC`, for the programs; measured again when the clock is set.

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll, ready};

use probe_core::observation::Reply;
use probe_host::clock::monotonic_ns;
use probe_host::wall::{SetNotices, WallOffset};

/// Other agents on this host have the new offset within this time after the clock is set.
const FOLLOWED_WITHIN_NS: u64 = 2_000_000_000;

pub(crate) struct Utc {
    wall: WallOffset,
    notices: SetNotices,
    /// The kernel has reported that the clock was set.
    noticed: Cell<bool>,
    /// Until then, replies may have stamps of agents that still use the old offset.
    unsettled_until_ns: u64,
    /// When `wall` was last compared with the clocks.
    checked_ns: u64,
}

impl Utc {
    /// Within a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            wall: WallOffset::now(),
            notices: SetNotices::open()?,
            noticed: Cell::new(false),
            unsettled_until_ns: 0,
            checked_ns: monotonic_ns(),
        })
    }

    /// UTC − `CLOCK_MONOTONIC`, modulo 2⁶⁴.
    pub(crate) fn offset_ns(&self) -> u64 {
        self.wall.ahead_ns().cast_unsigned()
    }

    /// Ready when the clock was set: call [`Utc::take_notice`] then.
    pub(crate) fn poll_set(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.notices.poll_set(cx))?;
        self.noticed.set(true);
        Poll::Ready(Ok(()))
    }

    /// Measures the offset if the kernel has reported that the clock was set. Returns whether the offset has changed.
    pub(crate) fn take_notice(&mut self) -> bool {
        self.noticed.take() && self.follow()
    }

    /// Measures the offset. Returns whether it has changed.
    pub(crate) fn follow(&mut self) -> bool {
        self.adopt(WallOffset::now(), monotonic_ns())
    }

    fn adopt(&mut self, now: WallOffset, now_ns: u64) -> bool {
        let before = self.wall;
        if before.differs(&now) {
            self.unsettled_until_ns = now_ns.saturating_add(FOLLOWED_WITHIN_NS);
        }
        self.checked_ns = now_ns;
        self.wall.follow(now);
        self.wall != before
    }

    /// Marks a reply whose stamps cannot refute that both agents read one clock, because the clock was set. Reads the clock
    /// only for a reply that would refute it. Returns whether the offset has changed.
    pub(crate) fn mark(&mut self, reply: &mut Reply) -> bool {
        if !reply.refutes_same_clock() {
            return false;
        }
        // A check that is later than the reply has noticed every step before the reflector's stamps.
        let has_changed = self.checked_ns <= reply.received_mono_ns && self.wall.is_outdated() && self.follow();
        self.checked_ns = self.checked_ns.max(reply.received_mono_ns);
        reply.clock_set = reply.received_mono_ns < self.unsettled_until_ns;
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use probe_host::clock::realtime_ns;

    use super::*;

    /// A reply whose T2 and T3 are later than its T4, although both ends read one clock.
    fn impossible(received_mono_ns: u64) -> Reply {
        let t4_ns = 1_795_000_000_000_000_000;
        Reply {
            peer: [10, 1, 1, 6].into(),
            ssid: 1,
            seq: 1,
            reflector_seq: 1,
            sent_mono_ns: received_mono_ns - 100_000,
            received_mono_ns,
            t1_ns: t4_ns - 100_000,
            t2_ns: t4_ns + 5_000_000,
            t3_ns: t4_ns + 5_001_000,
            t4_ns,
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        }
    }

    #[tokio::test]
    async fn replies_around_a_step_refute_nothing() {
        let mut utc = Utc::new().unwrap();
        let mut before = impossible(monotonic_ns());
        assert!(!utc.mark(&mut before), "the clock was not set");
        assert!(before.refutes_same_clock());
        // As if it had been read before a step.
        let (offset_ns, now_ns) = (utc.offset_ns(), monotonic_ns());
        utc.wall = WallOffset::between(now_ns, realtime_ns() - 5_000_000, now_ns);
        let mut during = impossible(monotonic_ns());
        assert!(utc.mark(&mut during), "noticed by the reply");
        assert!(during.clock_set && !during.refutes_same_clock());
        assert!(utc.offset_ns().abs_diff(offset_ns) < 100_000);
        for (later_ns, is_marked) in [(1_000, true), (2 * FOLLOWED_WITHIN_NS, false)] {
            let mut later = impossible(monotonic_ns() + later_ns);
            utc.mark(&mut later);
            assert_eq!(later.clock_set, is_marked, "{later_ns}");
        }
        let mut possible = impossible(monotonic_ns());
        (possible.t2_ns, possible.t3_ns) = (possible.t1_ns + 10, possible.t1_ns + 20);
        utc.checked_ns = 0;
        utc.mark(&mut possible);
        assert_eq!(utc.checked_ns, 0, "the clock is not read for a plausible reply");
    }
}
