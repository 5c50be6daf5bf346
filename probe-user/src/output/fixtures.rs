//! Records for the tests of the exporters.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use probe_common::family::Family;
use probe_core::agent::event::{DownReason, Found};
use probe_core::attach::AttachMode;
use probe_core::direction::Direction;
use probe_core::hops::{
    Half, Halves, Hook, HookId, HopSample, HopWindow, LostAt, Mark, Part, PartDurations, Role, Segment,
};
use probe_core::identity::Identity;
use probe_core::observation::SendFailure;
use probe_core::session::Outcome;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::{ClockSteps, Counts, OneWayClock, Path, Patterns, Report, Summary};
use probe_host::ovs::{PortFacts, Tunnel};
use probe_io::port::Engine;

use crate::output::jsonl::Jsonl;
use crate::output::model::hops::{Hops, Host, Outlier, PartDelay};
use crate::output::model::{
    Attach, AttachChange, Clock, ClockStep, Context, Counters, Downtime, End, Event, Exporter, InterfaceChange,
    InterfaceEvent, Method, OvsChange, PeerChange, PeerEvent, Results, Start, Windows,
};
use crate::output::time::{Utc, UtcOffset};

/// 2026-11-21T10:10:38Z, when the monotonic clock was 0.
const UNIX_NS: u64 = 1_795_255_838_000_000_000;

const ATTACH: Attach = Attach {
    egress: Some(AttachMode::Tc),
    receive: AttachMode::XdpNative,
};

fn time() -> Utc {
    Utc { unix_ns: UNIX_NS }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn start() -> Start {
    Start {
        version: "0.1.0".to_owned(),
        interface: "p1".to_owned(),
        attach: ATTACH,
        attach_reason: "the fastest mode that this device supports".to_owned(),
        engine: Engine::Ebpf,
        authenticated: false,
        clock: Clock {
            synchronised: true,
            error_ns: 1_200_000,
            tai_offset_s: 37,
        },
        kernel: "6.1.0-32-amd64".to_owned(),
        name: "h1:p1".to_owned(),
        fleet: None,
        ovs: None,
        addresses: vec![ip("10.1.1.5"), ip("fe80::5")],
        port: 1910,
        ports: vec![1910],
        groups: vec![ip("239.255.255.250"), ip("ff0e::10")],
        peers: vec![],
        group_probes: true,
        interval_ns: Some(500_000_000),
        timeout_ns: Some(2_000_000_000),
        allowed: vec!["10.1.1.0/24".to_owned(), "fe80::/64".to_owned()],
        rate: 1_000_000,
        rate_source: 50_000,
        rate_group: 20_000,
        volley_limit: 50_000,
        user: "root".to_owned(),
        capabilities: vec!["CAP_NET_ADMIN".to_owned()],
        time: time(),
    }
}

pub fn reflector() -> Start {
    let clock = Clock {
        synchronised: false,
        error_ns: 16_000_000_000,
        tai_offset_s: 0,
    };
    Start {
        attach: Attach { egress: None, ..ATTACH },
        group_probes: false,
        interval_ns: None,
        timeout_ns: None,
        clock,
        ..start()
    }
}

pub fn attach_change() -> AttachChange {
    let reason = "p1 dropped the replies that native XDP transmitted".to_owned();
    AttachChange {
        receive: AttachMode::XdpGeneric,
        reason,
        time: time(),
    }
}

/// A port of br-int, whose tunnels are on br-tun.
pub fn port_facts() -> PortFacts {
    PortFacts {
        bridge: "br-int".to_owned(),
        datapath_type: "system".to_owned(),
        port: "p1".to_owned(),
        interface: "p1".to_owned(),
        kind: "internal".to_owned(),
        ofport: Some(3),
        vlan: Some(7),
        iface_id: Some("vm-1".to_owned()),
        tunnels: vec![Tunnel {
            name: "vxlan-2".to_owned(),
            bridge: "br-tun".to_owned(),
            kind: "vxlan".to_owned(),
            key: Some("42".to_owned()),
            remote_ip: Some("172.16.0.2".to_owned()),
            local_ip: Some("172.16.0.1".to_owned()),
        }],
        more_tunnels: 0,
        version: Some("3.1.0".to_owned()),
    }
}

pub fn ovs_change(ovs: Option<PortFacts>) -> OvsChange {
    OvsChange {
        interface: "p1".to_owned(),
        ovs,
        time: time(),
    }
}

pub fn interface_change(event: InterfaceEvent) -> InterfaceChange {
    InterfaceChange {
        event,
        interface: "p1".to_owned(),
        group: (event == InterfaceEvent::Joined).then(|| ip("ff0e::10")),
        time: time(),
    }
}

pub fn peer_change(event: PeerEvent, found: Found, name: Option<&str>) -> PeerChange {
    let (name, version) = (name.map(str::to_owned), name.map(|_| "0.1.0".to_owned()));
    PeerChange {
        event,
        reason: (event == PeerEvent::Down).then_some(DownReason::Silent),
        peer: ip("10.1.1.6"),
        moved_from: (event == PeerEvent::Moved).then(|| ip("10.1.1.7")),
        found,
        method: Method::Stamp,
        name,
        version,
        time: time(),
    }
}

pub fn clock_step(peer: Option<&str>, by_ns: i64) -> ClockStep {
    ClockStep {
        peer: peer.map(ip),
        by_ns,
        left_out: 0,
        time: time(),
    }
}

fn summary(min: i64, p50: i64, max: i64) -> Summary {
    Summary {
        min,
        mean: (min + p50 + max) / 3,
        p50,
        p90: max,
        p99: max,
        p999: max,
        max,
        stddev: 10,
        count: 20,
    }
}

/// A report of ten seconds without any delay.
pub fn unmeasured(peer: &str) -> Report {
    Report {
        peer: ip(peer),
        path: Path::Unicast,
        start_ns: 0,
        end_ns: 10_000_000_000,
        counts: Counts::default(),
        failures: BTreeMap::new(),
        rtt_ns: None,
        residence_ns: None,
        forward_ns: None,
        backward_ns: None,
        pdv_ns: None,
        ipdv_ns: None,
        clock: None,
        forward_pdv_ns: None,
        backward_pdv_ns: None,
        steps: ClockSteps::default(),
        patterns: Patterns::default(),
        delays: None,
    }
}

/// A peer on the same clock, without losses.
pub fn good() -> Results {
    let report = Report {
        end_ns: 10_000_000_001,
        counts: Counts {
            sent: 20,
            received: 20,
            ..Counts::default()
        },
        rtt_ns: Some(summary(140_200, 161_400, 1_280_000)),
        residence_ns: Some(summary(210, 340, 5_120)),
        forward_ns: Some(summary(70_000, 80_500, 640_000)),
        backward_ns: Some(summary(-1_000, 79_900, 640_000)),
        pdv_ns: Some(summary(0, 21_200, 1_139_800)),
        ipdv_ns: Some(summary(-900, 0, 900)),
        clock: Some(OneWayClock::SameClock),
        ..unmeasured("10.1.1.6")
    };
    results(&report, Some("h2:p2"))
}

/// The same peer, multicast probes, slower.
pub fn good_group() -> Results {
    Results {
        path: Path::Group,
        rtt_ns: Some(summary(150_200, 171_400, 2_280_000)),
        ..good()
    }
}

/// A peer that does not answer ARP.
pub fn absent() -> Results {
    let counts = Counts {
        send_failed: 25,
        ..Counts::default()
    };
    Results {
        peer: ip("10.1.1.99"),
        family: Family::V4,
        counts,
        send_failed_by: BTreeMap::from([(SendFailure::NoNeighbour, 25)]),
        ..silent()
    }
}

/// A peer that was down for a while.
pub fn revived() -> Results {
    Results {
        downtime: Downtime {
            downs: 1,
            down_ns: 17_200_000_000,
        },
        ..good()
    }
}

/// A peer with every kind of trouble.
pub fn troubled() -> Results {
    let report = Report {
        path: Path::Group,
        counts: Counts {
            sent: 100,
            received: 90,
            lost: 9,
            pending: 1,
            lost_forward: 4,
            lost_backward: 3,
            lost_unknown: 2,
            late: 5,
            duplicates: 6,
            reordered: 7,
            collector_lost: 8,
            send_failed: 10,
            not_sent: 11,
        },
        failures: BTreeMap::from([(SendFailure::NoCarrier, 7), (SendFailure::Forbidden, 3)]),
        rtt_ns: Some(summary(50_450_000, 50_460_000, 120_000_000)),
        residence_ns: Some(summary(210, 340, 5_120)),
        forward_ns: Some(summary(30_000_000, 30_210_000, 70_000_000)),
        backward_ns: Some(summary(20_000_000, 20_220_000, 50_000_000)),
        pdv_ns: Some(summary(0, 21_200, 1_139_800)),
        clock: Some(OneWayClock::Synced { bound_ns: 2_400_000 }),
        ..unmeasured("fe80::5054:ff:fe12:3456")
    };
    results(&report, Some("a-long-host-name:interface-2"))
}

/// A peer that never answered.
pub fn silent() -> Results {
    let report = Report {
        counts: Counts {
            sent: 20,
            lost: 20,
            lost_unknown: 20,
            ..Counts::default()
        },
        ..unmeasured("2001:db8:1111:2222:3333:4444:5555:6666")
    };
    results(&report, None)
}

fn results(report: &Report, peer_name: Option<&str>) -> Results {
    let identity = |name: &str| Identity {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        instance: None,
        receive: "tc".to_owned(),
        egress: "tc".to_owned(),
        synchronised: true,
        error_ns: 1_200_000,
        stateful: true,
        responder: None,
        volley_limit: None,
    };
    Results::new(
        report,
        Context {
            method: Method::Stamp,
            engine: Engine::Ebpf,
            utc: UtcOffset::new(0, UNIX_NS),
            attach: ATTACH,
            peer: peer_name.map(identity).as_ref(),
            moved_from: None,
            downtime: Downtime::default(),
            interface_down_ns: 0,
        },
    )
}

/// The hops of [`good`] over a VXLAN tunnel.
pub fn hop_window() -> HopWindow {
    let hooks = |devices: [(&str, Role); 3]| -> Arc<[Hook]> {
        let hook = |(device, role): (&str, Role)| Hook {
            device: device.to_owned(),
            role,
        };
        devices.into_iter().map(hook).collect()
    };
    let (forward, backward) = (Some(Direction::Forward), Some(Direction::Backward));
    let part = |(segment, direction, ns): (Segment, Option<Direction>, i64)| {
        let mut delays = Distribution::default();
        (0..20).for_each(|step| delays.record(ns + ns * step / 100));
        PartDurations {
            part: Part { segment, direction },
            summary: delays.summary().unwrap(),
            delays: Some(delays.native()),
        }
    };
    HopWindow {
        peer: ip("10.1.1.6"),
        path: Path::Unicast,
        start_ns: 0,
        end_ns: 10_000_000_001,
        own_hooks: hooks([
            ("veth1", Role::Leg),
            ("vxlan_sys_4789", Role::Tunnel),
            ("eth0", Role::Nic),
        ]),
        far_hooks: hooks([
            ("veth9", Role::Leg),
            ("vxlan_sys_4789", Role::Tunnel),
            ("bond0", Role::Nic),
        ]),
        halves: Halves {
            both: 20,
            ..Halves::default()
        },
        parts: [
            (Segment::OwnSwitch, forward, 12_000),
            (Segment::OwnSwitch, backward, 10_000),
            (Segment::OwnEncapsulation, forward, 2_000),
            (Segment::OwnEncapsulation, backward, 1_500),
            (Segment::Underlay, None, 60_000),
            (Segment::Underlay, forward, 31_000),
            (Segment::Underlay, backward, 29_000),
            (Segment::FarEncapsulation, forward, 1_800),
            (Segment::FarEncapsulation, backward, 2_100),
            (Segment::FarSwitch, forward, 37_000),
            (Segment::FarSwitch, backward, 15_000),
            (Segment::Reflector, None, 340),
        ]
        .map(part)
        .into(),
        rest_ns: None,
        clock: Some(OneWayClock::SameClock),
        lost_at: LostAt::default(),
        outliers: 0,
        outliers_left_out: 0,
        threshold_ns: Some(600_000),
    }
}

fn hops_of(window: &HopWindow) -> Hops {
    Hops::new(window, Some("h2:p2".to_owned()), UtcOffset::new(0, UNIX_NS))
}

pub fn hops() -> Hops {
    hops_of(&hop_window())
}

/// The window before: probes were lost in several places, some halves are missing, and there are outliers.
pub fn troubled_hops() -> Hops {
    let at = |segment, direction, lost| (Part { segment, direction }, lost);
    hops_of(&HopWindow {
        end_ns: 10_000_000_000,
        halves: Halves {
            both: 15,
            own: 3,
            none: 2,
            contradictory: 1,
        },
        rest_ns: Some(summary(70_000, 80_500, 640_000)),
        lost_at: LostAt {
            at: BTreeMap::from([
                at(Segment::Underlay, Some(Direction::Forward), 7),
                at(Segment::Underlay, Some(Direction::Backward), 2),
                at(Segment::Reflector, None, 1),
            ]),
            late: 1,
            unknown: 3,
        },
        outliers: 5,
        outliers_left_out: 4,
        clock: Some(OneWayClock::Synced { bound_ns: 2_400_000 }),
        ..hop_window()
    })
}

/// The peer tells nothing, and this host has no tunnel device.
pub fn near_hops() -> Hops {
    let window = hop_window();
    hops_of(&HopWindow {
        own_hooks: window
            .own_hooks
            .iter()
            .filter(|hook| hook.role == Role::Nic)
            .cloned()
            .collect(),
        far_hooks: Arc::new([]),
        halves: Halves {
            own: 20,
            ..Halves::default()
        },
        parts: [0, 1, 11].map(|place| window.parts[place].clone()).into(),
        rest_ns: Some(summary(70_000, 120_000, 640_000)),
        threshold_ns: None,
        ..window
    })
}

/// No device of this host has seen a probe.
pub fn unseen_hops() -> Hops {
    hops_of(&HopWindow {
        own_hooks: Arc::new([]),
        far_hooks: Arc::new([]),
        halves: Halves {
            none: 20,
            ..Halves::default()
        },
        parts: Vec::new(),
        ..hop_window()
    })
}

/// It waited for ovs-vswitchd on the peer's host.
pub fn outlier() -> Outlier {
    let hops = hops();
    let parts = hops.parts.iter().filter_map(|part| {
        let is_there = part.part.segment != Segment::Underlay || part.part.direction.is_none();
        let delay_ns = u64::try_from(part.delay_ns?.p50).ok()?;
        is_there.then_some(PartDelay {
            part: part.part,
            delay_ns,
        })
    });
    Outlier {
        peer: hops.peer,
        peer_name: hops.peer_name.clone(),
        path: hops.path,
        seq: 7,
        time: time(),
        elapsed_ns: 4_200_000,
        threshold_ns: 600_000,
        parts: parts.collect(),
        rest_ns: 0,
        largest_segment: Some("far_switch".to_owned()),
        largest_direction: Some("forward".to_owned()),
        largest_ns: Some(4_100_000),
        ordinary_ns: Some(37_000),
        cause: Some("upcall".to_owned()),
        upcall_wait_ns: Some(4_050_000),
        upcall_host: Some(Host::Far),
        cpu_wait_ns: None,
        cpu_host: None,
    }
}

/// Of which nothing is known.
pub fn unknown_outlier() -> Outlier {
    Outlier {
        peer_name: None,
        parts: Vec::new(),
        rest_ns: 4_200_000,
        largest_segment: None,
        largest_direction: None,
        largest_ns: None,
        ordinary_ns: None,
        cause: None,
        upcall_wait_ns: None,
        upcall_host: None,
        ..outlier()
    }
}

/// A probe that was lost in the underlay.
pub fn hop_sample() -> HopSample {
    let window = hop_window();
    let mark = |hook, egress, at_ns| Mark {
        hook: HookId(hook),
        egress,
        direction: Direction::Forward,
        at_ns,
    };
    HopSample {
        peer: window.peer,
        path: window.path,
        ssid: 1,
        seq: 7,
        sent_ns: 1_000,
        outcome: Outcome::Lost,
        own: Half {
            hooks: window.own_hooks,
            marks: vec![mark(1, true, 13_000), mark(2, true, 15_000)],
        },
        far: Some(Half {
            hooks: window.far_hooks,
            marks: Vec::new(),
        }),
        split: None,
        lost_at: Some(Part {
            segment: Segment::Underlay,
            direction: Some(Direction::Forward),
        }),
    }
}

pub fn windows(results: Vec<Results>) -> Windows {
    Windows { time: time(), results }
}

pub fn end<const N: usize>(results: Vec<Results>, counters: [(&str, u64); N]) -> End {
    End {
        results,
        counters: self::counters(counters),
    }
}

pub fn counters<const N: usize>(values: [(&str, u64); N]) -> Counters {
    Counters {
        values: values.map(|(name, value)| (name.to_owned(), value)).into(),
        time: time(),
    }
}

pub fn jsonl() -> Jsonl {
    Jsonl { agent: start().name }
}

pub fn exported(mut exporter: impl Exporter, events: impl IntoIterator<Item = Event>) -> String {
    let mut out = Vec::new();
    for event in events {
        exporter.export(&event, &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}
