//! Whatever the frame, finding a probe in it never reads past its end, and finds the datagram that etherparse finds.

#![no_main]

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use probe_common::abi::ABI_VERSION;
use probe_common::frame::tunnel::Miss;
use probe_common::hops::{GENEVE, HopSettings, REPLY, VXLAN};

const SETTINGS: HopSettings = HopSettings {
    abi_version: ABI_VERSION,
    test_ports: [862, 1910, 0, 0],
};

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    let found = SETTINGS.find(frame);
    for length in 0..frame.len() {
        let part = SETTINGS.find(&frame[..length]);
        assert!(part == Err(Miss::Short) || part == found, "cut to {length} bytes");
    }
    let Ok(record) = found else { return };
    let is_bare = record.flags & (VXLAN | GENEVE) == 0;
    if let Ok(sliced) = SlicedPacket::from_ethernet(frame)
        && let Some(TransportSlice::Udp(udp)) = sliced.transport
        && is_bare
    {
        let is_reply = SETTINGS.test_ports.contains(&udp.source_port());
        assert_eq!(record.flags & REPLY != 0, is_reply);
        let (source, destination): (IpAddr, IpAddr) = match sliced.net {
            Some(NetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            Some(NetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            other => panic!("UDP in {other:?}"),
        };
        let ends = if is_reply { (destination, source) } else { (source, destination) };
        assert_eq!((record.prober, record.reflector), (ends.0.into(), ends.1.into()));
    }
});
