//! The kernel accepts the programs that watch upcalls, whether or not it has Open vSwitch's datapath.

use std::path::Path;

use probe_io::hops::HopConfig;
use probe_io::hops::upcalls::{UpcallError, Upcalls};

use crate::packet::TEST_PORT;
use crate::rig::may_load;

#[test]
fn upcalls_are_watched_where_there_is_a_datapath() {
    if !may_load() {
        return;
    }
    let config = HopConfig {
        host_netns: None,
        port: String::new(),
        addresses: vec!["10.1.1.5".parse().unwrap()],
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
