//! Valid packets, mutated where it hurts: etherparse decides what each deserves, and the programs must agree.
//!
//! `KSTAMP_SEED=…` repeats a run.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeader, UdpHeaderSlice};
use probe_common::abi::{Address, COUNTER_NAMES, Counter, InFlight, InFlightKey};
use probe_common::frame;

use crate::packet::{
    Datagram, ETHERNET, GROUP_V4, GROUP_V6, OWN_LINK_LOCAL, OWN_MAC, OWN_V4, OWN_V6, PROBER_PORT, SECOND_V4,
    SENDER_LINK_LOCAL, SENDER_PORT_V4, SENDER_PORT_V6, SENDER_V4, SENDER_V6, TEST_PORT, UDP_V4, UDP_V6, ipv4_checksum,
    mend_ipv4, with_extensions, with_options, with_tags,
};
use crate::rig::{Program, RECEIVERS, Rig, Verdict};

/// How many packets each program gets; `KSTAMP_PACKETS` says otherwise, where processors are emulated.
const PACKETS: usize = 10_000;

/// Base probe length in a UDP header.
const BASE_UDP: u16 = 52;

#[test]
fn mutated_packets_get_what_they_deserve() {
    let seed = std::env::var("KSTAMP_SEED").ok().map_or_else(
        || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1,
        |text| text.parse().unwrap(),
    );
    println!("KSTAMP_SEED={seed}");
    let packets = std::env::var("KSTAMP_PACKETS").map_or(PACKETS, |text| text.parse().unwrap());
    let mut random = Random(seed);
    for hook in RECEIVERS {
        let Some(mut rig) = rig() else { return };
        let mut tally = Tally::default();
        for _ in 0..packets {
            let mut frame = random.of(&bases());
            for _ in 0..random.below(4) {
                mutate(&mut frame, &mut random);
            }
            if random.below(3) > 0 {
                mend(&mut frame);
            }
            check(&mut rig, hook, &frame, &mut tally);
        }
        println!("{hook:?}: {tally:?}");
        assert_eq!(
            tally.reflected + tally.collected + tally.refused + tally.bystanders + tally.not_run,
            packets
        );
        let least = tally
            .reflected
            .min(tally.collected)
            .min(tally.refused)
            .min(tally.bystanders);
        assert!(least > packets / 50, "the mutations leave a kind of packet out");
        assert_eq!(rig.samples().len(), tally.collected);
    }
}

#[derive(Debug, Default)]
struct Tally {
    reflected: usize,
    collected: usize,
    refused: usize,
    bystanders: usize,
    not_run: usize,
}

fn check(rig: &mut Rig, hook: Program, frame: &[u8], tally: &mut Tally) {
    let Ok(outcome) = rig.try_run(hook, frame) else {
        tally.not_run += 1;
        return;
    };
    let what = || format!("{hook:?} {:?} {:?} on {frame:02x?}", outcome.verdict, outcome.counted);
    let beside = COUNTER_NAMES[Counter::SessionStarted as usize];
    let outcomes: u64 = outcome
        .counted
        .iter()
        .filter(|(name, _)| *name != beside)
        .map(|(_, count)| count)
        .sum();
    let concerned = concerns(frame);
    assert_eq!(outcomes, u64::from(concerned), "{}", what());
    assert_eq!(
        outcome.verdict == Verdict::Transmit,
        deserves_a_reply(frame),
        "{}",
        what()
    );
    let names: Vec<_> = outcome.counted.iter().map(|(name, _)| *name).collect();
    match outcome.verdict {
        Verdict::Transmit => {
            assert!(
                matches!(
                    names[..],
                    ["reflected" | "reflected_group"] | ["reflected" | "reflected_group", "session_started"]
                ),
                "{}",
                what()
            );
            assert_eq!(
                outcome.frame.len(),
                frame.len(),
                "a reply is as long as its request: {}",
                what()
            );
            assert_answers(frame, &outcome.frame);
            tally.reflected += 1;
        }
        Verdict::Consume => {
            assert_eq!(names, ["collected"], "{}", what());
            assert_eq!(outcome.frame, frame, "{}", what());
            tally.collected += 1;
        }
        Verdict::Pass => {
            assert!(
                !names
                    .iter()
                    .any(|name| name.starts_with("reflected") || *name == "collected"),
                "{}",
                what()
            );
            assert_eq!(outcome.frame, frame, "{}", what());
            if concerned {
                tally.refused += 1
            } else {
                tally.bystanders += 1
            }
        }
    }
}

/// The reply goes back where the request came from, from an own unicast address, with right checksums.
fn assert_answers(request: &[u8], reply: &[u8]) {
    let (asked, answered) = (Read::of(request).unwrap(), Read::of(reply).unwrap());
    assert_eq!(answered.macs, (OWN_MAC, asked.macs.0));
    assert_eq!(answered.destination, asked.source);
    assert!(!answered.source.is_multicast());
    assert!(asked.destination.is_multicast() || answered.source == asked.destination);
    assert_eq!(answered.udp.destination_port, asked.udp.source_port);
    assert_eq!(answered.udp.source_port, TEST_PORT);
    assert!(answered.ip_checksum_is_right && answered.udp_checksum() == Some(answered.udp.checksum));
}

/// Whether a packet is a probe or a reply by its ports, as the parser under test sees it on the host; whatever
/// etherparse takes for such a packet must be among them.
fn concerns(packet: &[u8]) -> bool {
    let by_ports = |source, destination, v4| {
        let sender = if v4 { SENDER_PORT_V4 } else { SENDER_PORT_V6 };
        destination == TEST_PORT || (source == TEST_PORT && destination == sender)
    };
    let ours = frame::udp(packet)
        .is_some_and(|udp| by_ports(udp.source_port, udp.destination_port, udp.family == frame::Family::V4));
    if let Some(read) = Read::of(packet) {
        assert_eq!(
            ours,
            by_ports(read.udp.source_port, read.udp.destination_port, read.source.is_ipv4())
        );
    }
    ours
}

/// RFC 8762 and the design's rules for the kernel reflector, by etherparse alone.
fn deserves_a_reply(frame: &[u8]) -> bool {
    let Some(read) = Read::of(frame) else { return false };
    let own: [IpAddr; 4] = [OWN_V4.into(), SECOND_V4.into(), OWN_V6.into(), OWN_LINK_LOCAL.into()];
    let groups: [IpAddr; 2] = [GROUP_V4.into(), GROUP_V6.into()];
    let meant = groups.contains(&read.destination) || (own.contains(&read.destination) && read.macs.1 == OWN_MAC);
    let host = match read.source {
        IpAddr::V4(source) => !matches!(source.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(source) => !source.is_multicast() && !source.is_loopback() && !source.is_unspecified(),
    };
    let checksum = read.udp.checksum;
    let intact = if checksum == 0 {
        read.source.is_ipv4()
    } else {
        read.udp_checksum() == Some(checksum) || read.partial == checksum || read.sums_to_all_ones()
    };
    meant
        && host
        && read.macs.0[0] & 1 == 0
        && read.ip_checksum_is_right
        && !read.fragmented
        && read.udp.length == BASE_UDP
        && read.ip_payload_len == BASE_UDP
        && read.payload.len() >= 44
        && read.udp.destination_port == TEST_PORT
        && read.udp.source_port != TEST_PORT
        && intact
        && !is_reply_shaped(&read.payload)
}

/// T2 where a sender has zeroes, and zeroes where random padding has none.
fn is_reply_shaped(payload: &[u8]) -> bool {
    payload[16..24].iter().any(|&byte| byte != 0) && payload[38..40] == [0; 2] && payload[41..44] == [0; 3]
}

/// An untagged UDP packet without options and extensions, as etherparse reads it.
struct Read {
    macs: ([u8; 6], [u8; 6]),
    source: IpAddr,
    destination: IpAddr,
    fragmented: bool,
    ip_checksum_is_right: bool,
    ip_payload_len: u16,
    udp: UdpHeader,
    /// All bytes behind the UDP header.
    payload: Vec<u8>,
    partial: u16,
}

impl Read {
    fn of(frame: &[u8]) -> Option<Self> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?.to_header();
        let network = &frame[ETHERNET..];
        let (source, destination, fragmented, ip_checksum_is_right, ip_payload_len, transport): (
            IpAddr,
            IpAddr,
            _,
            _,
            _,
            _,
        );
        match ethernet.ether_type.0 {
            0x0800 => {
                let ip = Ipv4HeaderSlice::from_slice(network).ok()?.to_header();
                if ip.header_len() != 20 || ip.protocol.0 != 17 || ip.fragment_offset.value() != 0 {
                    return None;
                }
                (source, destination) = (ip.source.into(), ip.destination.into());
                fragmented = ip.more_fragments;
                ip_checksum_is_right = ipv4_checksum(&network[..20]) == network[10..12];
                ip_payload_len = ip.total_len.saturating_sub(20);
                transport = &network[20..];
            }
            0x86dd => {
                let ip = Ipv6HeaderSlice::from_slice(network).ok()?.to_header();
                if ip.next_header.0 != 17 {
                    return None;
                }
                (source, destination) = (Ipv6Addr::from(ip.source).into(), Ipv6Addr::from(ip.destination).into());
                (fragmented, ip_checksum_is_right) = (false, true);
                ip_payload_len = ip.payload_length;
                transport = &network[40..];
            }
            _ => return None,
        }
        let udp = UdpHeaderSlice::from_slice(transport).ok()?.to_header();
        let datagram = Datagram {
            macs: (ethernet.source, ethernet.destination),
            source,
            destination,
            ports: (0, 0),
            ttl: 0,
            payload: vec![0; 44],
        };
        Some(Self {
            macs: datagram.macs,
            source,
            destination,
            fragmented,
            ip_checksum_is_right,
            ip_payload_len,
            udp,
            payload: transport[8..].to_vec(),
            partial: u16::from_be_bytes(crate::packet::partial_checksum(&datagram)),
        })
    }

    /// The checksum that a base packet of these contents has; `None` if it is too short to be one.
    fn udp_checksum(&self) -> Option<u16> {
        let payload = self.payload.get(..44)?;
        match (self.source, self.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => self.udp.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload).ok(),
            (IpAddr::V6(a), IpAddr::V6(b)) => self.udp.calc_checksum_ipv6_raw(a.octets(), b.octets(), payload).ok(),
            _ => None,
        }
    }

    /// A checksum of 0xffff is as right as the zero that etherparse never sends, and the other way round.
    fn sums_to_all_ones(&self) -> bool {
        self.udp.checksum == 0xffff && self.udp_checksum() == Some(0)
    }
}

/// Every kind of packet that the programs tell apart.
fn bases() -> Vec<Vec<u8>> {
    let reply = |source: IpAddr, destination: IpAddr, port| {
        let mut payload = vec![0; 44];
        payload[14..16].copy_from_slice(&7_u16.to_be_bytes());
        payload[28..36].copy_from_slice(&9_u64.to_be_bytes());
        Datagram::probe(destination)
            .from(source)
            .ports(TEST_PORT, port)
            .payload(payload)
            .build()
    };
    let v6 = Datagram::probe(OWN_V6).build();
    vec![
        Datagram::probe(OWN_V4).build(),
        Datagram::probe(SECOND_V4).build(),
        Datagram::probe(GROUP_V4).build(),
        Datagram::probe(GROUP_V6).build(),
        Datagram::probe(GROUP_V6).from(SENDER_LINK_LOCAL).build(),
        Datagram::probe(OWN_LINK_LOCAL).from(SENDER_LINK_LOCAL).build(),
        Datagram::probe(OWN_V4).payload(vec![0; 60]).build(),
        Datagram::probe(OWN_V4).ports(PROBER_PORT, 53).build(),
        with_tags(&Datagram::probe(OWN_V4).build(), &[0x8100]),
        with_options(&Datagram::probe(OWN_V4).build()),
        with_extensions(&v6, &[(60, &[0, 1, 4, 0, 0, 0, 0]), (44, &[0, 0, 0, 0, 0, 0, 7])]),
        v6,
        reply(SENDER_V4.into(), OWN_V4.into(), SENDER_PORT_V4),
        reply(SENDER_V6.into(), OWN_V6.into(), SENDER_PORT_V6),
    ]
}

/// With probes in flight to which the replies among [`bases`] belong.
fn rig() -> Option<Rig> {
    let mut rig = Rig::new()?;
    // Whom a group probe reached is not known, so that replies of both IP versions match.
    let sent = InFlight {
        t1_mono_ns: 1,
        t1_wire: 9,
        destination: Address::from(IpAddr::from(GROUP_V4)),
    };
    rig.object
        .in_flight()
        .unwrap()
        .insert(
            InFlightKey {
                seq: 0,
                ssid: 7,
                reserved: 0,
            },
            sent,
            0,
        )
        .unwrap();
    Some(rig)
}

fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING: [u8; 14] = [0, 1, 4, 6, 17, 44, 51, 52, 60, 127, 224, 0xfe, 0xff, 0x80];
    /// Offsets of fields that decide: MACs, EtherType, version and IHL, lengths, fragment, protocol, addresses.
    const FIELDS: [usize; 20] = [
        0, 5, 6, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 26, 30, 33, 38, 53,
    ];
    let udp = if frame.get(12) == Some(&0x08) { UDP_V4 } else { UDP_V6 };
    match random.below(9) {
        0 => frame.truncate(random.below(frame.len() + 1)),
        1 => frame.extend(std::iter::repeat_n(0xee, random.below(64))),
        2 => put(frame, random.of(&FIELDS), &[random.of(&INTERESTING)]),
        3 => put(frame, udp + random.below(8), &[random.of(&INTERESTING)]),
        4 => put(
            frame,
            udp + 2 * random.below(2),
            &random.of(&[TEST_PORT, SENDER_PORT_V4, SENDER_PORT_V6, 0]).to_be_bytes(),
        ),
        5 => put(frame, udp + 4, &random.of(&[0_u16, 7, 8, 51, 52, 53, 60]).to_be_bytes()),
        6 => put(frame, udp + 8 + random.below(44), &[random.below(256) as u8]),
        7 => {
            let at = random.below(frame.len().max(1));
            put(frame, at, &[random.below(256) as u8]);
        }
        _ => put(
            frame,
            26,
            &random.of(&[
                [10, 1, 1, 9],
                [127, 0, 0, 1],
                [224, 0, 0, 1],
                [10, 1, 1, 6],
                [0, 0, 0, 0],
            ]),
        ),
    }
}

/// Puts right checksums, or none, or a device's, so that what was mutated is not merely taken for damage.
fn mend(frame: &mut [u8]) {
    if frame.get(12..14) == Some(&[0x08, 0x00]) {
        mend_ipv4(frame);
    }
    if let Some(read) = Read::of(frame) {
        let at = if read.source.is_ipv4() { UDP_V4 } else { UDP_V6 } + 6;
        let kinds = [
            read.udp_checksum().unwrap_or(0),
            read.udp_checksum().unwrap_or(0),
            read.partial,
            0,
        ];
        let kind = kinds[usize::from(frame[at]) % kinds.len()];
        frame[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        if let Some(old) = frame.get_mut(at + index) {
            *old = *byte;
        }
    }
}

/// xorshift64 (Marsaglia 2003): repeatable, and good enough to choose packets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}
