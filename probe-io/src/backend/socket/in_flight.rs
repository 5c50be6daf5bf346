//! The probes that wait for replies.

use std::net::IpAddr;

use probe_common::abi::{self, MAX_REPLIES};
use probe_common::family::Family;
use probe_core::lru::Lru;
use probe_host::wall::WallOffset;

use crate::backend::Trace;
use crate::backend::socket::mismatch::Sent;
use crate::backend::socket::reply::{InFlightProbe, ProbeId, WireReply};
use crate::udp::watched::WatchedSocket;

/// As many as the kernel programs remember.
const MAX_PROBES: usize = abi::MAX_IN_FLIGHT as usize;

const MAX_REPLIERS: usize = abi::MAX_REPLIERS as usize;

/// A stamp by its socket and its number.
type StampId = (Family, u32);

/// The last [`MAX_PROBES`] probes.
#[derive(Debug)]
pub(crate) struct InFlight {
    probes: Lru<ProbeId, InFlightProbe>,
    by_stamp: Lru<StampId, ProbeId>,
    /// Replies of each source to a group probe with more than [`MAX_REPLIES`].
    replies: Lru<(ProbeId, IpAddr), u32>,
    /// The session in which an address is probed, for replies without RFC 8972.
    sessions: Lru<IpAddr, u16>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            probes: Lru::new(MAX_PROBES),
            by_stamp: Lru::new(MAX_PROBES),
            replies: Lru::new(MAX_REPLIERS),
            sessions: Lru::new(abi::SESSION_IDS as usize),
        }
    }
}

impl InFlight {
    /// Adds a probe that was sent. It is kept after its reply, so that a duplicate is recognised.
    pub fn insert(&mut self, id: ProbeId, stamp: StampId, probe: InFlightProbe) {
        if !probe.destination.is_multicast() && self.sessions.peek(&probe.destination) != Some(&id.0) {
            self.sessions.insert(probe.destination, id.0);
        }
        self.probes.insert(id, probe);
        self.by_stamp.insert(stamp, id);
    }

    /// Takes the transmit stamps of `socket`. Returns how many probes were stamped.
    pub fn take_stamps(&mut self, family: Family, socket: &WatchedSocket, wall: &WallOffset) -> u64 {
        let mut stamped = 0;
        while let Ok(Some(stamp)) = socket.sent_stamp() {
            let at_mono_ns = wall.monotonic_ns(stamp.stamp_ns);
            stamped += u64::from(self.left((family, stamp.id), stamp.stamp_ns, at_mono_ns));
        }
        stamped
    }

    /// Notes when a probe left. `false` for a stamp of no known probe.
    fn left(&mut self, stamp: StampId, at_ns: u64, at_mono_ns: u64) -> bool {
        let id = self.by_stamp.remove(&stamp);
        let Some(probe) = id.and_then(|id| self.probes.peek_mut(&id)) else {
            return false;
        };
        // A stamp from before the probe was built is wrong: the clock was set in between.
        if at_mono_ns >= probe.sent_mono_ns {
            probe.sent_ns = at_ns;
            probe.sent_mono_ns = at_mono_ns;
        }
        probe.stamped = true;
        true
    }

    /// As the kernel programs remember a probe.
    fn as_in_kernel(probe: &InFlightProbe) -> abi::InFlight {
        abi::InFlight {
            t1_mono_ns: probe.sent_mono_ns,
            t1_wire: probe.wire,
            destination: probe.destination.into(),
            replies: probe.replies,
            reserved: 0,
        }
    }

    /// The probe that a reply from `source` answers, by the rule of the kernel programs.
    pub fn answered(&self, source: IpAddr, reply: &WireReply) -> Option<(ProbeId, InFlightProbe)> {
        let ssid = match reply.ssid {
            0 => *self.sessions.peek(&source)?,
            ssid => ssid,
        };
        let id = (ssid, reply.sender_sequence);
        let probe = *self.probes.peek(&id)?;
        let answers = Self::as_in_kernel(&probe).is_answered_by(&source.into(), reply.sender_timestamp);
        answers.then_some((id, probe))
    }

    /// Counts a reply of `source` to a probe, and says whether it is passed on, by the rule of the kernel programs.
    pub fn is_wanted(&mut self, id: ProbeId, source: IpAddr) -> bool {
        let Some(probe) = self.probes.peek_mut(&id) else {
            return false;
        };
        let is_wanted = probe.replies < MAX_REPLIES
            || Self::as_in_kernel(probe).has_room_for_others() && {
                let replies = self.replies.get_or((id, source), || 0);
                *replies = replies.saturating_add(1);
                *replies <= MAX_REPLIES
            };
        probe.replies += u32::from(is_wanted);
        is_wanted
    }

    /// Looks up a probe without a reply. Without a stamp it did not leave, if the device stamps others.
    pub fn trace(&self, id: ProbeId, device_stamps: bool) -> Trace {
        match self.probes.peek(&id) {
            Some(probe) if !probe.stamped && device_stamps => Trace::NotLeft,
            _ => Trace::Left,
        }
    }

    /// For new sockets, which number their stamps from zero on.
    pub fn forget_stamps(&mut self) {
        self.by_stamp = Lru::new(MAX_PROBES);
    }
}

impl Sent for InFlight {
    fn probe(&self, ssid: u16, seq: u32) -> Option<abi::InFlight> {
        self.probes.peek(&(ssid, seq)).map(Self::as_in_kernel)
    }

    fn session(&self, peer: IpAddr) -> Option<u16> {
        self.sessions.peek(&peer).copied()
    }

    fn sessions(&self, at_most: usize) -> Vec<u16> {
        self.sessions.values().take(at_most).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use probe_common::ntp::ErrorEstimate;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 6));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 7));
    const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(239, 255, 255, 250));

    fn probe(destination: IpAddr) -> InFlightProbe {
        InFlightProbe {
            destination,
            wire: 77,
            sent_ns: 1_000,
            sent_mono_ns: 100,
            stamped: false,
            replies: 0,
        }
    }

    fn reply() -> WireReply {
        WireReply {
            sequence: 0,
            transmit: 0,
            error: ErrorEstimate(1),
            ssid: 9,
            receive: 0,
            sender_sequence: 3,
            sender_timestamp: 77,
        }
    }

    #[test]
    fn only_the_right_reply_answers_a_probe() {
        let mut in_flight = InFlight::default();
        in_flight.insert((9, 3), (Family::V4, 0), probe(PEER));
        assert!(in_flight.answered(PEER, &reply()).is_some());
        assert!(in_flight.answered(PEER, &reply()).is_some(), "and a duplicate is known");
        let wrong = [
            WireReply { ssid: 8, ..reply() },
            WireReply {
                sender_sequence: 4,
                ..reply()
            },
            WireReply {
                sender_timestamp: 78,
                ..reply()
            },
        ];
        for wrong in wrong {
            assert_eq!(in_flight.answered(PEER, &wrong), None, "{wrong:?}");
        }
        assert_eq!(in_flight.answered(OTHER, &reply()), None, "from another address");
    }

    #[test]
    fn a_reply_without_ssid_belongs_to_the_session_of_its_address() {
        let mut in_flight = InFlight::default();
        in_flight.insert((9, 3), (Family::V4, 0), probe(PEER));
        in_flight.insert((10, 3), (Family::V4, 1), probe(GROUP));
        let plain = WireReply { ssid: 0, ..reply() };
        assert_eq!(in_flight.answered(PEER, &plain).unwrap().0, (9, 3));
        assert_eq!(in_flight.answered(OTHER, &plain), None);
        let by_group = WireReply { ssid: 10, ..reply() };
        assert!(
            in_flight.answered(OTHER, &by_group).is_some(),
            "any address answers a group probe"
        );
    }

    #[test]
    fn stamps_find_their_probes_once() {
        let mut in_flight = InFlight::default();
        in_flight.insert((9, 3), (Family::V4, 0), probe(PEER));
        in_flight.insert((9, 4), (Family::V6, 0), probe(PEER));
        assert!(in_flight.left((Family::V6, 0), 1_500, 600));
        assert!(!in_flight.left((Family::V6, 0), 1_700, 800), "taken already");
        assert!(!in_flight.probes.peek(&(9, 3)).unwrap().stamped);
        let stamped = in_flight.probes.peek(&(9, 4)).unwrap();
        assert_eq!(
            (stamped.sent_ns, stamped.sent_mono_ns, stamped.stamped),
            (1_500, 600, true)
        );
        assert!(in_flight.left((Family::V4, 0), 50, 5));
        let odd = in_flight.probes.peek(&(9, 3)).unwrap();
        assert_eq!(
            (odd.sent_mono_ns, odd.stamped),
            (100, true),
            "a stamp from before it was sent"
        );
    }

    #[test]
    fn replies_are_passed_on_up_to_a_limit() {
        let mut in_flight = InFlight::default();
        in_flight.insert((9, 3), (Family::V4, 0), probe(PEER));
        in_flight.insert((9, 4), (Family::V4, 1), probe(GROUP));
        let mut wanted = |seq, source| (0..10_000).filter(|_| in_flight.is_wanted((9, seq), source)).count();
        let limit = MAX_REPLIES as usize;
        assert_eq!(wanted(3, PEER), limit);
        assert_eq!(wanted(7, PEER), 0, "never sent");
        // The first ones are not counted by source.
        assert_eq!(wanted(4, PEER), 2 * limit);
        assert_eq!(wanted(4, OTHER), limit);
        in_flight.insert((9, 5), (Family::V4, 2), probe(GROUP));
        let others = (0..50).map(|last| IpAddr::from([10, 1, 2, last]));
        for _ in 0..100 {
            in_flight.is_wanted((9, 5), PEER);
        }
        assert_eq!(others.filter(|&other| in_flight.is_wanted((9, 5), other)).count(), 50);
    }

    #[test]
    fn memory_is_bounded() {
        let mut in_flight = InFlight::default();
        for number in 0..MAX_PROBES as u32 + 10 {
            in_flight.insert((9, number), (Family::V4, number), probe(PEER));
        }
        assert_eq!(
            (in_flight.probes.values().count(), in_flight.by_stamp.values().count()),
            (MAX_PROBES, MAX_PROBES)
        );
        assert!(in_flight.probes.peek(&(9, 0)).is_none() && in_flight.probes.peek(&(9, 10)).is_some());
        for seq in 0..2 {
            in_flight.insert((10, seq), (Family::V4, u32::MAX - seq), probe(GROUP));
            for source in 0..abi::MAX_REPLIERS {
                in_flight.is_wanted((10, seq), std::net::Ipv4Addr::from_bits(source).into());
            }
        }
        assert_eq!(in_flight.replies.values().count(), MAX_REPLIERS);
    }
}
