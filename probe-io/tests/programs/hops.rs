//! The observers record the probes and replies of this host, bare and in tunnels, and nothing else, and let all frames pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramInfo, RawTracePoint, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, RawTracePointRunOptions, include_bytes_aligned};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use probe_common::abi::{ABI_VERSION, Address};
use probe_common::frame::tunnel::{GENEVE_PORT, Miss, VXLAN_PORT, VXLAN_PORT_OF_LINUX};
use probe_common::hops::{
    EGRESS, GENEVE, HopRecord, HopSettings, LOST, LateHopRecord, MAX_PACKET_LEN, MIN_WAIT_NS, RECORDS_BYTES, REPLY,
    VXLAN,
};
use probe_common::stamp::{BASE_LEN, MIN_REPLY_LEN, SENDER_SEQUENCE};

use crate::packet::{
    Datagram, GROUP_V4, GROUP_V6, OWN_V4, OWN_V6, PROBER_PORT, SECOND_PORT, SECOND_V4, SENDER_V4, SENDER_V6, TEST_PORT,
    UDP_V6, probe_payload, with_extensions, with_fragment, with_options, with_tags,
};
use crate::rig::may_load;

/// Embedded, since the test binary may run where nothing was built.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-hops-programs"));

/// Each program, and the flag of its records.
const BOTH: [(&str, u8); 2] = [("kstamp_hops_out", EGRESS), ("kstamp_hops_in", 0)];

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`: the next program decides.
const NEXT: i32 = -1;

const SETTINGS: HopSettings = HopSettings {
    abi_version: ABI_VERSION,
    test_ports: [TEST_PORT, SECOND_PORT, 0, 0],
};

const SEQUENCE: u32 = 0x0102_0304;
const SESSION: u16 = 0x0b0c;
/// Identifier of the network in tunnels.
const NETWORK: u32 = 0x00ab_cdef;
const TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
const TAGS: [&[u16]; 3] = [&[], &[TAG], &[SERVICE_TAG, TAG]];

struct Rig {
    ebpf: Ebpf,
    records: RingBuf<MapData>,
}

impl Rig {
    /// With an address of each IP version.
    fn new() -> Option<Self> {
        Self::of(&SETTINGS, &[OWN_V4.into(), OWN_V6.into()])
    }

    fn of(settings: &HopSettings, own: &[IpAddr]) -> Option<Self> {
        if !may_load() {
            return None;
        }
        let mut ebpf = Ebpf::load(OBJECT).unwrap();
        let mut map: Array<_, HopSettings> = ebpf.map_mut("HOP_SETTINGS").unwrap().try_into().unwrap();
        map.set(0, settings, 0).unwrap();
        let records = ebpf.take_map("HOP_RECORDS").unwrap().try_into().unwrap();
        let mut rig = Self { ebpf, records };
        for &address in own {
            rig.addresses().insert(Address::from(address), 0, 0).unwrap();
        }
        for (name, _) in BOTH {
            rig.program(name).load().unwrap();
        }
        Some(rig)
    }

    fn addresses(&mut self) -> HashMap<&mut MapData, Address, u32> {
        self.ebpf.map_mut("HOP_ADDRESSES").unwrap().try_into().unwrap()
    }

    fn program(&mut self, name: &str) -> &mut SchedClassifier {
        self.ebpf.program_mut(name).unwrap().try_into().unwrap()
    }

    /// Runs a program, which must let `frame` pass as it is. Returns the new records.
    fn run(&mut self, name: &str, frame: &[u8]) -> Vec<HopRecord> {
        self.pass(name, frame);
        self.records()
    }

    fn pass(&mut self, name: &str, frame: &[u8]) {
        let mut out = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = self.program(name).test_run(options).unwrap();
        assert_eq!(result.return_value as i32, NEXT);
        assert_eq!(&out[..result.data_size_out as usize], frame);
    }

    fn records(&mut self) -> Vec<HopRecord> {
        let mut records = Vec::new();
        while let Some(bytes) = self.records.next() {
            assert_eq!(bytes.len(), size_of::<HopRecord>());
            // SAFETY: the record is as long as a `HopRecord`, which any bytes are.
            records.push(unsafe { bytes.as_ptr().cast::<HopRecord>().read_unaligned() });
        }
        records
    }

    /// Runs a program as if softirq `number` were raised, began to run or ended, on the processor of this thread.
    fn softirq(&mut self, name: &str, number: u64) {
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = number;
        softirq(&mut self.ebpf, name).test_run(options).unwrap();
    }

    /// Has the program see one probe. Returns how late in nanoseconds the processor received it; `None` if it was not late.
    fn waited_ns(&mut self, name: &str) -> Option<u64> {
        self.pass(name, &Datagram::probe(OWN_V4).build());
        let bytes = self.records.next().unwrap().to_vec();
        if bytes.len() == size_of::<HopRecord>() {
            return None;
        }
        assert_eq!(bytes.len(), size_of::<LateHopRecord>());
        // SAFETY: the record is as long as a `LateHopRecord`, which any bytes are.
        let late = unsafe { bytes.as_ptr().cast::<LateHopRecord>().read_unaligned() };
        let expected = record(OWN_V4.into(), 0, 0);
        let HopRecord {
            stamp_ns, interface, ..
        } = late.record;
        assert_eq!(
            late.record,
            HopRecord {
                stamp_ns,
                interface,
                ..expected
            }
        );
        Some(late.waited_ns)
    }

    /// Records for which there was no room.
    fn lost(&self) -> u64 {
        let counts: PerCpuArray<_, u64> = self.ebpf.map("HOP_COUNTS").unwrap().try_into().unwrap();
        counts.get(&LOST, 0).unwrap().iter().sum()
    }
}

const RAISE: &str = "kstamp_rx_raise";
const ENTRY: &str = "kstamp_rx_entry";
const EXIT: &str = "kstamp_rx_exit";

fn softirq<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut RawTracePoint {
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

pub(crate) fn program_infos() -> [ProgramInfo; 5] {
    let mut rig = Rig::new().expect("programs can be loaded");
    let [out, into] = BOTH.map(|(name, _)| rig.program(name).info().unwrap());
    let [raise, entry, exit] = [RAISE, ENTRY, EXIT].map(|name| {
        let program = softirq(&mut rig.ebpf, name);
        program.load().unwrap();
        program.info().unwrap()
    });
    [out, into, raise, entry, exit]
}

fn reply_payload() -> Vec<u8> {
    let mut payload = probe_payload(77, SESSION);
    payload[SENDER_SEQUENCE..][..4].copy_from_slice(&SEQUENCE.to_be_bytes());
    payload
}

/// A reply to a probe of the far sender.
fn reply(own: IpAddr) -> Datagram {
    Datagram::probe(own).reply(own, reply_payload())
}

/// The record of a probe of the far sender to `own`, or of the reply.
fn record(own: IpAddr, flags: u8, network: u32) -> HopRecord {
    let prober: IpAddr = match own {
        IpAddr::V4(_) => SENDER_V4.into(),
        IpAddr::V6(_) => SENDER_V6.into(),
    };
    HopRecord {
        stamp_ns: 0,
        prober: prober.into(),
        reflector: own.into(),
        interface: 0,
        sequence: SEQUENCE,
        network,
        ssid: SESSION,
        flags,
        reserved: 0,
    }
}

fn vxlan_header() -> Vec<u8> {
    [[8, 0, 0, 0], (NETWORK << 8).to_be_bytes()].concat()
}

/// With so many words of options.
fn geneve_header(options: u8) -> Vec<u8> {
    let fixed = [[options, 0, 0x65, 0x58], (NETWORK << 8).to_be_bytes()].concat();
    [fixed, vec![0x5a; usize::from(options) * 4]].concat()
}

/// `inner` behind a tunnel's header, between two hosts of the underlay.
fn tunnelled(is_v4: bool, port: u16, header: &[u8], inner: &[u8]) -> Vec<u8> {
    let ends: [IpAddr; 2] = match is_v4 {
        true => [Ipv4Addr::new(172, 16, 0, 1).into(), Ipv4Addr::new(172, 16, 0, 2).into()],
        false => [Ipv6Addr::from([0xfd02; 8]).into(), Ipv6Addr::from([0xfd03; 8]).into()],
    };
    let outer = Datagram::probe(ends[1]).from(ends[0]).ports(50_000, port);
    outer.payload([header, inner].concat()).build()
}

/// Probes and replies in every shape in which they are recorded.
fn shapes() -> Vec<(Vec<u8>, HopRecord)> {
    let mut shapes = Vec::new();
    for own in [IpAddr::from(OWN_V4), OWN_V6.into()] {
        for (datagram, kind) in [(Datagram::probe(own), 0), (reply(own), REPLY)] {
            for tags in TAGS {
                let inner = with_tags(&datagram.build(), tags);
                for outer_tags in TAGS {
                    for is_v4 in [true, false] {
                        for (port, header, tunnel) in [
                            (VXLAN_PORT, vxlan_header(), VXLAN),
                            (VXLAN_PORT_OF_LINUX, vxlan_header(), VXLAN),
                            (GENEVE_PORT, geneve_header(0), GENEVE),
                            (GENEVE_PORT, geneve_header(2), GENEVE),
                            (GENEVE_PORT, geneve_header(63), GENEVE),
                        ] {
                            let frame = with_tags(&tunnelled(is_v4, port, &header, &inner), outer_tags);
                            shapes.push((frame, record(own, kind | tunnel, NETWORK)));
                        }
                    }
                }
                shapes.push((inner, record(own, kind, 0)));
            }
        }
    }
    shapes
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[test]
fn probes_and_replies_are_recorded_in_every_shape() {
    let Some(mut rig) = Rig::new() else { return };
    let shapes = shapes();
    assert_eq!(shapes.len(), 2 * 2 * (3 * 3 * 2 * 5 + 3));
    assert_eq!(shapes.iter().map(|(frame, _)| frame.len()).max(), Some(MAX_PACKET_LEN));
    for (name, direction) in BOTH {
        for (frame, expected) in &shapes {
            let before = monotonic_ns();
            let records = rig.run(name, frame);
            let after = monotonic_ns();
            let [found] = records[..] else {
                panic!("{} records of {frame:02x?}", records.len())
            };
            // The kernel's fast clock may be off by this much during an update.
            assert!((before - 1_000..=after + 1_000).contains(&found.stamp_ns));
            let expected = HopRecord {
                stamp_ns: found.stamp_ns,
                // BPF_PROG_TEST_RUN runs on the loopback device.
                interface: 1,
                flags: expected.flags | direction,
                ..*expected
            };
            assert_eq!(found, expected, "{name}: {frame:02x?}");
        }
    }
    assert_eq!(rig.lost(), 0);
}

#[test]
fn nothing_else_is_recorded() {
    let Some(mut rig) = Rig::new() else { return };
    let probe = Datagram::probe(OWN_V4);
    let v4 = probe.build();
    let v6 = Datagram::probe(OWN_V6).build();
    let long = |length| [probe_payload(SEQUENCE, SESSION), vec![0; length - BASE_LEN]].concat();
    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = v4.clone();
        frame[at..][..bytes.len()].copy_from_slice(bytes);
        frame
    };
    let frames = [
        ("another port", probe.clone().ports(PROBER_PORT, 1911).build()),
        ("no port", probe.clone().ports(0, 0).build()),
        ("two test ports", probe.clone().ports(SECOND_PORT, TEST_PORT).build()),
        ("to a group", Datagram::probe(GROUP_V4).from(OWN_V4).build()),
        ("to an IPv6 group", Datagram::probe(GROUP_V6).from(OWN_V6).build()),
        ("between others", Datagram::probe(SECOND_V4).build()),
        (
            "a short probe",
            probe
                .clone()
                .payload(probe_payload(1, 1)[..BASE_LEN - 1].to_vec())
                .build(),
        ),
        ("a long probe", probe.clone().payload(long(BASE_LEN + 1)).build()),
        ("with TLVs", probe.clone().payload(long(300)).build()),
        (
            "a short reply",
            probe
                .reply(OWN_V4.into(), reply_payload()[..MIN_REPLY_LEN - 1].to_vec())
                .build(),
        ),
        ("a long reply", probe.reply(OWN_V4.into(), long(BASE_LEN + 1)).build()),
        ("a first fragment", with_fragment(&v4, 0x2000)),
        ("a later fragment", with_fragment(&v4, 1)),
        (
            "an IPv6 fragment",
            with_extensions(&v6, &[(44, &[0, 0, 1, 0, 0, 0, 7])]),
        ),
        ("with options", with_options(&v4)),
        (
            "with extension headers",
            with_extensions(&v6, &[(0, &[0, 1, 4, 0, 0, 0, 0])]),
        ),
        ("with three tags", with_tags(&v4, &[SERVICE_TAG, TAG, TAG])),
        ("TCP", changed(23, &[6])),
        ("ARP", changed(12, &[0x08, 0x06])),
        ("IPv5", changed(14, &[0x55])),
        ("no UDP header", changed(38, &[0, 7])),
        ("another tunnel", tunnelled(true, 4790, &vxlan_header(), &v4)),
        ("VXLAN without a network", tunnelled(true, VXLAN_PORT, &[0; 8], &v4)),
        (
            "Geneve with IPv4",
            tunnelled(true, GENEVE_PORT, &[0, 0, 8, 0, 0, 0, 0, 0], &v4[14..]),
        ),
        (
            "Geneve of another version",
            tunnelled(true, GENEVE_PORT, &[&[0x40], &geneve_header(0)[1..]].concat(), &v4),
        ),
        (
            "a fragment in a tunnel",
            tunnelled(true, VXLAN_PORT, &vxlan_header(), &with_fragment(&v4, 0x2000)),
        ),
        (
            "between others in a tunnel",
            tunnelled(true, VXLAN_PORT, &vxlan_header(), &Datagram::probe(SECOND_V4).build()),
        ),
        (
            "a tunnel in a tunnel",
            tunnelled(
                true,
                VXLAN_PORT,
                &vxlan_header(),
                &tunnelled(true, VXLAN_PORT, &vxlan_header(), &v4),
            ),
        ),
        (
            "a longer packet than any probe",
            [v4.clone(), vec![0; MAX_PACKET_LEN + 1 - v4.len()]].concat(),
        ),
    ];
    for (name, _) in BOTH {
        for (what, frame) in &frames {
            assert_eq!(rig.run(name, frame), [], "{what}");
        }
    }
    assert_eq!(rig.lost(), 0);
}

#[test]
fn a_short_reply_and_padding_of_the_link_are_no_hindrance() {
    let Some(mut rig) = Rig::new() else { return };
    let short = Datagram::probe(OWN_V4).reply(OWN_V4.into(), reply_payload()[..MIN_REPLY_LEN].to_vec());
    let padded = [Datagram::probe(OWN_V4).build(), vec![0; 20]].concat();
    for frame in [short.build(), padded] {
        for (name, _) in BOTH {
            assert_eq!(rig.run(name, &frame).len(), 1);
        }
    }
}

#[test]
fn of_a_packet_cut_short_nothing_is_read_past_the_end() {
    let Some(mut rig) = Rig::new() else { return };
    for (frame, _) in shapes().iter().step_by(31) {
        // Room that a longer packet before has used.
        rig.run("kstamp_hops_in", frame);
        // The kernel refuses frames without an IP header.
        for length in UDP_V6..frame.len() {
            let part = &frame[..length];
            let found = SETTINGS.find(part);
            assert!(matches!(found, Ok(_) | Err(Miss::Short)), "{found:?}");
            assert_eq!(
                rig.run("kstamp_hops_in", part).len(),
                usize::from(found.is_ok()),
                "{part:02x?}"
            );
        }
    }
}

#[test]
fn mutated_packets_are_recorded_as_userspace_reads_them() {
    /// Bytes that decide in some field.
    const BYTES: [u8; 12] = [0, 1, 6, 8, 17, 44, 0x45, 0x60, 0x81, 0x86, 0xa8, 0xff];
    let Some(mut rig) = Rig::new() else { return };
    let own = [OWN_V4.into(), OWN_V6.into()].map(|ip: IpAddr| Address::from(ip));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut recorded = 0;
    let shapes = shapes();
    for (frame, _) in shapes.iter().cycle().take(5_000) {
        let mut frame = frame.clone();
        for _ in 0..=random % 3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = random as usize % frame.len();
            frame[at] = BYTES[(random >> 32) as usize % BYTES.len()];
        }
        let expected = SETTINGS.find(&frame[..]).ok();
        let expected = expected.filter(|found| own.contains(&found.prober) || own.contains(&found.reflector));
        for (name, direction) in BOTH {
            let records = rig.run(name, &frame);
            let plain = records.iter().map(|&record| HopRecord {
                stamp_ns: 0,
                interface: 0,
                ..record
            });
            let expected = expected.map(|found| HopRecord {
                flags: found.flags | direction,
                ..found
            });
            assert_eq!(plain.collect::<Vec<_>>(), Vec::from_iter(expected), "{frame:02x?}");
            recorded += records.len();
        }
    }
    assert!((1_000..9_000).contains(&recorded), "{recorded} of 10,000");
}

#[test]
fn the_addresses_of_this_host_decide_in_any_order() {
    let Some(mut rig) = Rig::of(&SETTINGS, &[OWN_V4.into(), SECOND_V4.into(), OWN_V6.into()]) else {
        return;
    };
    let other = Ipv4Addr::new(10, 1, 1, 77);
    let other_v6 = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 0x77);
    let probes = [
        (Datagram::probe(OWN_V4), true),
        (Datagram::probe(other), false),
        (Datagram::probe(SECOND_V4), true),
        (Datagram::probe(OWN_V6), true),
        (Datagram::probe(other_v6), false),
        (Datagram::probe(OWN_V4), true),
        // As the prober.
        (Datagram::probe(other).from(SECOND_V4), true),
        (Datagram::probe(other_v6).from(OWN_V6), true),
        (Datagram::probe(other), false),
    ];
    for (name, _) in BOTH {
        for (probe, is_own) in &probes {
            assert_eq!(rig.run(name, &probe.build()).len(), usize::from(*is_own), "{probe:?}");
        }
    }
}

#[test]
fn without_settings_of_this_version_nothing_is_recorded() {
    for settings in [
        HopSettings {
            abi_version: ABI_VERSION + 1,
            ..SETTINGS
        },
        HopSettings {
            test_ports: [0; 4],
            ..SETTINGS
        },
    ] {
        let Some(mut rig) = Rig::of(&settings, &[OWN_V4.into()]) else {
            return;
        };
        for (name, _) in BOTH {
            assert_eq!(rig.run(name, &Datagram::probe(OWN_V4).build()), []);
        }
    }
}

#[test]
fn records_that_do_not_fit_into_the_ring_buffer_are_counted() {
    let Some(mut rig) = Rig::new() else { return };
    let frame = Datagram::probe(OWN_V4).build();
    let frames = RECORDS_BYTES as usize / size_of::<HopRecord>() + 100;
    for _ in 0..frames {
        rig.pass("kstamp_hops_out", &frame);
    }
    let lost = rig.lost();
    assert!(lost >= 100, "{lost} of {frames} were lost");
    assert_eq!(rig.records().len() as u64 + lost, frames as u64);
    assert_eq!(rig.run("kstamp_hops_in", &frame).len(), 1, "there is room again");
    assert_eq!(rig.lost(), lost);
}

/// Number of the softirq that receives packets (`NET_RX_SOFTIRQ`, `include/linux/interrupt.h`).
const NET_RX: u64 = 3;

/// With the programs of softirqs. This thread stays on its processor, to which the waits belong.
fn on_one_processor() -> Option<Rig> {
    let mut rig = Rig::new()?;
    for name in [RAISE, ENTRY, EXIT] {
        softirq(&mut rig.ebpf, name).load().unwrap();
    }
    let mut processor = CpuSet::new();
    processor.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &processor).unwrap();
    Some(rig)
}

#[test]
fn a_packet_that_the_processor_received_late_says_how_late() {
    const PAUSE: Duration = Duration::from_millis(2);
    const PAUSE_NS: u64 = PAUSE.as_nanos() as u64;
    let Some(mut rig) = on_one_processor() else { return };
    let (out, into) = (BOTH[0].0, BOTH[1].0);
    assert_eq!(rig.waited_ns(into), None, "nothing was raised");
    let start_ns = monotonic_ns();
    rig.softirq(RAISE, NET_RX);
    thread::sleep(PAUSE);
    for (name, number) in [(RAISE, NET_RX), (ENTRY, 1), (EXIT, 1), (RAISE, 1)] {
        rig.softirq(name, number);
    }
    assert_eq!(rig.waited_ns(into), None, "it has not run yet");
    thread::sleep(PAUSE);
    rig.softirq(ENTRY, NET_RX);
    let most_ns = monotonic_ns() - start_ns;
    let waited_ns = rig.waited_ns(into).unwrap();
    assert!((2 * PAUSE_NS..=most_ns).contains(&waited_ns), "{waited_ns}");
    assert_eq!(rig.waited_ns(into), Some(waited_ns), "a second packet of this run");
    assert_eq!(rig.waited_ns(out), None, "it leaves");
    rig.softirq(EXIT, NET_RX);
    assert_eq!(rig.waited_ns(into), None, "received outside of a softirq");
    rig.softirq(ENTRY, NET_RX);
    assert_eq!(rig.waited_ns(into), None, "it is not known when this run was raised");
    rig.softirq(EXIT, NET_RX);
    // Other threads may take the processor in between, but not each time.
    let is_short = (0..1_000).any(|_| {
        rig.softirq(RAISE, NET_RX);
        rig.softirq(ENTRY, NET_RX);
        let waited_ns = rig.waited_ns(into);
        assert!(waited_ns.is_none_or(|waited_ns| waited_ns >= MIN_WAIT_NS));
        rig.softirq(EXIT, NET_RX);
        waited_ns.is_none()
    });
    assert!(is_short, "a wait of some microseconds is none");
}

#[test]
fn packets_of_a_long_wait_may_be_received_in_several_runs() {
    const PAUSE: Duration = Duration::from_millis(5);
    let Some(mut rig) = on_one_processor() else { return };
    let into = BOTH[1].0;
    // Begins a run after a wait, and returns that wait.
    let begin = |rig: &mut Rig| {
        rig.softirq(RAISE, NET_RX);
        thread::sleep(PAUSE);
        rig.softirq(ENTRY, NET_RX);
        rig.waited_ns(into).unwrap()
    };
    // Raises the softirq within its run and runs it again after `pause`.
    let repeat = |rig: &mut Rig, pause: Duration| {
        rig.softirq(RAISE, NET_RX);
        rig.softirq(EXIT, NET_RX);
        assert_eq!(rig.waited_ns(into), None, "received between two runs");
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        rig.softirq(ENTRY, NET_RX);
        rig.waited_ns(into)
    };
    let end = |rig: &mut Rig| rig.softirq(EXIT, NET_RX);
    // Other threads may take the processor in between, but not each time.
    let mut sometimes = |what: &str, run: &dyn Fn(&mut Rig) -> bool| {
        let is_so = (0..100).any(|_| {
            let is_so = run(&mut rig);
            end(&mut rig);
            is_so
        });
        assert!(is_so, "{what}");
    };
    sometimes("all runs until it has caught up have the first one's wait", &|rig| {
        let waited_ns = begin(rig);
        (0..3).all(|_| repeat(rig, Duration::ZERO) == Some(waited_ns))
    });
    sometimes("after that, it has no wait", &|rig| {
        begin(rig);
        end(rig);
        rig.softirq(RAISE, NET_RX);
        rig.softirq(ENTRY, NET_RX);
        rig.waited_ns(into).is_none()
    });
    sometimes("it does not catch up for longer than it has waited", &|rig| {
        let waited_ns = begin(rig);
        thread::sleep(Duration::from_nanos(waited_ns) + PAUSE);
        repeat(rig, Duration::ZERO) < Some(waited_ns)
    });
    let waited_ns = begin(&mut rig);
    let second_ns = repeat(&mut rig, Duration::from_nanos(waited_ns) + PAUSE);
    assert!(
        second_ns > Some(waited_ns),
        "{second_ns:?} {waited_ns}: the longer wait"
    );
}
