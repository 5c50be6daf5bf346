//! The older agents' probes: a number in ASCII goes back to its sender as it came.
//!
//! Request and reply are the same bytes, so that only the headers can tell them apart. See `EchoLoop`.

use probe_common::abi::{Counter, ECHO_PORT, Settings};
use probe_common::frame::Udp;
use probe_common::reflect::{Frame, V4, V4_HEADERS, V6, V6_HEADERS};

use crate::hook::Hook;
use crate::judge::Task;

/// Ports below belong to services, some of which send back what they get (RFC 862).
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Hosts send with a TTL of 64 or 128; our echoes leave with 255, and come from less than 127 hops away.
const LARGEST_TTL: u8 = 128;

/// Whether a number may be an echo itself, or its answer be echoed.
#[inline(always)]
pub fn may_loop<F: Frame>(frame: &F, udp: &Udp) -> bool {
    udp.source_port < FIRST_UNPRIVILEGED_PORT || udp.source_port == ECHO_PORT || frame.ttl() > LARGEST_TTL
}

/// Sends a number back. `Ok` means that it is to be transmitted.
#[inline(always)]
pub fn answer<H: Hook>(hook: &H, settings: &Settings, task: &Task) -> Result<Counter, Counter> {
    let turned = if task.is(Task::V6) {
        hook.change(|frame: &mut V6<V6_HEADERS>| turn(frame, settings, task))
    } else {
        hook.change(|frame: &mut V4<V4_HEADERS>| turn(frame, settings, task))
    };
    if !turned {
        return Err(Counter::ReflectFailed);
    }
    Ok(if task.is(Task::GROUP) {
        Counter::EchoedGroup
    } else {
        Counter::Echoed
    })
}

#[inline(always)]
fn turn<F: Frame>(frame: &mut F, settings: &Settings, task: &Task) {
    frame.echo(settings.mac, &task.own, task.sum, task.is(Task::PARTIAL));
}
