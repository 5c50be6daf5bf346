//! The older agents' probes: a number in ASCII goes back to its sender as it came.
//!
//! Request and reply are the same bytes, so that only the headers can tell them apart. See `EchoLoop`.

use probe_common::abi::{Counter, ECHO_PORT, Settings};
use probe_common::checksum::{Found, Sum};
use probe_common::frame::{Family, Udp};
use probe_common::reflect::{Frame, V4, V4_HEADERS, V6, V6_HEADERS};

use crate::hook::Hook;
use crate::{policy, reflect};

/// Ports below belong to services, some of which send back what they get (RFC 862).
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Hosts send with a TTL of 64 or 128; our echoes leave with 255, and come from less than 127 hops away.
const LARGEST_TTL: u8 = 128;

/// Sends a datagram back whose payload adds up to `number`. `Ok` means that it is to be transmitted.
#[inline(always)]
pub fn echo<H: Hook>(hook: &H, udp: &Udp, settings: &Settings, number: Sum, now_ns: u64) -> Result<Counter, Counter> {
    if udp.source_port < FIRST_UNPRIVILEGED_PORT || udp.source_port == ECHO_PORT {
        return Err(Counter::EchoLoop);
    }
    match udp.family {
        Family::V4 => hook.edit(|frame: &mut V4<V4_HEADERS>| turn(frame, settings, number, now_ns)),
        Family::V6 => hook.edit(|frame: &mut V6<V6_HEADERS>| turn(frame, settings, number, now_ns)),
    }
}

#[inline(always)]
fn turn<F: Frame>(frame: &mut F, settings: &Settings, number: Sum, now_ns: u64) -> Result<Counter, Counter> {
    if !frame.source_is_answerable() || !frame.is_from_station() {
        return Err(Counter::BadSource);
    }
    let checksum = frame.checksum_over(number);
    if checksum == Found::Wrong || !frame.network_is_intact() {
        return Err(Counter::BadChecksum);
    }
    if frame.ttl() > LARGEST_TTL {
        return Err(Counter::EchoLoop);
    }
    let (own, group) = reflect::meant(frame, settings)?;
    policy::admit(settings, &frame.source(), reflect::wish_of(group), now_ns)?;
    let partial = checksum == Found::Partial && settings.partial_checksums != 0;
    frame.echo(settings.mac, &own, number, partial);
    Ok(if group { Counter::EchoedGroup } else { Counter::Echoed })
}
