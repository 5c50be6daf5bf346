//! The tap reports LLDP frames, whole or cut off, and nothing else, and lets all frames pass.

use aya::maps::{MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions};
use nix::time::{ClockId, clock_gettime};
use probe_common::tap::{DESTINATION, EGRESS, ETHERTYPE, INGRESS, RECORDS_BYTES, Record, SNAP};
use probe_io::tap::{Direction, TapCounts, TapObject};

use crate::packet::{Datagram, OWN_V4, SENDER_MAC};
use crate::rig::may_load;

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`: the next program decides.
const NEXT: i32 = -1;

const BOTH: [(Direction, u8); 2] = [(Direction::Ingress, INGRESS), (Direction::Egress, EGRESS)];

struct Rig {
    object: TapObject,
    records: RingBuf<MapData>,
}

impl Rig {
    fn new() -> Option<Self> {
        may_load().then(|| {
            let mut object = TapObject::load().unwrap();
            let records = object.take_records().unwrap();
            Self { object, records }
        })
    }

    /// Runs the program of `direction`, which must let `frame` pass as it is.
    fn run(&mut self, direction: Direction, frame: &[u8]) {
        let mut out = vec![0; frame.len() + 64];
        let result = self.object.program(direction).unwrap().test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        });
        let result = result.unwrap();
        assert_eq!(result.return_value as i32, NEXT);
        assert_eq!(&out[..result.data_size_out as usize], frame);
    }

    fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        while let Some(bytes) = self.records.next() {
            assert_eq!(bytes.len(), size_of::<Record>());
            // SAFETY: the record is as long as a `Record`, which any bytes are.
            records.push(unsafe { bytes.as_ptr().cast::<Record>().read_unaligned() });
        }
        records
    }

    fn counts(&mut self) -> (u64, u64) {
        let TapCounts { handed_over, lost } = self.object.counts().unwrap();
        (handed_over, lost)
    }
}

/// An LLDP frame of `length` bytes in which neighbouring bytes differ.
fn lldp(length: usize) -> Vec<u8> {
    let header = [&DESTINATION[..], &SENDER_MAC, &ETHERTYPE.to_be_bytes()].concat();
    let payload = (0..length - header.len()).map(|at| at as u8 ^ 0x5a);
    header.iter().copied().chain(payload).collect()
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[test]
fn lldp_is_stamped_in_both_directions_at_every_length() {
    let Some(mut rig) = Rig::new() else { return };
    let lengths = [15, 16, 60, 100, SNAP - 1, SNAP, SNAP + 1, 200, 1514];
    for (direction, code) in BOTH {
        for length in lengths {
            let frame = lldp(length);
            let before = monotonic_ns();
            rig.run(direction, &frame);
            let after = monotonic_ns();
            let records = rig.records();
            assert_eq!(records.len(), 1, "{direction:?} {length}");
            let record = records[0];
            assert_eq!((record.direction, record.reserved), (code, 0), "{length}");
            // The kernel's fast clock may be off by this much during an update.
            assert!((before - 1_000..=after + 1_000).contains(&record.stamp_ns), "{length}");
            // BPF_PROG_TEST_RUN runs on the loopback device.
            assert_eq!(record.interface, 1);
            assert_eq!(usize::from(record.length), length.min(SNAP));
            assert_eq!(&record.frame[..length.min(SNAP)], &frame[..length.min(SNAP)]);
        }
    }
    assert_eq!(rig.counts(), (2 * lengths.len() as u64, 0));
}

#[test]
fn only_lldp_is_recorded() {
    let Some(mut rig) = Rig::new() else { return };
    let mut other_type = lldp(100);
    other_type[13] = 0xcd;
    let mut other_group = lldp(100);
    other_group[5] = 0x03;
    let mut other_vendor = lldp(100);
    other_vendor[0] = 0x03;
    let mut tagged = lldp(100);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x2a]);
    let frames = [
        Datagram::probe(OWN_V4).build(),
        other_type,
        other_group,
        other_vendor,
        tagged,
    ];
    for (direction, _) in BOTH {
        for frame in &frames {
            rig.run(direction, frame);
        }
    }
    assert!(rig.records().is_empty());
    assert_eq!(rig.counts(), (0, 0));
}

#[test]
fn records_that_do_not_fit_into_the_ring_buffer_are_counted() {
    let Some(mut rig) = Rig::new() else { return };
    let room = RECORDS_BYTES as usize / size_of::<Record>();
    let frames = room + 100;
    let frame = lldp(100);
    for _ in 0..frames {
        rig.run(Direction::Egress, &frame);
    }
    let (handed_over, lost) = rig.counts();
    assert_eq!(handed_over + lost, frames as u64);
    assert!(lost >= 100, "{lost} of {frames} were lost");
    assert_eq!(rig.records().len() as u64, handed_over);
    rig.run(Direction::Ingress, &frame);
    assert_eq!(rig.records().len(), 1, "there is room again once records are read");
}
