//! Records of hop stamps: where round trips spent their time, and where probes were lost. They are read back as they are
//! written.

use std::net::IpAddr;

use probe_core::direction::Direction;
use probe_core::hops::{Role, Segment};
use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::Summary;
use serde::{Deserialize, Serialize};

use crate::output::fields::{self, SEGMENTS};
use crate::output::time::Utc;

/// A device at which probes and replies were stamped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub device: String,
    #[serde(with = "fields::RoleName")]
    pub role: Role,
}

/// One peer over one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hops {
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    pub start: Utc,
    pub end: Utc,
    pub both_halves: u64,
    pub near_half: u64,
    pub far_half_missing: Option<String>,
    pub own_devices: Vec<Device>,
    pub far_devices: Option<Vec<Device>>,
    /// In the order of the path, forward before backward.
    pub segments: Vec<SegmentResults>,
    pub lost: u64,
    pub lost_unknown: u64,
}

/// A segment in one direction, or in both together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentResults {
    #[serde(with = "fields::segment")]
    pub segment: Segment,
    #[serde(with = "fields::direction")]
    pub direction: Option<Direction>,
    #[serde(
        serialize_with = "fields::distribution",
        deserialize_with = "fields::read_distribution"
    )]
    pub delay_ns: Option<Summary>,
    pub lost: u64,
    /// In buckets, for metrics; no record has them.
    #[serde(skip)]
    pub delays: Option<NativeHistogram>,
}

impl Hops {
    /// The part of a segment in one direction; `None`: in both together.
    pub fn part(&self, segment: Segment, direction: Option<Direction>) -> Option<&SegmentResults> {
        let is_it = |part: &&SegmentResults| (part.segment, part.direction) == (segment, direction);
        self.segments.iter().find(is_it)
    }

    /// The segments that the window has, in the order of the path.
    pub fn known(&self) -> impl Iterator<Item = Segment> {
        let all = SEGMENTS.iter().map(|(segment, _)| *segment);
        all.filter(|segment| self.segments.iter().any(|part| part.segment == *segment))
    }

    /// How long a round trip was in each segment, on average; `None` if the far half is not known. The time in the reflector
    /// is not part of a round trip.
    pub fn shares(&self) -> Option<Vec<(Segment, i64)>> {
        let mean = |segment, direction| {
            let part = self.part(segment, direction);
            part.map(|part| part.delay_ns.map(|delay| delay.mean))
        };
        let share = |segment| match segment {
            // Its directions are known only as well as the clocks.
            Segment::Underlay => mean(segment, None)?,
            _ => {
                let [forward, backward] = [Direction::Forward, Direction::Backward].map(|way| mean(segment, Some(way)));
                Some(forward?? + backward??)
            }
        };
        let segments = self.known().filter(|segment| *segment != Segment::Reflector);
        segments.map(|segment| Some((segment, share(segment)?))).collect()
    }

    /// The devices at both ends of a segment, from this host to the far one. `port` is where this host sends probes.
    pub fn ends(&self, segment: Segment, port: &str) -> [String; 2] {
        let own = |roles: &[Role]| first(&self.own_devices, roles);
        let far = |roles: &[Role]| self.far_devices.as_deref().and_then(|devices| first(devices, roles));
        let inner = [Role::Tunnel, Role::Nic];
        let port = || Some(port.to_owned());
        let far_port = || self.far_devices.is_some().then(|| "port".to_owned());
        let ends = match segment {
            Segment::OwnSwitch => [port(), own(&inner)],
            Segment::OwnEncapsulation => [own(&[Role::Tunnel]), own(&[Role::Nic])],
            Segment::Underlay => [own(&[Role::Nic]), far(&[Role::Nic])],
            Segment::FarEncapsulation => [far(&[Role::Nic]), far(&[Role::Tunnel])],
            Segment::FarSwitch => [far(&inner), far_port()],
            Segment::Reflector => [far_port(), far_port()],
        };
        ends.map(|device| device.unwrap_or_else(|| "?".to_owned()))
    }
}

/// The names of the devices of the first role that there is.
fn first(devices: &[Device], roles: &[Role]) -> Option<String> {
    roles.iter().find_map(|role| {
        let of_role = devices.iter().filter(|device| device.role == *role);
        let names: Vec<&str> = of_role.map(|device| device.device.as_str()).collect();
        (!names.is_empty()).then(|| names.join("/"))
    })
}

/// How long one probe was in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentDelay {
    #[serde(with = "fields::segment")]
    pub segment: Segment,
    #[serde(with = "fields::direction")]
    pub direction: Option<Direction>,
    pub delay_ns: i64,
}

/// A probe that took longer than a threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlier {
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    pub seq: u32,
    pub time: Utc,
    pub rtt_ns: u64,
    pub threshold_ns: u64,
    /// In the order of the path.
    pub segments: Vec<SegmentDelay>,
    /// The segment that is furthest above its ordinary time.
    pub largest: Option<Largest>,
    pub cause: Option<String>,
    pub cause_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Largest {
    #[serde(flatten)]
    pub part: SegmentDelay,
    /// The median of the segment.
    pub ordinary_ns: Option<i64>,
}
