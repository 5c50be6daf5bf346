//! Notices and totals that the controller reports.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::link_delay::Ends;
use crate::openflow::id::Dpid;
use crate::topology::{Link, Path, PortId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A switch is ready.
    SwitchUp { dpid: Dpid, address: SocketAddr },
    /// A switch is gone, or did not complete its handshake.
    SwitchDown {
        /// `None` before the features reply.
        dpid: Option<Dpid>,
        address: SocketAddr,
        reason: String,
    },
    /// LLDP shows a link in both directions.
    LinkUp(Link),
    /// LLDP of a link no longer arrives.
    LinkStale(Link),
    /// A port of a link is down or gone, or leads elsewhere.
    LinkDown(Link),
    /// Several switches share a segment at these ports.
    Segment(Vec<PortId>),
    /// The path between two switches changed.
    Rerouted {
        from: Dpid,
        to: Dpid,
        path: Path,
        /// Present delay of the former path; `None` if it is broken.
        former_delay_ns: Option<u64>,
    },
    /// A problem, in one line.
    Trouble(String),
}

/// Counts over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How the probes ended.
    pub probes: Ends,
    /// Estimates below zero; none of them was used as a weight.
    pub negatives: u64,
    /// Broadcast storms: one host moved between ports again and again within a second.
    pub storms: u64,
    /// Changes of a path between switches.
    pub reroutes: u64,
    /// Group frames of hosts that were copied to the controller.
    pub broadcasts: u64,
    /// LLDP in our name with a wrong signature or malformed.
    pub forged: u64,
    /// Hosts that were forgotten because there was no room for all.
    pub hosts_displaced: u64,
    /// Pairs of hosts that lost their rules because there was no room for all.
    pub pairs_displaced: u64,
    /// Rules that were gone from switches, and were sent again.
    pub rules_restored: u64,
}

/// Notices at once, and each second in the long run: neighbours cause most of them.
const BURST: u64 = 2_000;
const PER_S: u64 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// Kinds of trouble that are remembered, each with its port.
const MAX_REPORTED: usize = 8_192;

/// Notices that wait to be reported.
#[derive(Debug)]
pub(super) struct Notices {
    queue: VecDeque<Notice>,
    /// Each kind of trouble is reported once per port.
    reported: BTreeSet<(Option<PortId>, &'static str)>,
    left: u64,
    held_back: u64,
    refilled_ns: u64,
}

impl Notices {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            reported: BTreeSet::new(),
            left: BURST,
            held_back: 0,
            refilled_ns: now_ns,
        }
    }

    /// Adds a notice, or counts it if there were too many.
    pub(super) fn push(&mut self, notice: Notice) {
        if self.left == 0 {
            self.held_back += 1;
            return;
        }
        self.left -= 1;
        self.queue.push_back(notice);
    }

    /// Whether a kind of trouble of a port is to be reported: the first time, and not for more ports than a switch has.
    pub(super) fn is_first(&mut self, port: Option<PortId>, what: &'static str) -> bool {
        self.reported.len() < MAX_REPORTED && self.reported.insert((port, what))
    }

    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.queue.pop_front()
    }

    /// Lets time pass.
    pub(super) fn refill(&mut self, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.refilled_ns) / SECOND_NS;
        if seconds == 0 {
            return;
        }
        self.refilled_ns += seconds * SECOND_NS;
        self.left = (self.left + seconds * PER_S).min(BURST);
        let held_back = std::mem::take(&mut self.held_back);
        if held_back > 0 {
            self.push(Notice::Trouble(format!(
                "{held_back} more events are not shown: there are more than {PER_S} a second"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_shown_and_then_a_few_each_second() {
        let mut notices = Notices::new(0);
        let mut shown = Vec::new();
        for ms in 0..100_000u64 {
            notices.push(Notice::Trouble("x".to_owned()));
            notices.refill(ms * 1_000_000);
            shown.extend(std::iter::from_fn(|| notices.pop()));
        }
        let at_most = BURST + 100 * PER_S;
        assert!(
            shown.len() as u64 <= at_most && shown.len() as u64 > at_most - 2 * PER_S,
            "{}",
            shown.len()
        );
        let is_count = |notice: &&Notice| matches!(notice, Notice::Trouble(line) if line.contains("more events"));
        assert!(shown.iter().find(is_count).is_some());
    }
}
