//! The times at which each peer, or the interface, was down.

use std::collections::VecDeque;
use std::hash::Hash;

use probe_core::lru::Lru;

use crate::output::model::Downtime;

/// Downtimes of each that are remembered one by one.
const MAX_DOWNS: usize = 256;

/// Start and end; `None` while it lasts.
type Down = (u64, Option<u64>);

/// Monotonic nanoseconds, when it was noticed.
pub(super) struct Downs<K>(Lru<K, Times>);

#[derive(Default)]
struct Times {
    recent: VecDeque<Down>,
    /// The sum of all earlier ones, and when the first began.
    earlier: Downtime,
    since_ns: u64,
}

impl<K: Copy + Eq + Hash> Downs<K> {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Lru::new(capacity))
    }

    pub(super) fn down(&mut self, who: K, now_ns: u64) {
        let times = self.0.get_or(who, Times::default);
        if matches!(times.recent.back(), Some((_, None))) {
            return;
        }
        times.recent.push_back((now_ns, None));
        if times.recent.len() > MAX_DOWNS
            && let Some((from_ns, until_ns)) = times.recent.pop_front()
        {
            if times.earlier.downs == 0 {
                times.since_ns = from_ns;
            }
            times.earlier.downs += 1;
            times.earlier.down_ns += until_ns.unwrap_or(now_ns) - from_ns;
        }
    }

    pub(super) fn up(&mut self, who: K, now_ns: u64) {
        let times = self.0.peek_mut(&who);
        if let Some((_, until_ns @ None)) = times.and_then(|times| times.recent.back_mut()) {
            *until_ns = Some(now_ns);
        }
    }

    /// It is not down, but somewhere else.
    pub(super) fn take_back(&mut self, who: K) {
        if let Some(times) = self.0.peek_mut(&who) {
            times.recent.pop_back_if(|(_, until_ns)| until_ns.is_none());
        }
    }

    /// How often it went down between `start_ns` and `end_ns`, and how long it was down within them.
    pub(super) fn during(&self, who: K, start_ns: u64, end_ns: u64) -> Downtime {
        let Some(times) = self.0.peek(&who) else {
            return Downtime::default();
        };
        // Only the summary of a whole run begins before them.
        let mut downtime = match start_ns <= times.since_ns {
            true => times.earlier,
            false => Downtime::default(),
        };
        for &(from_ns, until_ns) in &times.recent {
            downtime.downs += u64::from((start_ns..end_ns).contains(&from_ns));
            let until_ns = until_ns.unwrap_or(u64::MAX).min(end_ns);
            downtime.down_ns += until_ns.saturating_sub(from_ns.max(start_ns));
        }
        downtime
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_window_has_its_part_of_each_downtime() {
        let [peer, other]: [IpAddr; 2] = [[10, 1, 1, 6].into(), [10, 1, 1, 7].into()];
        let mut downs = Downs::new(2);
        downs.up(peer, 5);
        downs.down(peer, 15);
        downs.up(peer, 32);
        downs.up(peer, 33);
        downs.down(peer, 35);
        downs.down(peer, 36);
        let table = [
            ((0, 10), (0, 0)),
            ((10, 20), (1, 5)),
            ((20, 30), (0, 10)),
            ((30, 40), (1, 7)),
            ((40, 50), (0, 10)),
            ((0, 50), (2, 32)),
        ];
        for ((start_ns, end_ns), (expected, down_ns)) in table {
            let expected = Downtime {
                downs: expected,
                down_ns,
            };
            assert_eq!(downs.during(peer, start_ns, end_ns), expected, "{start_ns} to {end_ns}");
        }
        assert_eq!(downs.during(other, 0, 50), Downtime::default());
    }

    #[test]
    fn a_peer_that_flaps_for_ever_takes_bounded_memory_and_its_summary_has_all() {
        let peer: IpAddr = [10, 1, 1, 6].into();
        let mut downs = Downs::new(2);
        let flaps = 3 * MAX_DOWNS as u64;
        for flap in 0..flaps {
            downs.down(peer, 100 + 10 * flap);
            downs.up(peer, 103 + 10 * flap);
        }
        let of_peer = downs.0.peek(&peer).unwrap();
        assert_eq!(of_peer.recent.len(), MAX_DOWNS);
        let whole = Downtime {
            downs: flaps,
            down_ns: 3 * flaps,
        };
        assert_eq!(downs.during(peer, 50, u64::MAX), whole);
        let last = 100 + 10 * (flaps - 1);
        assert_eq!(downs.during(peer, last, last + 10), Downtime { downs: 1, down_ns: 3 });
        for other in 1..=2 {
            downs.down([10, 1, 2, other].into(), 0);
        }
        assert_eq!(
            downs.during(peer, 0, u64::MAX),
            Downtime::default(),
            "forgotten for others"
        );
    }
}
