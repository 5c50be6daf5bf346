//! The times at which each peer, or the interface, was down.

use std::collections::{BTreeMap, VecDeque};

use crate::output::model::Downtime;

/// Start and end; `None` while it lasts.
type Down = (u64, Option<u64>);

/// Times that are kept of each; older ones are summed up.
const MAX_DOWNS: usize = 1024;

/// Monotonic nanoseconds, when it was noticed.
pub(super) struct Downs<K>(BTreeMap<K, Times>);

#[derive(Default)]
struct Times {
    recent: VecDeque<Down>,
    older: Downtime,
    /// Start of the newest older one.
    older_until_ns: u64,
}

impl<K> Default for Downs<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Downs<K> {
    pub(super) fn down(&mut self, who: K, now_ns: u64) {
        let times = self.0.entry(who).or_default();
        if matches!(times.recent.back(), Some((_, None))) {
            return;
        }
        times.recent.push_back((now_ns, None));
        if times.recent.len() > MAX_DOWNS
            && let Some((from_ns, until_ns)) = times.recent.pop_front()
        {
            times.older.downs += 1;
            times.older.down_ns += until_ns.unwrap_or(from_ns) - from_ns;
            times.older_until_ns = from_ns;
        }
    }

    pub(super) fn up(&mut self, who: K, now_ns: u64) {
        if let Some((_, until_ns @ None)) = self.0.get_mut(&who).and_then(|times| times.recent.back_mut()) {
            *until_ns = Some(now_ns);
        }
    }

    /// How often it went down between `start_ns` and `end_ns`, and how long it was down within them.
    pub(super) fn during(&self, who: K, start_ns: u64, end_ns: u64) -> Downtime {
        let Some(times) = self.0.get(&who) else {
            return Downtime::default();
        };
        // Only the whole run reaches back that far.
        let has_older = start_ns <= times.older_until_ns;
        let mut downtime = if has_older { times.older } else { Downtime::default() };
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
    fn many_downtimes_are_summed_up() {
        let mut downs = Downs::default();
        for number in 0..10 * MAX_DOWNS as u64 {
            downs.down((), 10 * number + 1);
            downs.down((), 10 * number + 2);
            downs.up((), 10 * number + 3);
        }
        assert_eq!(downs.0[&()].recent.len(), MAX_DOWNS);
        let Downtime { downs, down_ns } = downs.during((), 0, u64::MAX);
        assert_eq!((downs, down_ns), (10 * MAX_DOWNS as u64, 20 * MAX_DOWNS as u64));
    }

    #[test]
    fn a_window_has_its_part_of_each_downtime() {
        let [peer, other]: [IpAddr; 2] = [[10, 1, 1, 6].into(), [10, 1, 1, 7].into()];
        let mut downs = Downs::default();
        downs.up(peer, 5);
        downs.down(peer, 15);
        downs.up(peer, 32);
        downs.up(peer, 33);
        downs.down(peer, 35);
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
}
