//! A VLAN tag counts even if the device removed it from the frame or will add it.
//!
//! `BPF_PROG_TEST_RUN` refuses `vlan_present` in its context, so these run in programs of `probe-ebpf/src/tagged.rs` that
//! push a tag and then do what the real ones do.

use aya::maps::{Array, PerCpuArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{EbpfLoader, include_bytes_aligned};
use probe_common::abi::{COUNTER_NAMES, Counter, Settings};

use crate::packet::{
    Datagram, GROUP_V6, OWN_V4, OWN_V6, SENDER_PORT_V4, SENDER_PORT_V6, SENDER_V4, SENDER_V6, TEST_PORT,
};
use crate::rig::{may_load, once, settings};

/// Embedded, since the test binary may run where nothing was built.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-test-programs"));

/// Runs `program` on each frame, which must pass unchanged and be counted as `counter`, or not at all.
fn assert_passed(program: &str, table: &[(Vec<u8>, Option<Counter>)]) {
    if !may_load() {
        return;
    }
    let mut loader = EbpfLoader::new();
    loader.override_global(aya_log::LEVEL, &0_u8, false);
    let mut ebpf = loader.load(OBJECT).unwrap();
    let mut map: Array<_, Settings> = ebpf.map_mut("SETTINGS").unwrap().try_into().unwrap();
    map.set(0, settings(), 0).unwrap();
    let classifier: &mut SchedClassifier = ebpf.program_mut(program).unwrap().try_into().unwrap();
    classifier.load().unwrap();
    let mut counters = [0; COUNTER_NAMES.len()];
    for (frame, counter) in table {
        let mut out = vec![0; frame.len()];
        let classifier: &mut SchedClassifier = ebpf.program_mut(program).unwrap().try_into().unwrap();
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        assert_eq!(classifier.test_run(options).unwrap().return_value as i32, -1);
        assert_eq!(&out, frame);
        let before = counters;
        let counts: PerCpuArray<_, u64> = ebpf.map("COUNTS").unwrap().try_into().unwrap();
        counters = std::array::from_fn(|index| counts.get(&(index as u32), 0).unwrap().iter().sum());
        let changes = COUNTER_NAMES
            .into_iter()
            .zip(counters.iter().zip(before).map(|(now, before)| now - before));
        let counted: Vec<_> = changes.filter(|change| change.1 != 0).collect();
        assert_eq!(counted, once(counter.as_slice()));
    }
}

#[test]
fn ingress_leaves_tagged_packets_alone() {
    let bystander = Datagram::probe(OWN_V4).ports(53, 53).build();
    assert_passed(
        "tagged_ingress",
        &[
            (Datagram::probe(OWN_V4).build(), Some(Counter::Vlan)),
            (Datagram::probe(GROUP_V6).build(), Some(Counter::Vlan)),
            (
                Datagram::probe(OWN_V4).ports(TEST_PORT, SENDER_PORT_V4).build(),
                Some(Counter::Vlan),
            ),
            (bystander, None),
        ],
    );
}

#[test]
fn egress_leaves_tagged_packets_unstamped() {
    let v4 = Datagram::probe(SENDER_V4).from(OWN_V4).ports(SENDER_PORT_V4, TEST_PORT);
    let v6 = Datagram::probe(SENDER_V6).from(OWN_V6).ports(SENDER_PORT_V6, TEST_PORT);
    assert_passed(
        "tagged_egress",
        &[
            (v4.build(), Some(Counter::EgressForeign)),
            (v6.build(), Some(Counter::EgressForeign)),
        ],
    );
}
