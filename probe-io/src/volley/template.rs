//! The frame of a probe, from the one that a socket has sent.

use probe_common::family::Family;
use probe_common::frame::payload_at;
use probe_common::reflect::{BaseFrame, V4, V4_FRAME, V6, V6_FRAME};
use probe_common::stamp::{SEQUENCE, TIMESTAMP};
use probe_common::volley::Template;

/// Clears what changes from probe to probe in a captured frame of IP version `family`, and sums up the rest. `None` if
/// the frame is none of that version.
pub(crate) fn finish(captured: &Template, family: Family) -> Option<Template> {
    let mut template = *captured;
    template.reserved = 0;
    let expected = match family {
        Family::V4 => V4_FRAME,
        Family::V6 => V6_FRAME,
    };
    if usize::from(template.length) != expected {
        return None;
    }
    let payload = payload_at(family);
    template.frame[payload + SEQUENCE..][..4].fill(0);
    template.frame[payload + TIMESTAMP..][..8].fill(0);
    template.sum = match family {
        Family::V4 => sum(&V4(*template.frame.first_chunk::<V4_FRAME>()?)),
        Family::V6 => sum(&V6(*template.frame.first_chunk::<V6_FRAME>()?)),
    };
    Some(template)
}

fn sum<F: BaseFrame>(frame: &F) -> u64 {
    let (fields, zeros) = frame.sums();
    let whole = frame.with_udp_header(fields.plus(zeros)).plus(frame.pseudo());
    u16::from_ne_bytes(whole.fold()).into()
}
