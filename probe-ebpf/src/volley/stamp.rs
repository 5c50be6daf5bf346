//! Stamps the probes of a socket at TC egress. The first of them is the template of the probes that programs send.

use core::ptr;

use probe_common::family::Family;
use probe_common::frame::{self, Source as _, UDP_CHECKSUM, UDP_LEN, Udp, payload_at};
use probe_common::reflect::{V4_FRAME, V6_FRAME};
use probe_common::stamp::{BASE_LEN, SEQUENCE, TIMESTAMP};
use probe_common::volley::{Count, Settings, word};

use crate::count::count;
use crate::hook::{Hook as _, TcHook};
use crate::launch::occupy;
use crate::maps::{CONTROL, TEMPLATE, now_ns, slot, tally};

#[inline(always)]
pub fn stamp(hook: &TcHook, settings: &Settings) {
    let Some(udp) = frame::udp(hook) else {
        return;
    };
    if udp.destination_port != settings.test_port || udp.source_port != settings.source_port {
        return;
    }
    let Some(tally) = tally() else {
        return;
    };
    let is_probe = udp.payload_len() == Some(BASE_LEN) && udp.obstacle.is_none() && !hook.untagged();
    let stamped = is_probe && write(hook, &udp, settings).is_some();
    count(tally, if stamped { Count::Sent } else { Count::Failed });
}

#[inline(always)]
fn write(hook: &TcHook, udp: &Udp, settings: &Settings) -> Option<()> {
    hook.clear_flow_hash();
    let payload = payload_at(udp.family);
    let sequence = u32::from_be(hook.load(payload + SEQUENCE)?);
    capture(hook, udp);
    let slot = slot(settings, sequence)?;
    let t1 = settings.epoch.wire(now_ns());
    occupy(slot, word::of(sequence, word::LOOSE), t1.0);
    // If this fails, the probe leaves without T1, and no reply to it is accepted.
    hook.replace(payload + TIMESTAMP, payload - UDP_LEN + UDP_CHECKSUM, t1.0.to_be());
    Some(())
}

/// Copies the frame into `TEMPLATE` if the process requests it.
#[inline(always)]
fn capture(hook: &TcHook, udp: &Udp) {
    let (Some(control), Some(template)) = (CONTROL.get_ptr_mut(0), TEMPLATE.get_ptr_mut(0)) else {
        return;
    };
    // SAFETY: map values stay readable and writable for the program's run, and the process waits for the length.
    unsafe {
        if ptr::read_volatile(&raw const (*control).capture) == 0 {
            return;
        }
        let frame = (&raw mut (*template).frame).cast();
        let copied = match udp.family {
            Family::V4 => hook.copy(0, frame, V4_FRAME).then_some(V4_FRAME),
            Family::V6 => hook.copy(0, frame, V6_FRAME).then_some(V6_FRAME),
        };
        if let Some(length) = copied {
            ptr::write_volatile(&raw mut (*template).length, length as u16);
            ptr::write_volatile(&raw mut (*control).capture, 0);
        }
    }
}
