//! Decides which devices of a host are observed.

use std::collections::{BTreeMap, BTreeSet};

use probe_core::hops::MAX_HOOKS;
use probe_host::link::Link;

/// A device that sees no probe is given up if others have seen one this long after it was attached.
const TRIAL_NS: u64 = 10_000_000_000;
/// While none has seen a probe, devices make room for others after this time.
const TURN_NS: u64 = 30_000_000_000;
/// A device that has seen probes is given up after this time without one.
const QUIET_NS: u64 = 600_000_000_000;
/// Devices that were given up are tried again at most this often.
const REVIEW_NS: u64 = 60_000_000_000;

/// In the order in which devices are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// VXLAN or Geneve.
    Tunnel,
    /// A NIC, or a bond of NICs.
    Physical,
    Other,
}

impl Kind {
    fn of(link: &Link) -> Self {
        match link.kind.as_deref() {
            Some("vxlan" | "geneve") => Self::Tunnel,
            // Of the devices with an Ethernet header, only those with hardware behind them have no kind.
            None | Some("bond" | "team") => Self::Physical,
            Some(_) => Self::Other,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// The devices that probes may pass, the likeliest first. `port` is the measured interface, if it is among `links`.
pub(super) fn candidates(links: &[Link], port: Option<&str>) -> Vec<Device> {
    let mut devices: Vec<Device> = links
        .iter()
        .filter(|link| link.up && link.ethernet && !link.loopback && Some(link.name.as_str()) != port)
        .map(|link| Device {
            index: link.index,
            name: link.name.clone(),
            kind: Kind::of(link),
        })
        .collect();
    devices.sort_by_key(|device| (device.kind, device.index));
    devices
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) detach: Vec<u32>,
    pub(super) attach: Vec<Device>,
}

/// Which devices are observed, and which were given up.
#[derive(Debug, Default)]
pub(super) struct Census {
    candidates: Vec<Device>,
    observed: BTreeMap<u32, Observed>,
    given_up: BTreeSet<u32>,
    /// The path of probes may have changed since those that were given up were tried.
    is_review_due: bool,
    reviewed_ns: Option<u64>,
}

#[derive(Debug)]
struct Observed {
    since_ns: u64,
    /// When it saw the last probe.
    seen_ns: Option<u64>,
}

impl Census {
    /// Takes the present devices, from [`candidates`].
    pub(super) fn follow(&mut self, candidates: Vec<Device>) {
        let present: BTreeSet<u32> = candidates.iter().map(|device| device.index).collect();
        self.given_up.retain(|index| present.contains(index));
        self.is_review_due |= candidates != self.candidates;
        self.candidates = candidates;
    }

    /// How many devices may be observed, with those that wait for their turn.
    pub(super) fn number(&self) -> usize {
        self.candidates.len()
    }

    pub(super) fn note_seen(&mut self, index: u32, seen_ns: u64) {
        if let Some(observed) = self.observed.get_mut(&index) {
            observed.seen_ns = observed.seen_ns.max(Some(seen_ns));
        }
    }

    /// The device cannot be observed.
    pub(super) fn note_refused(&mut self, index: u32) {
        self.observed.remove(&index);
        self.given_up.insert(index);
    }

    /// Others have detached its programs.
    pub(super) fn note_detached(&mut self, index: u32) {
        self.observed.remove(&index);
    }

    /// The devices that are observed.
    pub(super) fn observed(&self) -> Vec<Device> {
        let is_observed = |device: &&Device| self.observed.contains_key(&device.index);
        self.candidates.iter().filter(is_observed).cloned().collect()
    }

    /// What to attach and detach. The result is taken to be done; [`Census::note_refused`] says where it could not be.
    pub(super) fn plan(&mut self, now_ns: u64) -> Plan {
        let present: BTreeSet<u32> = self.candidates.iter().map(|device| device.index).collect();
        let newest_ns = self.observed.values().filter_map(|observed| observed.seen_ns).max();
        let passed = |from_ns: u64, time_ns| newest_ns.is_some_and(|newest_ns| newest_ns >= from_ns + time_ns);
        let has_moved = |observed: &Observed| observed.seen_ns.is_some_and(|seen_ns| passed(seen_ns, TRIAL_NS));
        self.is_review_due |= self.observed.values().any(has_moved);
        self.review(now_ns, newest_ns.is_none());
        let waiting = self.waiting().count();
        let mut detach = Vec::new();
        self.observed.retain(|&index, observed| {
            let has_turn_ended = newest_ns.is_none() && waiting > 0 && now_ns >= observed.since_ns + TURN_NS;
            let is_useless = match observed.seen_ns {
                Some(seen_ns) => passed(seen_ns, QUIET_NS),
                None => has_turn_ended || passed(observed.since_ns, TRIAL_NS),
            };
            let is_kept = present.contains(&index) && !is_useless;
            if !is_kept {
                detach.push(index);
            }
            is_kept
        });
        self.given_up
            .extend(detach.iter().filter(|index| present.contains(index)));
        let room = MAX_HOOKS - self.observed.len();
        let attach: Vec<Device> = self.waiting().take(room).cloned().collect();
        for device in &attach {
            let observed = Observed {
                since_ns: now_ns,
                seen_ns: None,
            };
            self.observed.insert(device.index, observed);
        }
        Plan { detach, attach }
    }

    /// Has devices tried again that were given up, if probes may pass them now.
    fn review(&mut self, now_ns: u64, has_none_seen: bool) {
        let have_all_had_turns = has_none_seen && self.waiting().next().is_none();
        let is_early = self
            .reviewed_ns
            .is_some_and(|reviewed_ns| now_ns < reviewed_ns + REVIEW_NS);
        if (self.is_review_due || have_all_had_turns) && !is_early {
            self.given_up.clear();
            self.is_review_due = false;
            self.reviewed_ns = Some(now_ns);
        }
    }

    /// Devices that are neither observed nor given up.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Device> {
        let is_waiting = |device: &&Device| {
            let index = device.index;
            !self.observed.contains_key(&index) && !self.given_up.contains(&index)
        };
        self.candidates.iter().filter(is_waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            up: true,
            ethernet: true,
            kind: kind.map(str::to_owned),
            ..Link::default()
        }
    }

    fn indices(devices: &[Device]) -> Vec<u32> {
        devices.iter().map(|device| device.index).collect()
    }

    #[test]
    fn tunnels_come_first_then_nics_and_then_the_rest() {
        let links = [
            Link {
                loopback: true,
                ..link(1, "lo", None)
            },
            link(2, "eth0", None),
            link(3, "port1", Some("openvswitch")),
            link(4, "leg1", Some("veth")),
            link(5, "vxlan_sys_4789", Some("vxlan")),
            link(6, "bond0", Some("bond")),
            Link {
                up: false,
                ..link(7, "eth1", None)
            },
            Link {
                ethernet: false,
                ..link(8, "wg0", Some("wireguard"))
            },
            link(9, "genev_sys_6081", Some("geneve")),
            link(10, "br0", Some("bridge")),
        ];
        assert_eq!(indices(&candidates(&links, Some("port1"))), [5, 9, 2, 6, 4, 10]);
        assert_eq!(indices(&candidates(&links, None)), [5, 9, 2, 6, 3, 4, 10]);
    }

    /// Devices with these indices, in this order.
    fn census(number: u32) -> (Census, Vec<Device>) {
        let links: Vec<Link> = (1..=number)
            .map(|index| link(index, &format!("tap{index}"), Some("tun")))
            .collect();
        let devices = candidates(&links, None);
        let mut census = Census::default();
        census.follow(devices.clone());
        (census, devices)
    }

    fn plan(census: &mut Census, second: u64) -> (Vec<u32>, Vec<u32>) {
        let plan = census.plan(second * SECOND_NS);
        (plan.detach, indices(&plan.attach))
    }

    const NOTHING: (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());

    #[test]
    fn devices_without_probes_are_given_up_and_tried_again_after_a_change() {
        let (mut census, mut devices) = census(4);
        assert_eq!(plan(&mut census, 100), (vec![], vec![1, 2, 3, 4]));
        assert_eq!(plan(&mut census, 1_000), NOTHING, "no probe has been seen");
        census.note_seen(2, 109 * SECOND_NS);
        assert_eq!(plan(&mut census, 1_000), NOTHING, "others had no time yet");
        census.note_seen(2, 1_000 * SECOND_NS);
        census.note_seen(3, 1_000 * SECOND_NS);
        assert_eq!(plan(&mut census, 1_001), (vec![1, 4], vec![]));
        assert_eq!(indices(&census.observed()), [2, 3]);
        assert_eq!(plan(&mut census, 1_002), NOTHING);
        // One goes, and one comes.
        devices.retain(|device| device.index != 3);
        devices.push(Device {
            index: 9,
            name: "new".to_owned(),
            kind: Kind::Other,
        });
        census.follow(devices);
        assert_eq!(plan(&mut census, 1_200), (vec![3], vec![1, 4, 9]));
    }

    #[test]
    fn a_path_that_moves_is_looked_for_but_not_all_the_time() {
        let (mut census, _) = census(3);
        plan(&mut census, 0);
        for second in [1, 15] {
            census.note_seen(1, second * SECOND_NS);
            census.note_seen(2, second * SECOND_NS);
        }
        assert_eq!(plan(&mut census, 15), (vec![3], vec![]));
        // Device 2 sees none any more.
        census.note_seen(1, 30 * SECOND_NS);
        assert_eq!(plan(&mut census, 30), NOTHING, "reviewed a short time ago");
        census.note_seen(1, 60 * SECOND_NS);
        assert_eq!(plan(&mut census, 60), (vec![], vec![3]));
        census.note_seen(1, 80 * SECOND_NS);
        assert_eq!(plan(&mut census, 80), (vec![3], vec![]));
        assert_eq!(plan(&mut census, 81), NOTHING);
        census.note_seen(1, 616 * SECOND_NS);
        assert_eq!(plan(&mut census, 616).0, [2], "quiet for too long");
    }

    #[test]
    fn of_too_many_devices_those_with_probes_stay() {
        let (mut census, _) = census(40);
        assert_eq!(plan(&mut census, 0).1, (1..=16).collect::<Vec<_>>());
        assert_eq!(plan(&mut census, 29), NOTHING);
        // As long as none has seen a probe, all have their turn.
        assert_eq!(plan(&mut census, 30).1, (17..=32).collect::<Vec<_>>());
        assert_eq!(plan(&mut census, 60).1, (33..=40).collect::<Vec<_>>());
        assert_eq!(plan(&mut census, 61).1, (1..=8).collect::<Vec<_>>());
        census.note_seen(5, 71 * SECOND_NS);
        let (detached, attached) = plan(&mut census, 71);
        assert_eq!((detached.len(), census.observed().len()), (15, 16));
        assert!(!detached.contains(&5) && !attached.contains(&5));
    }

    #[test]
    fn a_device_that_cannot_be_observed_makes_room() {
        let (mut census, _) = census(17);
        plan(&mut census, 0);
        census.note_refused(3);
        assert_eq!(plan(&mut census, 1), (vec![], vec![17]));
        census.note_detached(5);
        assert_eq!(plan(&mut census, 2), (vec![], vec![5]), "others had detached it");
    }
}
