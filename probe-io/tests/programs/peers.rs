//! Very many peers.

use std::net::{IpAddr, Ipv4Addr};

use probe_common::abi::Address;
use probe_core::rings::Rings;
use probe_io::backend::ebpf::object::Object;

use crate::rig;

const PEERS: u32 = 10_000;

#[test]
fn no_peer_displaces_the_session_of_another() {
    if !rig::may_load() {
        return;
    }
    let mut object = Object::load(0, Rings::of(PEERS.into(), 3).unwrap()).unwrap();
    let mut sessions = object.sessions_by_peer().unwrap();
    let address = |host: u32| Address::from(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + host)));
    for host in 0..PEERS {
        sessions.insert(address(host), host, 0).unwrap();
    }
    let is_missing = |host: &u32| sessions.get(&address(*host), 0).ok() != Some(*host);
    assert_eq!((0..PEERS).filter(is_missing).count(), 0);
}
