//! The observers record the probes and replies of this host, bare and in tunnels, and nothing else, and let all frames pass.

use std::net::IpAddr;

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, include_bytes_aligned};
use probe_common::abi::{ABI_VERSION, Address};
use probe_common::hops::{EGRESS, HopRecord, HopSettings, LOST};

use crate::packet::{Datagram, OWN_V4, SECOND_PORT, TEST_PORT};
use crate::rig::may_load;

/// Embedded, since the test binary may run where nothing was built.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-hops-programs"));

/// Each program, and the flag of its records.
const BOTH: [(&str, u8); 2] = [("kstamp_hops_out", EGRESS), ("kstamp_hops_in", 0)];

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`: the next program decides.
const NEXT: i32 = -1;

struct Rig {
    ebpf: Ebpf,
    records: RingBuf<MapData>,
}

impl Rig {
    /// With test ports, and the own addresses of the sender's network.
    fn new(own: &[IpAddr]) -> Option<Self> {
        if !may_load() {
            return None;
        }
        let mut ebpf = Ebpf::load(OBJECT).unwrap();
        let mut settings: Array<_, HopSettings> = ebpf.map_mut("HOP_SETTINGS").unwrap().try_into().unwrap();
        let test_ports = [TEST_PORT, SECOND_PORT, 0, 0];
        let abi_version = ABI_VERSION;
        settings
            .set(
                0,
                HopSettings {
                    abi_version,
                    test_ports,
                },
                0,
            )
            .unwrap();
        let mut addresses: HashMap<_, Address, u32> = ebpf.map_mut("HOP_ADDRESSES").unwrap().try_into().unwrap();
        for &address in own {
            addresses.insert(Address::from(address), 0, 0).unwrap();
        }
        let records = ebpf.take_map("HOP_RECORDS").unwrap().try_into().unwrap();
        let mut rig = Self { ebpf, records };
        for (name, _) in BOTH {
            rig.program(name).load().unwrap();
        }
        Some(rig)
    }

    fn program(&mut self, name: &str) -> &mut SchedClassifier {
        self.ebpf.program_mut(name).unwrap().try_into().unwrap()
    }

    /// Runs a program, which must let `frame` pass as it is.
    fn run(&mut self, name: &str, frame: &[u8]) {
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

    /// Records for which there was no room.
    fn lost(&self) -> u64 {
        let counts: PerCpuArray<_, u64> = self.ebpf.map("HOP_COUNTS").unwrap().try_into().unwrap();
        counts.get(&LOST, 0).unwrap().iter().sum()
    }
}

#[test]
fn a_bare_probe_is_recorded() {
    let Some(mut rig) = Rig::new(&[OWN_V4.into()]) else {
        return;
    };
    for (name, flag) in BOTH {
        let info = rig.program(name).info().unwrap();
        println!(
            "{name}: {} processed, {} long",
            info.verified_instruction_count().unwrap(),
            info.size_translated().unwrap() / 8
        );
        rig.run(name, &Datagram::probe(OWN_V4).build());
        let records = rig.records();
        assert_eq!(records.len(), 1);
        assert_eq!(
            (records[0].flags, records[0].sequence, records[0].ssid),
            (flag, 0x0102_0304, 0x0b0c)
        );
        assert_eq!(records[0].reflector, Address::from(IpAddr::from(OWN_V4)));
    }
    assert_eq!(rig.lost(), 0);
}
