//! Records of hop stamps: where round trips spent their time, and where probes were lost. They are read back as they are
//! written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use probe_core::direction::Direction;
use probe_core::hops::{Cause, Half, Hook, HopSample, HopWindow, Part, Role, Segment, Split};
use probe_core::session::Outcome;
use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{Path, Summary};
use serde::{Deserialize, Serialize};

use crate::output::fields;
use crate::output::time::{Utc, UtcOffset};

/// A device at which probes and replies were stamped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub device: String,
    #[serde(with = "fields::RoleName")]
    pub role: Role,
}

fn devices(hooks: &[Hook]) -> Vec<Device> {
    let device = |hook: &Hook| Device {
        device: hook.device.clone(),
        role: hook.role,
    };
    hooks.iter().map(device).collect()
}

/// One peer and path over one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hops {
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    #[serde(with = "fields::PathName")]
    pub path: Path,
    pub start: Utc,
    pub end: Utc,
    pub own_devices: Vec<Device>,
    /// `None` if the peer has sent none.
    pub far_devices: Option<Vec<Device>>,
    /// Answered probes by what is known of them.
    pub both_halves: u64,
    pub own_half: u64,
    pub no_half: u64,
    pub contradictory: u64,
    /// In the order of the path.
    pub parts: Vec<PartResults>,
    #[serde(
        serialize_with = "fields::distribution",
        deserialize_with = "fields::read_distribution"
    )]
    pub rest_ns: Option<Summary>,
    pub clock: Option<String>,
    pub clock_bound_ns: Option<u64>,
    pub lost: u64,
    pub lost_late: u64,
    pub lost_unknown: u64,
    pub outliers: u64,
    pub outliers_left_out: u64,
    pub threshold_ns: Option<u64>,
}

/// A segment in one direction, or in both together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartResults {
    #[serde(flatten, with = "fields::PartFields")]
    pub part: Part,
    #[serde(
        serialize_with = "fields::distribution",
        deserialize_with = "fields::read_distribution"
    )]
    pub delay_ns: Option<Summary>,
    pub lost: u64,
    /// In buckets, for metrics; no record has them.
    #[serde(skip)]
    pub delays: Option<Box<NativeHistogram>>,
}

impl Hops {
    pub fn new(window: &HopWindow, peer_name: Option<String>, utc: UtcOffset) -> Self {
        let lost = &window.lost_at;
        let rests_on_clock = |part: Part| part.segment == Segment::Underlay && part.direction.is_some();
        // Without the underlay by direction, nothing here rests on a clock.
        let clock = window
            .clock
            .filter(|_| window.parts.iter().any(|known| rests_on_clock(known.part)));
        let nothing = |part| PartResults {
            part,
            delay_ns: None,
            lost: 0,
            delays: None,
        };
        let mut parts: BTreeMap<Part, PartResults> = BTreeMap::new();
        for known in &window.parts {
            let part = parts.entry(known.part).or_insert_with(|| nothing(known.part));
            part.delay_ns = Some(known.summary);
            part.delays = known.delays.clone().map(Box::new);
        }
        for (&part, &lost) in &lost.at {
            parts.entry(part).or_insert_with(|| nothing(part)).lost = lost;
        }
        Self {
            peer: window.peer,
            peer_name,
            path: window.path,
            start: utc.utc(window.start_ns),
            end: utc.utc(window.end_ns),
            own_devices: devices(&window.own_hooks),
            far_devices: (!window.far_hooks.is_empty()).then(|| devices(&window.far_hooks)),
            both_halves: window.halves.both,
            own_half: window.halves.own,
            no_half: window.halves.none,
            contradictory: window.halves.contradictory,
            parts: parts.into_values().collect(),
            rest_ns: window.rest_ns,
            clock: clock.map(|clock| clock.name().to_owned()),
            clock_bound_ns: clock.and_then(|clock| clock.bound_ns()),
            lost: lost.total(),
            lost_late: lost.late,
            lost_unknown: lost.unknown,
            outliers: window.outliers,
            outliers_left_out: window.outliers_left_out,
            threshold_ns: window.threshold_ns,
        }
    }

    /// Adds a later window. Quantiles of several windows cannot be added: see [`merged`].
    pub fn add(&mut self, later: &Self) {
        self.end = later.end;
        if later.peer_name.is_some() {
            self.peer_name.clone_from(&later.peer_name);
        }
        if !later.own_devices.is_empty() {
            self.own_devices.clone_from(&later.own_devices);
        }
        if later.far_devices.is_some() {
            self.far_devices.clone_from(&later.far_devices);
        }
        for part in &later.parts {
            match self.parts.binary_search_by_key(&part.part, |part| part.part) {
                Ok(place) => {
                    let known = &mut self.parts[place];
                    known.delay_ns = merged(known.delay_ns, part.delay_ns);
                    known.lost = known.lost.saturating_add(part.lost);
                }
                Err(place) => self.parts.insert(place, part.without_buckets()),
            }
        }
        self.rest_ns = merged(self.rest_ns, later.rest_ns);
        if later.clock.is_some() {
            self.clock.clone_from(&later.clock);
            self.clock_bound_ns = later.clock_bound_ns;
        }
        self.threshold_ns = later.threshold_ns;
        for (sum, more) in [
            (&mut self.both_halves, later.both_halves),
            (&mut self.own_half, later.own_half),
            (&mut self.no_half, later.no_half),
            (&mut self.contradictory, later.contradictory),
            (&mut self.lost, later.lost),
            (&mut self.lost_late, later.lost_late),
            (&mut self.lost_unknown, later.lost_unknown),
            (&mut self.outliers, later.outliers),
            (&mut self.outliers_left_out, later.outliers_left_out),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// The same without what only metrics need.
    pub fn without_buckets(&self) -> Self {
        Self {
            parts: self.parts.iter().map(PartResults::without_buckets).collect(),
            ..self.clone()
        }
    }

    /// A segment in one direction; `None`: in both together.
    pub fn part(&self, segment: Segment, direction: Option<Direction>) -> Option<&PartResults> {
        let wanted = Part { segment, direction };
        self.parts.iter().find(|part| part.part == wanted)
    }

    /// The segments of which something is known, in the order of the path.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        let is_known = |segment: &Segment| self.parts.iter().any(|part| part.part.segment == *segment);
        Segment::ALL.into_iter().filter(is_known)
    }

    /// How long an average round trip was in each segment, less the residence; `None` for what is not split.
    pub fn shares(&self) -> Vec<(Option<Segment>, i64)> {
        let mean = |segment, direction| Some(self.part(segment, direction)?.delay_ns?.mean);
        let share = |segment| match segment {
            Segment::Reflector => None,
            // By direction it is only as true as the clocks.
            Segment::Underlay => mean(segment, None),
            _ => {
                let ways = [Direction::Forward, Direction::Backward];
                let means = ways.map(|direction| mean(segment, Some(direction)));
                means.into_iter().flatten().reduce(i64::saturating_add)
            }
        };
        let known = self
            .segments()
            .filter_map(|segment| Some((Some(segment), share(segment)?)));
        let rest = self.rest_ns.map(|rest| (None, rest.mean));
        // With both halves of some probes, the rest is that of others.
        known.chain(rest.filter(|_| self.both_halves == 0)).collect()
    }

    /// The devices at both ends of a segment, from this host to the other. `port` is where this host sends probes. A device that
    /// is not known is shown as its host.
    pub fn ends(&self, segment: Segment, port: &str) -> String {
        const FAR_PORT: &str = "peer's port";
        /// A switch ends at the leg on a host where no other device sees probes.
        const INNER: [Role; 3] = [Role::Tunnel, Role::Nic, Role::Leg];
        const OUTER: [Role; 3] = [Role::Nic, Role::Tunnel, Role::Leg];
        let own = |roles: &[Role]| of_role(&self.own_devices, roles).unwrap_or_else(|| "this host".to_owned());
        let far = |roles: &[Role]| {
            let devices = self.far_devices.as_deref().unwrap_or_default();
            of_role(devices, roles).unwrap_or_else(|| "peer's host".to_owned())
        };
        let ends = match segment {
            Segment::OwnSwitch => [port.to_owned(), own(&INNER)],
            Segment::OwnEncapsulation => [own(&[Role::Tunnel]), own(&[Role::Nic])],
            Segment::Underlay => [own(&OUTER), far(&OUTER)],
            Segment::FarEncapsulation => [far(&[Role::Nic]), far(&[Role::Tunnel])],
            Segment::FarSwitch => [far(&INNER), FAR_PORT.to_owned()],
            Segment::Reflector => return FAR_PORT.to_owned(),
        };
        ends.join(" → ")
    }
}

impl PartResults {
    fn without_buckets(&self) -> Self {
        Self { delays: None, ..*self }
    }
}

/// Of two distributions: the mean of all, the mean of the medians, and the largest of the other quantiles.
fn merged(one: Option<Summary>, other: Option<Summary>) -> Option<Summary> {
    let (Some(one), Some(other)) = (one, other) else {
        return one.or(other);
    };
    let mean = |a: i64, b: i64| {
        let [a, b] = [(a, one.count), (b, other.count)].map(|(value, count)| i128::from(value) * i128::from(count));
        let mean = (a + b) / i128::from(one.count.saturating_add(other.count).max(1));
        i64::try_from(mean).unwrap_or(i64::MAX)
    };
    Some(Summary {
        min: one.min.min(other.min),
        mean: mean(one.mean, other.mean),
        p50: mean(one.p50, other.p50),
        p90: one.p90.max(other.p90),
        p99: one.p99.max(other.p99),
        p999: one.p999.max(other.p999),
        max: one.max.max(other.max),
        stddev: one.stddev.max(other.stddev),
        count: one.count.saturating_add(other.count),
    })
}

/// The hops of a peer and path: of the last window, and of all so far.
#[derive(Debug, Clone, PartialEq)]
pub struct HopHistory {
    pub latest: Hops,
    pub whole: Hops,
}

impl HopHistory {
    pub fn new(hops: &Hops) -> Self {
        let hops = hops.without_buckets();
        Self {
            latest: hops.clone(),
            whole: hops,
        }
    }

    /// Adds a window, unless it is there already.
    pub fn add(&mut self, hops: &Hops) {
        if hops.end > self.latest.end {
            self.latest = hops.without_buckets();
            self.whole.add(hops);
        }
    }

    /// Adds a window to what may be there.
    pub fn add_to(history: &mut Option<Box<Self>>, hops: &Hops) {
        match history {
            Some(history) => history.add(hops),
            None => *history = Some(Box::new(Self::new(hops))),
        }
    }
}

/// The names of the devices of the first role that there is.
fn of_role(devices: &[Device], roles: &[Role]) -> Option<String> {
    roles.iter().find_map(|role| {
        let of_role = devices.iter().filter(|device| device.role == *role);
        let names: Vec<&str> = of_role.map(|device| device.device.as_str()).collect();
        (!names.is_empty()).then(|| names.join("/"))
    })
}

/// How long one probe was in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartDelay {
    #[serde(flatten, with = "fields::PartFields")]
    pub part: Part,
    pub delay_ns: u64,
}

fn delays(split: &Split) -> Vec<PartDelay> {
    let mut parts: Vec<PartDelay> = split
        .parts()
        .map(|(part, delay_ns)| PartDelay { part, delay_ns })
        .collect();
    parts.sort_by_key(|delay| delay.part);
    parts
}

/// A stamp of one probe or of its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stamp {
    pub host: Host,
    pub device: String,
    #[serde(with = "fields::direction")]
    pub direction: Option<Direction>,
    pub egress: bool,
    /// UTC since 1970, by the clock of that host.
    pub at_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    Own,
    Far,
}

/// One probe, its stamps, and where it spent its time or was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub peer: IpAddr,
    #[serde(with = "fields::PathName")]
    pub path: Path,
    pub seq: u32,
    pub sent_ns: u64,
    #[serde(serialize_with = "fields::outcome")]
    pub state: Outcome,
    pub far_half: bool,
    pub stamps: Vec<Stamp>,
    pub elapsed_ns: Option<u64>,
    pub parts: Vec<PartDelay>,
    pub rest_ns: Option<u64>,
    pub lost_segment: Option<&'static str>,
    pub lost_direction: Option<&'static str>,
}

impl Probe {
    pub fn new(sample: &HopSample, utc: UtcOffset) -> Self {
        let own = stamps(Host::Own, &sample.own, |mono_ns| utc.utc(mono_ns).unix_ns);
        let far = sample
            .far
            .iter()
            .flat_map(|half| stamps(Host::Far, half, |utc_ns| utc_ns));
        Self {
            peer: sample.peer,
            path: sample.path,
            seq: sample.seq,
            sent_ns: utc.utc(sample.sent_ns).unix_ns,
            state: sample.outcome,
            far_half: sample.far.is_some(),
            stamps: own.chain(far).collect(),
            elapsed_ns: sample.split.map(|split| split.elapsed_ns),
            parts: sample.split.as_ref().map(delays).unwrap_or_default(),
            rest_ns: sample.split.map(|split| split.rest_ns),
            lost_segment: sample.lost_at.map(|part| part.segment.name()),
            lost_direction: sample.lost_at.map(|part| fields::direction_name(part.direction)),
        }
    }
}

fn stamps(host: Host, half: &Half, utc_ns: impl Fn(u64) -> u64) -> impl Iterator<Item = Stamp> {
    half.marks.iter().filter_map(move |mark| {
        let hook = half.hooks.get(usize::from(mark.hook.0))?;
        Some(Stamp {
            host,
            device: hook.device.clone(),
            direction: Some(mark.direction),
            egress: mark.egress,
            at_ns: utc_ns(mark.at_ns),
        })
    })
}

/// A probe whose round trip was over the threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlier {
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    #[serde(with = "fields::PathName")]
    pub path: Path,
    pub seq: u32,
    pub time: Utc,
    pub elapsed_ns: u64,
    pub threshold_ns: u64,
    pub parts: Vec<PartDelay>,
    pub rest_ns: u64,
    /// Where it waited longer than probes do; `None` if that is not known.
    pub largest_segment: Option<String>,
    pub largest_direction: Option<String>,
    pub largest_ns: Option<u64>,
    pub ordinary_ns: Option<u64>,
    pub cause: Option<String>,
    pub upcall_wait_ns: Option<u64>,
    pub upcall_host: Option<Host>,
    pub cpu_wait_ns: Option<u64>,
    pub cpu_host: Option<Host>,
}

impl Outlier {
    pub fn new(outlier: &probe_core::hops::Outlier, peer_name: Option<String>, utc: UtcOffset) -> Self {
        let largest = outlier.largest;
        let host = |far| if far { Host::Far } else { Host::Own };
        let (upcall, cpu) = match outlier.cause {
            Some(Cause::Upcall { wait_ns, far, .. }) => (Some((wait_ns, host(far))), None),
            Some(Cause::Cpu { wait_ns, far, .. }) => (None, Some((wait_ns, host(far)))),
            _ => (None, None),
        };
        Self {
            peer: outlier.peer,
            peer_name,
            path: outlier.path,
            seq: outlier.seq,
            time: utc.utc(outlier.sent_ns),
            elapsed_ns: outlier.split.elapsed_ns,
            threshold_ns: outlier.threshold_ns,
            parts: delays(&outlier.split),
            rest_ns: outlier.split.rest_ns,
            largest_segment: largest.map(|excess| excess.part.segment.name().to_owned()),
            largest_direction: largest.map(|excess| fields::direction_name(excess.part.direction).to_owned()),
            largest_ns: largest.map(|excess| excess.took_ns),
            ordinary_ns: largest.and_then(|excess| excess.ordinary_ns),
            cause: outlier.cause.map(|cause| cause_name(cause).to_owned()),
            upcall_wait_ns: upcall.map(|(wait_ns, _)| wait_ns),
            upcall_host: upcall.map(|(_, host)| host),
            cpu_wait_ns: cpu.map(|(wait_ns, _)| wait_ns),
            cpu_host: cpu.map(|(_, host)| host),
        }
    }
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Upcall { .. } => "upcall",
        Cause::Cpu { .. } => "cpu",
        Cause::Queue => "queue",
        Cause::FarSwitch => "far_switch",
        Cause::Underlay => "underlay",
        Cause::Reflector => "reflector",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixtures::hops;

    fn devices(text: &str) -> Vec<Device> {
        let device = |(place, name): (usize, &str)| Device {
            device: name.to_owned(),
            role: [Role::Leg, Role::Tunnel, Role::Nic][place],
        };
        let named = text.split(' ').enumerate().filter(|(_, name)| *name != "-");
        named.map(device).collect()
    }

    #[test]
    fn a_segment_ends_at_the_devices_that_are_known_or_at_a_host() {
        let both = "veth0 vxlan0 eth0";
        for (own, far, ends) in [
            (
                both,
                both,
                [
                    "p1 → vxlan0",
                    "vxlan0 → eth0",
                    "eth0 → eth0",
                    "eth0 → vxlan0",
                    "vxlan0 → peer's port",
                ],
            ),
            (
                "veth0 - -",
                "veth1 - -",
                [
                    "p1 → veth0",
                    "this host → this host",
                    "veth0 → veth1",
                    "peer's host → peer's host",
                    "veth1 → peer's port",
                ],
            ),
            (
                "- - eth0",
                "- - -",
                [
                    "p1 → eth0",
                    "this host → eth0",
                    "eth0 → peer's host",
                    "peer's host → peer's host",
                    "peer's host → peer's port",
                ],
            ),
            (
                "- - -",
                "- vxlan1 -",
                [
                    "p1 → this host",
                    "this host → this host",
                    "this host → vxlan1",
                    "peer's host → vxlan1",
                    "vxlan1 → peer's port",
                ],
            ),
        ] {
            let hops = Hops {
                own_devices: devices(own),
                far_devices: Some(devices(far)).filter(|devices| !devices.is_empty()),
                ..hops()
            };
            let all = Segment::ALL.map(|segment| hops.ends(segment, "p1"));
            assert_eq!(all[..5], ends, "{own}, {far}");
            assert_eq!(all[5], "peer's port");
        }
    }
}
