//! Valid packets with mutated fields: etherparse predicts the outcome of each, and the programs must agree.
//!
//! Each program runs for some seconds; `KSTAMP_PACKETS=5000000` sets the number of packets for each instead (ten million in
//! all take half a minute with `--release`), and `KSTAMP_SEED=…` repeats a run.

use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeader, UdpHeaderSlice};
use probe_common::abi::{Address, InFlight, ProbeKey, Settings};
use probe_common::family::Family;
use probe_common::frame;

use crate::packet::{
    Datagram, ETHERNET, GROUP_V4, GROUP_V6, OWN_LINK_LOCAL, OWN_MAC, OWN_V4, OWN_V6, PROBER_PORT, SECOND_PORT,
    SECOND_V4, SENDER_LINK_LOCAL, SENDER_PORT_V4, SENDER_PORT_V6, SENDER_V4, SENDER_V6, TEST_PORT, UDP_V4, UDP_V6,
    ipv4_checksum, mend_ipv4, with_extensions, with_options, with_tags,
};
use crate::rig::{Program, RECEIVERS, Rig, Verdict, settings};

/// Packets of each kept seed.
const KEPT_PACKETS: usize = 2_000;
/// Seeds that once found something, or nearly did.
const KEPT_SEEDS: [u64; 3] = [1, 0x9e37_79b9_7f4a_7c15, 1_795_255_838_000_000_001];
/// How long each program runs with a new seed, unless `KSTAMP_PACKETS` sets the number of packets.
const TIME: Duration = Duration::from_secs(8);
/// With fewer, a kind of packet may be missing.
const LEAST_PACKETS: usize = 5_000;
/// Packets after which the counters are checked; `KSTAMP_EACH` checks them after each packet, to find the wrong one.
const BATCH: usize = 500;

fn own() -> [IpAddr; 4] {
    [OWN_V4.into(), SECOND_V4.into(), OWN_V6.into(), OWN_LINK_LOCAL.into()]
}

/// Within the prefixes of [`Rig::new`], and not an own address.
fn is_allowed(source: IpAddr) -> bool {
    if own().contains(&source) {
        return false;
    }
    match source {
        IpAddr::V4(v4) => v4.octets()[..2] == [10, 1],
        IpAddr::V6(v6) => v6.segments()[..4] == [0xfd00, 0, 0, 1] || v6.segments()[..4] == [0xfe80, 0, 0, 0],
    }
}

#[test]
fn mutated_packets_have_the_predicted_outcome() {
    let variable = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = variable("KSTAMP_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1);
    let packets = variable("KSTAMP_PACKETS").map(|packets| packets as usize);
    println!("KSTAMP_SEED={seed}");
    // Side by side: each program has maps of its own.
    thread::scope(|scope| {
        for hook in RECEIVERS {
            scope.spawn(move || {
                for kept in KEPT_SEEDS {
                    try_out(hook, kept, |tried| {
                        tried < packets.unwrap_or(KEPT_PACKETS).min(KEPT_PACKETS)
                    });
                }
                let start = Instant::now();
                let tally = try_out(hook, seed, |tried| match packets {
                    Some(packets) => tried < packets,
                    None => tried < LEAST_PACKETS || start.elapsed() < TIME,
                });
                let Some(tally) = tally else { return };
                println!("{hook:?}: {} packets in {:?}: {tally:?}", tally.all(), start.elapsed());
                let kinds = [
                    tally.reflected,
                    tally.legacy,
                    tally.collected,
                    tally.not_allowed,
                    tally.refused,
                    tally.bystanders,
                ];
                assert!(
                    kinds.iter().all(|&kind| kind > tally.all() as u64 / 200),
                    "the mutations leave a kind of packet out: {tally:?}"
                );
            });
        }
    });
}

/// Runs mutated packets while `go_on(number so far)`; `None` without permission.
fn try_out(hook: Program, seed: u64, go_on: impl Fn(usize) -> bool) -> Option<Tally> {
    let batch = if std::env::var_os("KSTAMP_EACH").is_some() {
        1
    } else {
        BATCH
    };
    let mut random = Random(seed);
    let mut rig = rig()?;
    let bases = bases();
    let (mut tally, mut added_up) = (Tally::default(), Tally::default());
    let mut tried = 0;
    while go_on(tried) {
        let mut frame = random.of(&bases);
        for _ in 0..random.below(4) {
            mutate(&mut frame, &mut random);
        }
        if random.below(3) > 0 {
            mend(&mut frame);
        }
        check(&mut rig, hook, &frame, &mut tally);
        tried += 1;
        if tried % batch == 0 || !go_on(tried) {
            add_up(&mut rig, &tally, &added_up, seed);
            added_up = tally.clone();
        }
    }
    assert_eq!(tally.all(), tried);
    Some(tally)
}

/// Packets by outcome.
#[derive(Debug, Default, Clone)]
struct Tally {
    reflected: u64,
    padded: u64,
    legacy: u64,
    collected: u64,
    not_allowed: u64,
    refused: u64,
    bystanders: u64,
    not_run: u64,
}

impl Tally {
    fn all(&self) -> usize {
        let all = self.reflected + self.legacy + self.collected + self.not_allowed + self.refused;
        (all + self.bystanders + self.not_run) as usize
    }
}

/// The programs' counters agree with the tally since `before`: each packet was counted once.
fn add_up(rig: &mut Rig, now: &Tally, before: &Tally, seed: u64) {
    let (mut reflected, mut padded, mut legacy, mut collected, mut not_allowed, mut refused) = (0, 0, 0, 0, 0, 0);
    for (name, count) in rig.counted() {
        match name {
            "reflected" | "reflected_group" => reflected += count,
            "padded" => padded += count,
            "echoed" | "echoed_group" => legacy += count,
            "collected" => collected += count,
            "not_allowed" | "own_source" => not_allowed += count,
            "session_started" | "source_started" => {}
            _ => refused += count,
        }
    }
    let expected = [
        now.reflected - before.reflected,
        now.padded - before.padded,
        now.legacy - before.legacy,
        now.collected - before.collected,
        now.not_allowed - before.not_allowed,
        now.refused - before.refused,
    ];
    let counted = [reflected, padded, legacy, collected, not_allowed, refused];
    assert_eq!(counted, expected, "again with KSTAMP_SEED={seed} KSTAMP_EACH=1");
    assert_eq!(rig.samples().len() as u64, now.collected - before.collected);
}

fn check(rig: &mut Rig, hook: Program, frame: &[u8], tally: &mut Tally) {
    let Ok((verdict, out)) = rig.verdict(hook, frame) else {
        tally.not_run += 1;
        return;
    };
    let what = || format!("{hook:?} {verdict:?} on {frame:02x?}");
    let deserved = predicted(frame);
    assert_eq!(
        verdict == Verdict::Transmit,
        deserved.is_some(),
        "{deserved:?} {}",
        what()
    );
    match (verdict, deserved) {
        (Verdict::Transmit, Some(kind)) => {
            assert_eq!(out.len(), frame.len(), "a reply is as long as its request: {}", what());
            assert_answers(frame, &out, kind);
            match kind {
                Kind::Legacy => tally.legacy += 1,
                Kind::Base => tally.reflected += 1,
                Kind::Padded => {
                    tally.reflected += 1;
                    tally.padded += 1;
                }
            }
        }
        (Verdict::Consume, _) if is_to_test_port(frame) => {
            assert!(is_ours_but_from_outside(frame), "{}", what());
            assert_eq!(out, frame, "{}", what());
            tally.not_allowed += 1;
        }
        (Verdict::Consume, _) => {
            assert!(concerns(frame), "{}", what());
            assert_eq!(out, frame, "{}", what());
            tally.collected += 1;
        }
        (_, _) => {
            assert_eq!(out, frame, "{}", what());
            if concerns(frame) {
                tally.refused += 1;
            } else {
                tally.bystanders += 1;
            }
        }
    }
}

/// The reply goes to the request's sender from an own unicast address, has right checksums, and contains nothing that the
/// request did not.
fn assert_answers(request: &[u8], reply: &[u8], kind: Kind) {
    let (asked, answered) = (Read::of(request).unwrap(), Read::of(reply).unwrap());
    assert_eq!(answered.macs, (OWN_MAC, asked.macs.0));
    assert_eq!(answered.destination, asked.source);
    assert!(!answered.source.is_multicast());
    assert!(asked.destination.is_multicast() || answered.source == asked.destination);
    assert_eq!(answered.udp.destination_port, asked.udp.source_port);
    assert_eq!(answered.udp.source_port, asked.udp.destination_port);
    assert_eq!(answered.ttl, 255);
    assert!(answered.ip_checksum_is_right && answered.udp_checksum() == Some(answered.udp.checksum));
    let (mut behind_asked, behind_answered) = match kind {
        Kind::Legacy => (asked.payload.clone(), &answered.payload[..]),
        Kind::Base | Kind::Padded => (asked.payload[44..].to_vec(), &answered.payload[44..]),
    };
    if kind == Kind::Padded {
        // Flag U is cleared.
        behind_asked[0] = 0;
    }
    assert_eq!(behind_asked, behind_answered);
    if kind != Kind::Legacy {
        assert_eq!(asked.payload[..14], answered.payload[24..38], "the sender's fields");
    }
}

/// Whether a packet is a probe or a reply by its ports, by the parser under test; etherparse must agree wherever it reads
/// the packet.
fn concerns(packet: &[u8]) -> bool {
    let by_ports = |source, destination, v4| {
        let sender = if v4 { SENDER_PORT_V4 } else { SENDER_PORT_V6 };
        [TEST_PORT, SECOND_PORT].contains(&destination) || (source == TEST_PORT && destination == sender)
    };
    let ours =
        frame::udp(packet).is_some_and(|udp| by_ports(udp.source_port, udp.destination_port, udp.family == Family::V4));
    if let Some(read) = Read::of(packet) {
        assert_eq!(
            ours,
            by_ports(read.udp.source_port, read.udp.destination_port, read.source.is_ipv4())
        );
    }
    ours
}

fn is_to_test_port(packet: &[u8]) -> bool {
    frame::udp(packet).is_some_and(|udp| [TEST_PORT, SECOND_PORT].contains(&udp.destination_port))
}

/// Whether a packet is for this host but from outside the prefixes, by the bytes at the offsets of the addresses.
fn is_ours_but_from_outside(frame: &[u8]) -> bool {
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    let (source, destination) = match frame[12..14] {
        [0x08, 0x00] => (v4(26), v4(30)),
        [0x86, 0xdd] => (v6(22), v6(38)),
        _ => return false,
    };
    is_for_us(destination, &frame[..6]) && !is_allowed(source)
}

fn is_for_us(destination: IpAddr, mac: &[u8]) -> bool {
    let groups: [IpAddr; 2] = [GROUP_V4.into(), GROUP_V6.into()];
    groups.contains(&destination) || (own().contains(&destination) && mac == OWN_MAC)
}

/// The kinds of probes that the programs answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Base,
    Padded,
    Legacy,
}

impl Kind {
    fn of(payload: &[u8]) -> Option<Self> {
        match payload.len() {
            44 => Some(Self::Base),
            1..=20 if payload.iter().all(u8::is_ascii_digit) => Some(Self::Legacy),
            45.. => {
                let padding = &payload[44..];
                let is_tlv = match *padding {
                    [0 | 0x80, 1, high, low, ..] => usize::from(u16::from_be_bytes([high, low])) + 4 == padding.len(),
                    _ => false,
                };
                (is_tlv || padding.iter().all(|&byte| byte == 0)).then_some(Self::Padded)
            }
            _ => None,
        }
    }
}

/// RFC 8762, RFC 8972 and the design's rules for the kernel reflector, by etherparse alone.
fn predicted(frame: &[u8]) -> Option<Kind> {
    let read = Read::of(frame)?;
    let host = match read.source {
        IpAddr::V4(source) => !matches!(source.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(source) => !source.is_multicast() && !source.is_loopback() && !source.is_unspecified(),
    };
    let checksum = read.udp.checksum;
    let payload = read.datagram()?;
    let kind = Kind::of(payload)?;
    let intact = if checksum == 0 {
        read.source.is_ipv4()
    } else {
        read.udp_checksum() == Some(checksum) || read.partial == checksum || read.sums_to_all_ones()
    };
    let may_loop = match kind {
        Kind::Legacy => read.ttl > 128 || read.udp.source_port < 1024 || read.udp.source_port == TEST_PORT,
        Kind::Base | Kind::Padded => {
            let from_test_port = [TEST_PORT, SECOND_PORT].contains(&read.udp.source_port);
            is_reply_shaped(payload) || from_test_port && payload[16..24] != [0; 8]
        }
    };
    let is_answered = is_for_us(read.destination, &read.macs.1)
        && host
        && is_allowed(read.source)
        && read.macs.0[0] & 1 == 0
        && read.ip_checksum_is_right
        && !read.fragmented
        && read.ip_payload_len == read.udp.length
        && [TEST_PORT, SECOND_PORT].contains(&read.udp.destination_port)
        && read.udp.source_port != 0
        && intact
        && !may_loop;
    is_answered.then_some(kind)
}

/// T2 where a sender has zeros, and zeros where random padding has none.
fn is_reply_shaped(payload: &[u8]) -> bool {
    payload[16..24].iter().any(|&byte| byte != 0) && payload[38..40] == [0; 2] && payload[41..44] == [0; 3]
}

/// An untagged UDP packet without options and extensions, as etherparse reads it.
struct Read {
    macs: ([u8; 6], [u8; 6]),
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
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
        let (source, destination, ttl, fragmented, ip_checksum_is_right, ip_payload_len, transport): (
            IpAddr,
            IpAddr,
            _,
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
                ttl = ip.time_to_live;
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
                (ttl, fragmented, ip_checksum_is_right) = (ip.hop_limit, false, true);
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
            payload: vec![0; usize::from(udp.length).saturating_sub(8)],
        };
        Some(Self {
            macs: datagram.macs,
            source,
            destination,
            ttl,
            fragmented,
            ip_checksum_is_right,
            ip_payload_len,
            udp,
            payload: transport[8..].to_vec(),
            partial: u16::from_be_bytes(crate::packet::partial_checksum(&datagram)),
        })
    }

    /// The payload by the UDP header's length; `None` if the frame is shorter.
    fn datagram(&self) -> Option<&[u8]> {
        self.payload.get(..usize::from(self.udp.length).checked_sub(8)?)
    }

    /// The checksum that a datagram of these contents has; `None` if it is cut short.
    fn udp_checksum(&self) -> Option<u16> {
        let payload = self.datagram()?;
        match (self.source, self.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => self.udp.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload).ok(),
            (IpAddr::V6(a), IpAddr::V6(b)) => self.udp.calc_checksum_ipv6_raw(a.octets(), b.octets(), payload).ok(),
            _ => None,
        }
    }

    /// 0xffff and zero are the same sum; etherparse never sends one of them.
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
        Datagram::probe(OWN_V6).payload(vec![0; 700]).build(),
        Datagram::probe(GROUP_V4).payload(padded(0x80, 240)).build(),
        Datagram::probe(OWN_V6).payload(padded(0x80, 37)).build(),
        legacy_probe(OWN_V4.into(), "18"),
        legacy_probe(GROUP_V4.into(), "4294967295"),
        legacy_probe(GROUP_V6.into(), "1234567"),
        Datagram::probe(OWN_V4).from([192, 0, 2, 9]).build(),
        Datagram::probe(OWN_V6).from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]).build(),
        Datagram::probe(OWN_V4).ports(PROBER_PORT, 53).build(),
        with_tags(&Datagram::probe(OWN_V4).build(), &[0x8100]),
        with_options(&Datagram::probe(OWN_V4).build()),
        with_extensions(&v6, &[(60, &[0, 1, 4, 0, 0, 0, 0]), (44, &[0, 0, 0, 0, 0, 0, 7])]),
        v6,
        reply(SENDER_V4.into(), OWN_V4.into(), SENDER_PORT_V4),
        reply(SENDER_V6.into(), OWN_V6.into(), SENDER_PORT_V6),
    ]
}

/// A probe with an Extra Padding TLV.
fn padded(flags: u8, length: u8) -> Vec<u8> {
    let mut payload = vec![0; 44];
    payload.extend([flags, 1, 0, length]);
    payload.extend(vec![0xa5; usize::from(length)]);
    payload
}

fn legacy_probe(destination: IpAddr, digits: &str) -> Vec<u8> {
    let probe = Datagram::probe(destination).payload(digits.as_bytes().to_vec());
    Datagram { ttl: 64, ..probe }.build()
}

/// With the probe in flight that the replies among [`bases`] answer.
fn rig() -> Option<Rig> {
    let mut rig = Rig::new()?;
    // Any host may answer a group probe, so that replies of both IP versions match.
    let sent = InFlight {
        t1_mono_ns: 1,
        t1_wire: 9,
        destination: Address::from(IpAddr::from(GROUP_V4)),
        replies: 0,
        reserved: 0,
    };
    // Every reply answers the same probe.
    let settings = Settings {
        max_replies: u32::MAX,
        ..settings()
    };
    rig.object().set_settings(&settings).unwrap();
    let probe = ProbeKey {
        seq: 0,
        ssid: 7,
        reserved: 0,
    };
    rig.open_session(probe.ssid);
    rig.put_in_flight(probe, sent);
    Some(rig)
}

fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING: [u8; 14] = [0, 1, 4, 6, 17, 44, 51, 52, 60, 127, 224, 0xfe, 0xff, 0x80];
    /// Offsets of fields that decide: MACs, EtherType, version and IHL, lengths, fragment, protocol, addresses.
    const FIELDS: [usize; 20] = [
        0, 5, 6, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 26, 30, 33, 38, 53,
    ];
    let udp = if frame.get(12) == Some(&0x08) { UDP_V4 } else { UDP_V6 };
    match random.below(10) {
        0 => frame.truncate(random.below(frame.len() + 1)),
        1 => frame.extend(std::iter::repeat_n(0xee, random.below(64))),
        2 => put(frame, random.of(&FIELDS), &[random.of(&INTERESTING)]),
        3 => put(frame, udp + random.below(8), &[random.of(&INTERESTING)]),
        4 => put(
            frame,
            udp + 2 * random.below(2),
            &random
                .of(&[TEST_PORT, SECOND_PORT, SENDER_PORT_V4, SENDER_PORT_V6, 0])
                .to_be_bytes(),
        ),
        5 => put(frame, udp + 4, &random.of(&[0_u16, 7, 8, 51, 52, 53, 60]).to_be_bytes()),
        6 => put(frame, udp + 8 + random.below(44), &[random.below(256) as u8]),
        7 => put(
            frame,
            udp + 8 + 44 + random.below(5),
            &[random.of(&[0_u8, 1, 2, 0x80, 0x81, 0xc0, b'0', b'9'])],
        ),
        8 => {
            let at = random.below(frame.len().max(1));
            put(frame, at, &[random.below(256) as u8]);
        }
        _ => put(
            frame,
            26,
            &random.of(&[
                [10, 1, 1, 9],
                [10, 2, 1, 9],
                [127, 0, 0, 1],
                [224, 0, 0, 1],
                [10, 1, 1, 6],
                [0, 0, 0, 0],
            ]),
        ),
    }
}

/// Sets right checksums, or none, or partial ones, so that not every mutation is refused as damage.
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
