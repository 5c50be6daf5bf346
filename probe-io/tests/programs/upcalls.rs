//! The programs that watch upcalls tie each answer to the probe that waited for it.
//!
//! They get a packet by its address, so the packets of these tests are in a map of `probe-ebpf/src/tagged.rs`.

use std::net::IpAddr;
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::{RawTracePoint, TestRun as _};
use aya::{Ebpf, EbpfLoader, RawTracePointRunOptions, include_bytes_aligned};
use probe_common::abi::{ABI_VERSION, Address};
use probe_common::hops::{HopSettings, REPLY};
use probe_common::upcalls::{Passage, UpcallRecord, UpcallSettings};
use probe_io::hops::HopConfig;
use probe_io::hops::upcalls::{UpcallError, Upcalls};

use crate::packet::{Datagram, OWN_V4, OWN_V6, SENDER_V4, TEST_PORT, probe_payload, with_tags};
use crate::rig::may_load;

/// Embedded, since the test binary may run where nothing was built.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-upcalls-programs"));
static MEMORY: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-test-programs"));

const UPCALL: &str = "kstamp_upcall";
const EXECUTE: &str = "kstamp_execute";

const DATAPATH: u64 = 0xffff_8880_0000_0001;

/// Where the memory has a `sk_buff`, and its frame.
const SETTINGS: UpcallSettings = UpcallSettings {
    probes: HopSettings {
        abi_version: ABI_VERSION,
        test_ports: [TEST_PORT, 0, 0, 0],
    },
    data: 8,
    len: 16,
    data_len: 20,
};
const FRAME: usize = 24;

struct Rig {
    ebpf: Ebpf,
    memory: Ebpf,
    address: u64,
    records: RingBuf<MapData>,
}

impl Rig {
    /// For probes to or from [`OWN_V4`] and [`OWN_V6`].
    fn new() -> Option<Self> {
        if !may_load() {
            return None;
        }
        let mut ebpf = Ebpf::load(OBJECT).unwrap();
        let mut settings: Array<_, UpcallSettings> = ebpf.map_mut("UPCALL_SETTINGS").unwrap().try_into().unwrap();
        settings.set(0, SETTINGS, 0).unwrap();
        let mut addresses: HashMap<_, Address, u32> = ebpf.map_mut("UPCALL_ADDRESSES").unwrap().try_into().unwrap();
        for own in [IpAddr::from(OWN_V4), OWN_V6.into()] {
            addresses.insert(Address::from(own), 0, 0).unwrap();
        }
        let mut loader = EbpfLoader::new();
        loader.override_global(aya_log::LEVEL, &0_u8, false);
        let mut rig = Self {
            records: ebpf.take_map("UPCALL_RECORDS").unwrap().try_into().unwrap(),
            memory: loader.load(MEMORY).unwrap(),
            ebpf,
            address: 0,
        };
        for name in [UPCALL, EXECUTE] {
            program(&mut rig.ebpf, name).load().unwrap();
        }
        let find = program(&mut rig.memory, "find_memory");
        find.load().unwrap();
        find.test_run(RawTracePointRunOptions::new()).unwrap();
        rig.address = rig.memory().get(&0, 0).unwrap()[0];
        Some(rig)
    }

    fn memory(&mut self) -> Array<&mut MapData, [u64; 64]> {
        self.memory.map_mut("MEMORY").unwrap().try_into().unwrap()
    }

    /// Puts a packet into the memory; `paged` bytes of it are not in the linear part.
    fn put(&mut self, frame: &[u8], paged: usize) {
        let mut bytes = [0; 512];
        let numbers = [
            self.address,
            self.address + FRAME as u64,
            (frame.len() | paged << 32) as u64,
        ];
        for (chunk, number) in bytes.chunks_mut(8).zip(numbers) {
            chunk.copy_from_slice(&number.to_ne_bytes());
        }
        bytes[FRAME..][..frame.len()].copy_from_slice(frame);
        let words = bytes.as_chunks::<8>().0;
        let words = std::array::from_fn(|index| u64::from_ne_bytes(words[index]));
        self.memory().set(0, words, 0).unwrap();
    }

    fn run(&mut self, name: &str, datapath: u64, skb: u64) {
        let mut options = RawTracePointRunOptions::new();
        options.args[..2].copy_from_slice(&[datapath, skb]);
        program(&mut self.ebpf, name).test_run(options).unwrap();
    }

    /// What is recorded of a packet that goes up and comes back.
    fn pass(&mut self, frame: &[u8]) -> Vec<UpcallRecord> {
        self.put(frame, 0);
        for name in [UPCALL, EXECUTE] {
            self.run(name, DATAPATH, self.address);
        }
        self.records()
    }

    fn records(&mut self) -> Vec<UpcallRecord> {
        let mut records = Vec::new();
        while let Some(bytes) = self.records.next() {
            assert_eq!(bytes.len(), size_of::<UpcallRecord>());
            // SAFETY: the record is as long as an `UpcallRecord`, which any bytes are.
            records.push(unsafe { bytes.as_ptr().cast::<UpcallRecord>().read_unaligned() });
        }
        records
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut RawTracePoint {
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

#[test]
fn an_answer_is_tied_to_the_probe_that_waited() {
    let Some(mut rig) = Rig::new() else { return };
    let probe = Datagram::probe(OWN_V4);
    rig.put(&probe.build(), 0);
    rig.run(EXECUTE, DATAPATH, rig.address);
    assert_eq!(rig.records(), [], "it has not waited");
    rig.run(UPCALL, DATAPATH, rig.address);
    rig.run(EXECUTE, DATAPATH + 64, rig.address);
    assert_eq!(rig.records(), [], "the action of another datapath");
    rig.put(&Datagram::probe(OWN_V6).build(), 0);
    rig.run(EXECUTE, DATAPATH, rig.address);
    assert_eq!(rig.records(), [], "another probe");
    rig.put(&probe.build(), 0);
    std::thread::sleep(std::time::Duration::from_millis(5));
    rig.run(EXECUTE, DATAPATH, rig.address);
    let [record] = rig.records()[..] else {
        panic!("not one record")
    };
    assert!((5_000_000..5_000_000_000).contains(&record.wait_ns), "{record:?}");
    let expected = Passage {
        datapath: DATAPATH,
        prober: IpAddr::from(SENDER_V4).into(),
        reflector: IpAddr::from(OWN_V4).into(),
        sequence: 0x0102_0304,
        ssid: 0x0b0c,
        flags: 0,
        reserved: 0,
    };
    assert_eq!(record.passage, expected);
    rig.run(EXECUTE, DATAPATH, rig.address);
    assert_eq!(rig.records(), [], "a later action");
}

#[test]
fn several_probes_wait_at_once() {
    let Some(mut rig) = Rig::new() else { return };
    let probes = [1, 2, 3].map(|seq| Datagram::probe(OWN_V4).payload(probe_payload(seq, 0)).build());
    for name in [UPCALL, EXECUTE] {
        for probe in &probes {
            rig.put(probe, 0);
            rig.run(name, DATAPATH, rig.address);
        }
    }
    let answered = rig.records().into_iter().map(|record| record.passage.sequence);
    assert_eq!(answered.collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn probes_and_replies_of_this_host_alone_are_recorded() {
    let Some(mut rig) = Rig::new() else { return };
    let probe = Datagram::probe(OWN_V4);
    let mut reply = probe.payload.clone();
    reply[24..28].copy_from_slice(&[1, 2, 3, 4]);
    for (what, frame, flags) in [
        ("a probe", probe.build(), 0),
        ("a probe of IPv6", Datagram::probe(OWN_V6).build(), 0),
        ("a tagged probe", with_tags(&probe.build(), &[0x8100]), 0),
        ("a reply", probe.reply(OWN_V4.into(), reply).build(), REPLY),
        ("a probe in VXLAN", in_vxlan(&probe.build()), 0),
    ] {
        let records = rig.pass(&frame);
        assert_eq!(records.len(), 1, "{what}");
        let passage = records[0].passage;
        assert_eq!((passage.sequence, passage.flags), (0x0102_0304, flags), "{what}");
    }
    let foreign = Datagram::probe(IpAddr::from([10, 1, 1, 7])).build();
    let other_ports = probe.clone().ports(5_000, 5_001).build();
    for (what, frame) in [
        ("a probe between others", &foreign[..]),
        ("other ports", &other_ports),
        ("a frame cut short", &probe.build()[..50]),
        ("a frame without bytes", &[]),
    ] {
        assert_eq!(rig.pass(frame), [], "{what}");
    }
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let Some(mut rig) = Rig::new() else { return };
    let frame = Datagram::probe(OWN_V4).build();
    rig.put(&frame, frame.len() - 40);
    for skb in [rig.address, 0, 1, u64::MAX] {
        for name in [UPCALL, EXECUTE] {
            rig.run(name, DATAPATH, skb);
        }
        assert_eq!(rig.records(), [], "{skb:#x}");
    }
}

/// Behind outer headers of IPv4.
fn in_vxlan(frame: &[u8]) -> Vec<u8> {
    let header = [0x08, 0, 0, 0, 0, 0, 42, 0];
    let outer = Datagram::probe(IpAddr::from([172, 31, 1, 2]))
        .from([172, 31, 1, 1])
        .ports(50_000, 4_789);
    outer.payload([&header, frame].concat()).build()
}

#[test]
fn upcalls_are_watched_where_there_is_a_datapath() {
    if !may_load() {
        return;
    }
    let config = HopConfig {
        host_netns: None,
        port: String::new(),
        addresses: vec![OWN_V4.into()],
        test_ports: vec![TEST_PORT],
    };
    let attached = Upcalls::attach(&config);
    if Path::new("/sys/module/openvswitch").exists() {
        assert_eq!(attached.unwrap().lost().unwrap(), 0);
        return;
    }
    let refusal = attached.err().unwrap();
    assert!(matches!(refusal, UpcallError::NoTracepoint(_)), "{refusal}");
    let line = refusal.to_string();
    assert!(line.contains("is the module openvswitch loaded"), "{line}");
}
