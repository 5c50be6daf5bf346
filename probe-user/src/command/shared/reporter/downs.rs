//! The times at which each peer was down.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::output::model::Downtime;

/// Start and end; `None` while it lasts.
type Down = (u64, Option<u64>);

/// Monotonic nanoseconds, when the core noticed.
#[derive(Default)]
pub(super) struct Downs(BTreeMap<IpAddr, Vec<Down>>);

impl Downs {
    pub(super) fn down(&mut self, peer: IpAddr, now_ns: u64) {
        self.0.entry(peer).or_default().push((now_ns, None));
    }

    pub(super) fn up(&mut self, peer: IpAddr, now_ns: u64) {
        if let Some((_, until_ns @ None)) = self.0.get_mut(&peer).and_then(|downs| downs.last_mut()) {
            *until_ns = Some(now_ns);
        }
    }

    /// How often a peer went down between `start_ns` and `end_ns`, and how long it was down within them.
    pub(super) fn during(&self, peer: IpAddr, start_ns: u64, end_ns: u64) -> Downtime {
        let mut downtime = Downtime::default();
        for &(from_ns, until_ns) in self.0.get(&peer).into_iter().flatten() {
            downtime.downs += u64::from((start_ns..end_ns).contains(&from_ns));
            let until_ns = until_ns.unwrap_or(u64::MAX).min(end_ns);
            downtime.down_ns += until_ns.saturating_sub(from_ns.max(start_ns));
        }
        downtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
