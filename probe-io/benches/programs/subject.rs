//! The subjects: a program on a packet, the verdict and counter that prove its path, and its baseline.

use anyhow::Result;
use etherparse::PacketBuilder;
use probe_common::abi::Counter;
use probe_common::frame::tunnel::{GENEVE_PORT, VXLAN_PORT};
use probe_common::frame::{UDP_CHECKSUM, UDP_LEN};
use probe_common::ntp::ErrorEstimate;
use probe_common::reflect::V4_HEADERS;
use probe_common::{compare, stamp};
use probe_io::backend::ebpf::object::{EGRESS, INGRESS, XDP};
use probe_io::compare::watch;

pub(crate) const TEST_PORT: u16 = 1910;
pub(crate) const SENDER_PORT: u16 = 40_000;
/// Ports of watched probes and of their responder.
pub(crate) const WATCHED_PORT: u16 = 41_000;
pub(crate) const RESPONDER_PORT: u16 = 42_000;
/// Sessions of the reply that is collected, and of the probe that leaves.
pub(crate) const REPLY_SSID: u16 = 1;
pub(crate) const PROBE_SSID: u16 = 2;
pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
pub(crate) const OWN_V4: [u8; 4] = [10, 1, 1, 6];
pub(crate) const PEER_V4: [u8; 4] = [10, 1, 1, 5];
pub(crate) const OWN_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
pub(crate) const PEER_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];

const BYSTANDER_LIMIT_NS: f64 = 5.0;
const COLLECT_LIMIT_NS: f64 = 85.0;
const EGRESS_LIMIT_NS: f64 = 120.0;
/// Limit of a reflection as a multiple of an empty program with two readings of the clock.
pub(crate) const REFLECT_LIMIT: f64 = 1.5;
/// A round trip is stamped four times, which may take half a microsecond in all.
const WATCH_LIMIT_NS: f64 = 125.0;

/// Limits of an observer of hop stamps.
const HOP_LIMIT_NS: f64 = 100.0;
const HOP_BYSTANDER_LIMIT_NS: f64 = 10.0;

/// The object of a program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum In {
    /// The one that `kstamp` loads.
    Kstamp,
    /// `kstamp-bench-programs`.
    Bench,
    /// The one that watches probes for `kstamp compare`.
    Watch,
    /// The one that stamps probes at the devices of a host.
    Hops,
}

/// One program on one packet.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) program: (In, &'static str),
    pub(crate) frame: Vec<u8>,
    /// The verdict, and the counter that every pass must add to.
    pub(crate) expected: (i32, Option<Counter>),
    /// Every pass must give a hop record.
    pub(crate) gives_hop: bool,
    /// The subject that does the same without the measured function.
    pub(crate) baseline: &'static str,
    /// Above the baseline, in nanoseconds.
    pub(crate) limit_ns: Option<f64>,
}

pub(crate) const EMPTY_XDP: &str = "empty XDP";
pub(crate) const EMPTY_TC: &str = "empty TC";
pub(crate) const TWO_CLOCKS: &str = "clock, monotonic, twice";
/// The subjects that reflect.
pub(crate) const REFLECT: [&str; 3] = ["reflect v4", "reflect v6", "reflect v4, 1,024 sessions"];
/// The subjects that must stamp their packet.
pub(crate) const WATCH_OUT: &str = "watch, egress stamp";
pub(crate) const WATCH_IN: &str = "watch, ingress stamp";
/// The program of hop stamps; the one for ingress differs by a flag.
pub(crate) const HOPS: &str = "kstamp_hops_out";
pub(crate) const PASS: i32 = 2;
pub(crate) const DROP: i32 = 1;
pub(crate) const TX: i32 = 3;
pub(crate) const UNSPEC: i32 = -1;

pub(crate) fn subjects() -> Result<Vec<Subject>> {
    let probe_v4 = v4(PEER_V4, OWN_V4, (SENDER_PORT, TEST_PORT), &probe())?;
    let probe_v6 = v6((SENDER_PORT, TEST_PORT), &probe())?;
    let own_probe = v4(
        OWN_V4,
        PEER_V4,
        (SENDER_PORT, TEST_PORT),
        &stamp::probe(1, ErrorEstimate(1), PROBE_SSID),
    )?;
    let reply = v4(PEER_V4, OWN_V4, (TEST_PORT, SENDER_PORT), &reply())?;
    let mut tcp = Vec::new();
    PacketBuilder::ethernet2(PEER_MAC, OWN_MAC)
        .ipv4(PEER_V4, OWN_V4, 64)
        .tcp(443, 50_000, 1, 1000)
        .write(&mut tcp, &[0; 512])?;
    let udp_v4 = v4(PEER_V4, OWN_V4, (443, 50_000), &[0; 512])?;
    let udp_v6 = v6((443, 50_000), &[0; 512])?;
    let mut arp = probe_v4.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);

    let bench = |name, program, frame: &[u8], verdict, counter, baseline| Subject {
        name,
        program: (In::Bench, program),
        frame: frame.to_vec(),
        expected: (verdict, counter),
        gives_hop: false,
        baseline,
        limit_ns: None,
    };
    let kstamp = |name, program, frame: &[u8], verdict, counter, baseline| Subject {
        program: (In::Kstamp, program),
        ..bench(name, program, frame, verdict, counter, baseline)
    };
    let bystander = |name, program, frame: &[u8], verdict, baseline| Subject {
        limit_ns: Some(BYSTANDER_LIMIT_NS),
        ..kstamp(name, program, frame, verdict, None, baseline)
    };
    let watching = |name, program, watched, limit_ns| -> Result<Subject> {
        let ports = (WATCHED_PORT, RESPONDER_PORT);
        let frame = v4(OWN_V4, PEER_V4, ports, &compare::probe(1, watched))?;
        Ok(Subject {
            program: (In::Watch, program),
            limit_ns,
            ..bench(name, program, &frame, UNSPEC, None, EMPTY_TC)
        })
    };
    let hops = |name, frame: &[u8], gives_hop| Subject {
        program: (In::Hops, HOPS),
        gives_hop,
        limit_ns: Some(if gives_hop {
            HOP_LIMIT_NS
        } else {
            HOP_BYSTANDER_LIMIT_NS
        }),
        ..bench(name, HOPS, frame, UNSPEC, None, EMPTY_TC)
    };
    let limited = |limit_ns, subject: Subject| Subject {
        limit_ns: Some(limit_ns),
        ..subject
    };
    // Without a checksum, so that the session can change.
    let mut of_any_session = probe_v4.clone();
    of_any_session[V4_HEADERS - UDP_LEN + UDP_CHECKSUM..][..2].copy_from_slice(&[0, 0]);
    Ok(vec![
        bench(EMPTY_XDP, "empty_xdp", &tcp, PASS, None, EMPTY_XDP),
        bench(EMPTY_TC, "empty_tc", &tcp, UNSPEC, None, EMPTY_TC),
        bench("clock, monotonic", "clock_monotonic", &tcp, PASS, None, EMPTY_XDP),
        bench(TWO_CLOCKS, "clock_twice", &tcp, PASS, None, EMPTY_XDP),
        bench("clock, TAI", "clock_tai", &tcp, PASS, None, EMPTY_XDP),
        bystander("bystander TCP v4", XDP, &tcp, PASS, EMPTY_XDP),
        bystander("bystander UDP v4", XDP, &udp_v4, PASS, EMPTY_XDP),
        bystander("bystander UDP v6", XDP, &udp_v6, PASS, EMPTY_XDP),
        bystander("bystander ARP", XDP, &arp, PASS, EMPTY_XDP),
        bystander("bystander TCP v4, TC ingress", INGRESS, &tcp, UNSPEC, EMPTY_TC),
        bystander("bystander UDP v4, TC ingress", INGRESS, &udp_v4, UNSPEC, EMPTY_TC),
        bystander("bystander TCP v4, TC egress", EGRESS, &tcp, UNSPEC, EMPTY_TC),
        bystander("bystander UDP v4, TC egress", EGRESS, &udp_v4, UNSPEC, EMPTY_TC),
        bench("restore v4", "restore", &probe_v4, PASS, None, EMPTY_XDP),
        bench(
            REFLECT[0],
            "restore_and_receive",
            &probe_v4,
            TX,
            Some(Counter::Reflected),
            "restore v4",
        ),
        bench("restore v6", "restore", &probe_v6, PASS, None, EMPTY_XDP),
        bench(
            REFLECT[1],
            "restore_and_receive",
            &probe_v6,
            TX,
            Some(Counter::Reflected),
            "restore v6",
        ),
        bench(
            "restore v4, 1,024 sessions",
            "restore_next",
            &of_any_session,
            PASS,
            None,
            EMPTY_XDP,
        ),
        bench(
            REFLECT[2],
            "restore_next_and_receive",
            &of_any_session,
            TX,
            Some(Counter::Reflected),
            "restore v4, 1,024 sessions",
        ),
        limited(
            COLLECT_LIMIT_NS,
            kstamp("collect v4", XDP, &reply, DROP, Some(Counter::Collected), EMPTY_XDP),
        ),
        kstamp(
            "stamp v4, one probe",
            EGRESS,
            &own_probe,
            UNSPEC,
            Some(Counter::EgressStamped),
            EMPTY_TC,
        ),
        bench("next v4", "next", &own_probe, UNSPEC, None, EMPTY_TC),
        limited(
            EGRESS_LIMIT_NS,
            bench(
                "stamp v4, ever new probes",
                "next_and_stamp",
                &own_probe,
                UNSPEC,
                Some(Counter::EgressStamped),
                "next v4",
            ),
        ),
        watching(WATCH_OUT, watch::OUT, true, Some(WATCH_LIMIT_NS))?,
        watching(WATCH_IN, watch::IN, true, Some(WATCH_LIMIT_NS))?,
        watching("watch, probe not to be stamped", watch::OUT, false, None)?,
        Subject {
            program: (In::Watch, watch::OUT),
            ..bystander("watch, bystander UDP v4", watch::OUT, &udp_v4, UNSPEC, EMPTY_TC)
        },
        hops("hops, probe", &own_probe, true),
        hops("hops, reply", &reply, true),
        hops("hops, probe in VXLAN", &in_vxlan(&own_probe)?, true),
        hops("hops, reply in VXLAN", &in_vxlan(&reply)?, true),
        hops("hops, probe v6 in Geneve", &in_geneve(&probe_v6)?, true),
        hops("hops, bystander, long TCP", &tcp, false),
        hops("hops, bystander TCP", &tcp[..SHORT], false),
        hops("hops, bystander UDP v4", &udp_v4[..SHORT], false),
        hops("hops, bystander UDP v6", &udp_v6[..SHORT], false),
        hops("hops, bystander TCP in VXLAN", &in_vxlan(&tcp[..SHORT])?, false),
        hops("hops, bystander UDP in VXLAN", &in_vxlan(&udp_v4[..SHORT])?, false),
        hops("hops, bystander TCP in Geneve", &in_geneve(&tcp[..SHORT])?, false),
    ])
}

/// A frame that observers do not tell by its length.
const SHORT: usize = 150;

/// In VXLAN over IPv4.
fn in_vxlan(frame: &[u8]) -> Result<Vec<u8>> {
    let payload = [&[0x08, 0, 0, 0, 0, 0, 42, 0], frame].concat();
    v4(OWN_V4, PEER_V4, (50_000, VXLAN_PORT), &payload)
}

/// In Geneve over IPv4 with an option of four bytes, as OVN has it.
fn in_geneve(frame: &[u8]) -> Result<Vec<u8>> {
    let header = [2, 0, 0x65, 0x58, 0, 0, 42, 0, 0x01, 0x02, 0x80, 1, 0, 1, 0, 2];
    v4(OWN_V4, PEER_V4, (50_000, GENEVE_PORT), &[&header, frame].concat())
}

pub(crate) fn probe() -> [u8; stamp::BASE_LEN] {
    stamp::probe(1, ErrorEstimate(1), REPLY_SSID)
}

/// A reply to the probe that [`Bench::new`] puts in flight.
pub(crate) fn reply() -> [u8; stamp::BASE_LEN] {
    let mut reply = probe();
    reply[stamp::SENDER_SEQUENCE..][..4].copy_from_slice(&1_u32.to_be_bytes());
    reply[stamp::SENDER_TIMESTAMP..][..8].copy_from_slice(&1_u64.to_be_bytes());
    reply
}

pub(crate) fn v4(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC).ipv4(source, destination, 64);
    ip.udp(ports.0, ports.1).write(&mut frame, payload)?;
    Ok(frame)
}

pub(crate) fn v6(ports: (u16, u16), payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC).ipv6(PEER_V6, OWN_V6, 64);
    ip.udp(ports.0, ports.1).write(&mut frame, payload)?;
    Ok(frame)
}
