//! The frame parser never reads past the frame, and finds the same datagram as etherparse.

#![no_main]

use etherparse::{SlicedPacket, TransportSlice};
use probe_common::frame::udp;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    let found = udp(frame);
    // Whether a header is complete is all that the length of the frame decides.
    for length in 0..frame.len() {
        let shorter = udp(&frame[..length]);
        assert!(shorter.is_none() || shorter == found, "cut to {length} bytes");
    }
    if let Some(udp) = found
        && let Some(length) = udp.payload_len()
    {
        assert!(length < usize::from(udp.ip_payload_len));
    }
    if let Ok(sliced) = SlicedPacket::from_ethernet(frame)
        && let Some(TransportSlice::Udp(theirs)) = sliced.transport
        && let Some(ours) = found
    {
        let ports = (theirs.source_port(), theirs.destination_port());
        assert_eq!((ours.source_port, ours.destination_port), ports);
    }
});
