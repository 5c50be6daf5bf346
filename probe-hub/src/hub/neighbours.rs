//! Which ports probe each other: a pure function of the ports, their labels and the time, so that every hub chooses the same.
//!
//! Ports are sorted by a hash into rings, each with a seed of its own, and a port probes its successor on each ring. So it is
//! probed by its predecessors only, and a port that comes or goes concerns one other on each ring. A part of the targets
//! rotates, so that every pair meets: see [`Rotation`].

use sha2::{Digest, Sha256};

use crate::name::PortName;

pub const DEFAULT_TARGETS: usize = 32;
/// With fewer targets there would be no shares.
pub const MIN_TARGETS: usize = 4;

/// Positions of a ring that are searched for a neighbour.
const SEARCHED: usize = 64;

/// A port, as far as its neighbours depend on it. Numbers of labels are the same for equal labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// See [`Candidate::hash`].
    pub hash: u64,
    pub host: u32,
    pub network: u32,
    pub udp_port: u16,
    pub has_v4: bool,
    pub has_v6: bool,
    pub rack: Option<u32>,
    pub zone: Option<u32>,
    pub max_targets: usize,
}

impl Candidate {
    /// The same on every machine and in every version.
    pub fn hash(name: &PortName) -> u64 {
        let digest = Sha256::digest(name.tokens());
        u64::from_be_bytes(std::array::from_fn(|index| digest[index]))
    }

    fn reaches(&self, other: &Self) -> bool {
        (self.has_v4 && other.has_v4) || (self.has_v6 && other.has_v6)
    }

    fn may_probe(&self, other: &Self) -> bool {
        self.host != other.host && self.reaches(other)
    }
}

/// Indices of candidates, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours {
    pub targets: Vec<u32>,
    /// Who probes it now, and in the turns of the rotation before and after: a reflector must not refuse the first probes of a
    /// turn.
    pub probers: Vec<u32>,
}

/// Shares of the targets of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    targets: usize,
    /// In the same rack, if that is known.
    rack: usize,
    /// In other zones, if they are known.
    zone: usize,
    rotating: usize,
}

impl Shares {
    fn of(targets: usize) -> Self {
        let targets = targets.max(MIN_TARGETS);
        let quarter = targets / 4;
        Self {
            targets,
            rack: quarter,
            zone: quarter,
            rotating: quarter,
        }
    }

    /// Targets that do not rotate.
    fn fixed(self) -> usize {
        self.targets - self.rotating
    }

    /// Most ports that probe one port outside the rotation. With three turns of that, twice as many as it probes.
    fn max_probers(self) -> usize {
        2 * self.targets - 3 * self.rotating
    }
}

/// Chooses `targets` for each port. `turn` counts the turns of the rotation since 1970. The candidates have to be in an order
/// that every hub finds.
pub fn choose(candidates: &[Candidate], targets: usize, turn: u64) -> Vec<Neighbours> {
    let shares = Shares::of(targets);
    let mut neighbours = vec![Neighbours::default(); candidates.len()];
    let group_of = |index: &u32| {
        let candidate = &candidates[*index as usize];
        (candidate.network, candidate.udp_port)
    };
    let mut sorted: Vec<u32> = (0..candidates.len() as u32).collect();
    sorted.sort_by_key(group_of);
    for group in sorted.chunk_by(|a, b| group_of(a) == group_of(b)) {
        let ports: Vec<_> = group.iter().map(|index| &candidates[*index as usize]).collect();
        for (index, chosen) in group.iter().zip(choose_in_group(&ports, shares, turn)) {
            let ascending = |places: Vec<u32>| {
                let mut ports: Vec<_> = places.into_iter().map(|place| group[place as usize]).collect();
                ports.sort_unstable();
                ports.dedup();
                ports
            };
            neighbours[*index as usize] = Neighbours {
                targets: ascending(chosen.targets),
                probers: ascending(chosen.probers),
            };
        }
    }
    neighbours
}

/// Of ports that may probe each other. Indices are places among them.
fn choose_in_group(ports: &[&Candidate], shares: Shares, turn: u64) -> Vec<Neighbours> {
    let is_mesh = ports.len() <= shares.targets + 1;
    let fixed = if is_mesh {
        mesh(ports)
    } else {
        Rings::new(ports, shares).choose()
    };
    let mut neighbours: Vec<_> = fixed
        .into_iter()
        .map(|targets| Neighbours {
            targets,
            probers: Vec::new(),
        })
        .collect();
    let mut probers = vec![Vec::new(); ports.len()];
    if !is_mesh {
        let rotation = Rotation::new(ports, shares.rotating);
        for other in turn.saturating_sub(1)..=turn + 1 {
            for (prober, target) in rotation.pairs(other) {
                let (from, to) = (ports[prober as usize], ports[target as usize]);
                if !from.may_probe(to) {
                    continue;
                }
                let targets = &mut neighbours[prober as usize].targets;
                if other != turn {
                    probers[target as usize].push(prober);
                } else if targets.len() < from.max_targets && !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
    }
    for (prober, chosen) in neighbours.iter().enumerate() {
        for target in &chosen.targets {
            probers[*target as usize].push(prober as u32);
        }
    }
    for (chosen, probers) in neighbours.iter_mut().zip(probers) {
        chosen.probers = probers;
    }
    neighbours
}

/// Each port probes all others, but ports of its own host only if there are no others.
fn mesh(ports: &[&Candidate]) -> Vec<Vec<u32>> {
    let order = ring(ports, 0..ports.len() as u32, 0);
    let mut targets = vec![Vec::new(); ports.len()];
    for (position, place) in order.iter().enumerate() {
        let port = ports[*place as usize];
        // From its successor on, so that those that can take only some do not all take the same.
        let others = order[position + 1..].iter().chain(&order[..position]).copied();
        let (of_others, of_host): (Vec<_>, Vec<_>) = others
            .filter(|other| port.reaches(ports[*other as usize]))
            .partition(|other| port.host != ports[*other as usize].host);
        let mut chosen = if of_others.is_empty() { of_host } else { of_others };
        chosen.truncate(port.max_targets);
        targets[*place as usize] = chosen;
    }
    targets
}

/// The ports of `places` in the order of the ring `seed`.
fn ring(ports: &[&Candidate], places: impl IntoIterator<Item = u32>, seed: u64) -> Vec<u32> {
    let keyed = places
        .into_iter()
        .map(|place| (mix(ports[place as usize].hash, seed), place));
    let mut keyed: Vec<_> = keyed.collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, place)| place).collect()
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the hash and of the seed.
fn mix(hash: u64, seed: u64) -> u64 {
    let mut mixed = hash ^ seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Seeds of rings: those of the whole group from 0 on, then others.
const RACK_SEED: u64 = 1 << 32;
const ZONE_SEED: u64 = 2 << 32;
const ROTATION_SEED: u64 = 3 << 32;

/// Targets outside the rotation.
struct Rings<'a> {
    ports: &'a [&'a Candidate],
    shares: Shares,
    targets: Vec<Vec<u32>>,
    /// How many probe a port.
    probers: Vec<usize>,
}

impl<'a> Rings<'a> {
    fn new(ports: &'a [&'a Candidate], shares: Shares) -> Self {
        Self {
            ports,
            shares,
            targets: vec![Vec::with_capacity(shares.fixed()); ports.len()],
            probers: vec![0; ports.len()],
        }
    }

    fn choose(mut self) -> Vec<Vec<u32>> {
        let all = 0..self.ports.len() as u32;
        let mut by_rack: Vec<u32> = all
            .clone()
            .filter(|place| self.ports[*place as usize].rack.is_some())
            .collect();
        by_rack.sort_by_key(|place| self.ports[*place as usize].rack);
        let ports = self.ports;
        for rack in by_rack.chunk_by(|a, b| ports[*a as usize].rack == ports[*b as usize].rack) {
            for seed in 0..self.shares.rack as u64 {
                self.walk(
                    &ring(ports, rack.iter().copied(), RACK_SEED + seed),
                    SEARCHED,
                    |_, _| true,
                );
            }
        }
        let is_zoned = |port: &Candidate| port.zone.is_some();
        if ports.iter().any(|port| is_zoned(port)) {
            for seed in 0..self.shares.zone as u64 {
                let order = ring(ports, all.clone(), ZONE_SEED + seed);
                self.walk(&order, SEARCHED, |port, other| {
                    is_zoned(port) && is_zoned(other) && port.zone != other.zone
                });
            }
        }
        for seed in 0..2 * self.shares.fixed() as u64 {
            if all.clone().all(|place| self.is_full(place)) {
                return self.targets;
            }
            self.walk(&ring(ports, all.clone(), seed), SEARCHED, |_, _| true);
        }
        // Ports that few others can reach.
        let order = ring(ports, all, 0);
        for _ in 0..self.shares.fixed() {
            let before: usize = self.targets.iter().map(Vec::len).sum();
            self.walk(&order, order.len(), |_, _| true);
            if before == self.targets.iter().map(Vec::len).sum::<usize>() {
                break;
            }
        }
        self.targets
    }

    fn is_full(&self, place: u32) -> bool {
        let most = self.ports[place as usize]
            .max_targets
            .saturating_sub(self.shares.rotating);
        self.targets[place as usize].len() >= most.min(self.shares.fixed())
    }

    /// Adds to each port the first of the next `searched` on the ring that it may probe, and that is not probed by too many.
    fn walk(&mut self, order: &[u32], searched: usize, suits: impl Fn(&Candidate, &Candidate) -> bool) {
        for (position, place) in order.iter().enumerate() {
            if self.is_full(*place) {
                continue;
            }
            let port = self.ports[*place as usize];
            let next = order[position + 1..].iter().chain(&order[..position]).take(searched);
            let found = next.copied().find(|other| {
                let candidate = self.ports[*other as usize];
                port.may_probe(candidate)
                    && suits(port, candidate)
                    && self.probers[*other as usize] < self.shares.max_probers()
                    && !self.targets[*place as usize].contains(other)
            });
            if let Some(found) = found {
                self.targets[*place as usize].push(found);
                self.probers[found as usize] += 1;
            }
        }
    }
}

/// Ports have slots, at most `share` in one, and in each turn those of a slot probe those of the slot that is so many further
/// as the turn says. Half a round is enough, since a pair meets also if only one of the two probes.
struct Rotation {
    slots: Vec<Vec<u32>>,
}

impl Rotation {
    /// Slots are on average filled by 5/16 to 5/8: then few ports concern each other when one of them comes or goes.
    fn number_of_slots(ports: usize, share: usize) -> usize {
        (8 * ports).div_ceil(5 * share).next_power_of_two()
    }

    fn new(ports: &[&Candidate], share: usize) -> Self {
        let number = Self::number_of_slots(ports.len(), share);
        let mut slots = vec![Vec::new(); number];
        for place in ring(ports, 0..ports.len() as u32, ROTATION_SEED) {
            let hash = ports[place as usize].hash;
            let first = mix(hash, ROTATION_SEED + 1) as usize;
            // Odd, and the number of slots is a power of two: all slots are tried.
            let step = mix(hash, ROTATION_SEED + 2) as usize | 1;
            let tried = (0..number).map(|attempt| first.wrapping_add(attempt.wrapping_mul(step)) % number);
            let free = tried.into_iter().find(|slot| slots[*slot].len() < share);
            slots[free.unwrap_or(first % number)].push(place);
        }
        Self { slots }
    }

    /// Prober and target of a turn.
    fn pairs(&self, turn: u64) -> impl Iterator<Item = (u32, u32)> {
        let number = self.slots.len();
        let distance = (turn % turns(number)) as usize;
        self.slots.iter().enumerate().flat_map(move |(index, slot)| {
            let other = &self.slots[(index + distance) % number];
            let pairs = slot
                .iter()
                .flat_map(|prober| other.iter().map(|target| (*prober, *target)));
            pairs.filter(move |(prober, target)| distance != 0 || prober < target)
        })
    }
}

fn turns(slots: usize) -> u64 {
    slots as u64 / 2 + 1
}

/// Turns of the rotation in which every pair of `ports` meets, if each has `targets` targets.
pub fn coverage_turns(ports: usize, targets: usize) -> u64 {
    let shares = Shares::of(targets);
    if ports <= shares.targets + 1 {
        return 0;
    }
    turns(Rotation::number_of_slots(ports, shares.rotating))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    /// A host with one port, in a network without labels.
    fn candidate(index: u32) -> Candidate {
        Candidate {
            hash: Candidate::hash(&format!("host-{index}/port").parse().unwrap()),
            host: index,
            network: 0,
            udp_port: 1910,
            has_v4: true,
            has_v6: false,
            rack: None,
            zone: None,
            max_targets: 64,
        }
    }

    fn candidates(number: u32) -> Vec<Candidate> {
        (0..number).map(candidate).collect()
    }

    fn with_labels(number: u32, racks: u32, zones: u32) -> Vec<Candidate> {
        let labelled = |candidate: Candidate| Candidate {
            rack: Some(candidate.host % racks),
            zone: Some(candidate.host % racks % zones),
            ..candidate
        };
        candidates(number).into_iter().map(labelled).collect()
    }

    fn targets(neighbours: &[Neighbours]) -> impl Iterator<Item = (u32, u32)> {
        let numbered = neighbours.iter().enumerate();
        numbered.flat_map(|(prober, chosen)| chosen.targets.iter().map(move |target| (prober as u32, *target)))
    }

    #[test]
    fn few_ports_are_a_full_mesh() {
        let probed: Vec<_> = (0..5)
            .map(|number| choose(&candidates(number), 4, 7))
            .map(|all| targets(&all).count())
            .collect();
        assert_eq!(probed, [0, 0, 2, 6, 12]);
        assert_eq!(targets(&choose(&candidates(33), 32, 7)).count(), 33 * 32);
    }

    #[test]
    fn ports_of_one_host_probe_each_other_only_if_there_is_nothing_else() {
        let mut ports = candidates(3);
        ports[1].host = 0;
        assert_eq!(
            targets(&choose(&ports, 32, 0)).collect::<Vec<_>>(),
            [(0, 2), (1, 2), (2, 0), (2, 1)]
        );
        ports[2].udp_port = 862;
        assert_eq!(targets(&choose(&ports, 32, 0)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    }

    #[test]
    fn a_port_has_a_share_of_its_rack_and_of_other_zones() {
        let ports = with_labels(2000, 100, 4);
        let neighbours = choose(&ports, 32, 0);
        for (port, chosen) in ports.iter().zip(&neighbours) {
            let number = |test: &dyn Fn(&Candidate) -> bool| {
                chosen
                    .targets
                    .iter()
                    .filter(|target| test(&ports[**target as usize]))
                    .count()
            };
            assert!(number(&|other| other.rack == port.rack) >= 8);
            assert!(number(&|other| other.zone != port.zone) >= 8);
            assert!((24..=32).contains(&chosen.targets.len()), "{}", chosen.targets.len());
        }
    }

    #[test]
    fn without_labels_nearly_the_same_number_probes_every_port() {
        let neighbours = choose(&candidates(1000), 32, 0);
        let mut probers = vec![0; 1000];
        for (_, target) in targets(&neighbours) {
            probers[target as usize] += 1;
        }
        // 24 that stay, and up to 8 that rotate. A port whose successors on two rings are the same takes another.
        assert!(probers.iter().all(|number| (20..=36).contains(number)), "{probers:?}");
    }

    #[test]
    fn every_pair_meets_within_the_stated_turns() {
        for number in [40, 100, 257] {
            let ports = candidates(number);
            let mut met = BTreeSet::new();
            let first = 1_000_000;
            for turn in first..first + coverage_turns(ports.len(), 16) {
                let pairs = choose(&ports, 16, turn);
                met.extend(targets(&pairs).map(|(a, b)| (a.min(b), a.max(b))));
            }
            assert_eq!(met.len() as u32, number * (number - 1) / 2, "{number} ports");
        }
        assert_eq!(coverage_turns(33, 32), 0);
        assert_eq!(coverage_turns(10_000, 32), 1025);
        for ports in [34, 100, 1000, 12_345] {
            assert!(coverage_turns(ports, 32) as usize <= 8 * ports / (5 * 8) + 2, "{ports}");
        }
    }

    #[test]
    fn probers_of_a_turn_are_known_a_turn_before() {
        let ports = candidates(200);
        let turns: Vec<_> = (10..13).map(|turn| choose(&ports, 16, turn)).collect();
        for (prober, target) in targets(&turns[1]) {
            for other in &turns {
                assert!(other[target as usize].probers.contains(&prober));
            }
        }
    }

    /// Ports other than `gone` whose targets change when it goes.
    fn changed(ports: &[Candidate], gone: usize) -> usize {
        let before = choose(ports, 32, 3);
        let mut left = ports.to_vec();
        left.remove(gone);
        let after = choose(&left, 32, 3);
        let index_before = |index: u32| if index as usize >= gone { index + 1 } else { index };
        let mut changed = 0;
        for (index, chosen) in after.iter().enumerate() {
            let targets: Vec<_> = chosen.targets.iter().map(|target| index_before(*target)).collect();
            changed += usize::from(targets != before[index_before(index as u32) as usize].targets);
        }
        changed
    }

    #[test]
    fn a_port_that_goes_changes_at_most_as_many_others_as_it_has_targets() {
        for ports in [candidates(200), candidates(500), with_labels(500, 20, 3)] {
            let tried: Vec<_> = (0..ports.len()).step_by(23).map(|gone| changed(&ports, gone)).collect();
            let average = tried.iter().sum::<usize>() as f64 / tried.len() as f64;
            println!(
                "{} ports: {average:.1} of the others change, at most {:?}",
                ports.len(),
                tried.iter().max()
            );
            assert!(average <= 33.0, "{average}: {tried:?}");
        }
    }

    #[test]
    #[ignore = "measures; run it alone, with --release"]
    fn ten_thousand_ports_are_assigned_quickly() {
        let mut mixed = with_labels(10_000, 250, 4);
        for port in &mut mixed {
            (port.has_v4, port.has_v6) = (port.host % 100 != 0, port.host % 100 < 2);
        }
        for (what, ports) in [
            ("no labels", candidates(10_000)),
            ("250 racks, 4 zones", with_labels(10_000, 250, 4)),
            ("and 1 % without IPv4", mixed),
            ("100,000, 2,500 racks, 20 zones", with_labels(100_000, 2500, 20)),
            (
                "1,000,000, 25,000 racks, 100 zones",
                with_labels(1_000_000, 25_000, 100),
            ),
        ] {
            let started = Instant::now();
            let neighbours = choose(&ports, 32, 1000);
            let taken = started.elapsed();
            let probers = neighbours.iter().map(|chosen| chosen.probers.len());
            let fewest = neighbours.iter().map(|chosen| chosen.targets.len()).min();
            println!(
                "{what}: {taken:?}; targets: at least {fewest:?}; probers: at most {:?}",
                probers.max()
            );
        }
    }

    prop_compose! {
        fn any_port()(
            host in 0..40_u32,
            interface in 0..1000_u32,
            network in prop::sample::select(vec![0_u32, 0, 0, 1]),
            udp_port in prop::sample::select(vec![1910_u16, 1910, 1910, 862]),
            (has_v4, has_v6) in prop::sample::select(vec![(true, false), (true, false), (true, true), (false, true)]),
            rack in prop::option::of(0..5_u32),
            zone in prop::option::of(0..3_u32),
            max_targets in prop::sample::select(vec![64_usize, 64, 64, 5]),
        ) -> Candidate {
            let hash = Candidate::hash(&format!("{host}/{interface}").parse().unwrap());
            Candidate { hash, host, network, udp_port, has_v4, has_v6, rack, zone, max_targets }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn neighbours_can_probe_each_other_and_are_bounded(
            ports in prop::collection::vec(any_port(), 0..200),
            most in 4..20_usize,
            turn in 0..10_000_u64,
        ) {
            let neighbours = choose(&ports, most, turn);
            for (index, chosen) in neighbours.iter().enumerate() {
                let port = &ports[index];
                prop_assert!(chosen.targets.len() <= (most).min(port.max_targets));
                prop_assert!(chosen.probers.len() <= 2 * most, "{} probers", chosen.probers.len());
                let mut has_others = false;
                for (other, candidate) in ports.iter().enumerate() {
                    let is_of_group = (port.network, port.udp_port) == (candidate.network, candidate.udp_port);
                    has_others |= other != index && is_of_group && port.may_probe(candidate);
                }
                for target in &chosen.targets {
                    let other = &ports[*target as usize];
                    prop_assert!(*target as usize != index);
                    prop_assert_eq!((port.network, port.udp_port), (other.network, other.udp_port));
                    prop_assert!(port.reaches(other));
                    prop_assert!(!has_others || port.host != other.host);
                    prop_assert!(neighbours[*target as usize].probers.contains(&(index as u32)));
                }
                prop_assert!(!has_others || !chosen.targets.is_empty());
            }
        }
    }
}
