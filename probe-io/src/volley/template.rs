//! Makes the template of probes from a frame that a socket has sent.

use probe_common::family::Family;
use probe_common::frame::payload_at;
use probe_common::reflect::{BaseFrame, V4, V4_FRAME, V6, V6_FRAME};
use probe_common::stamp::{SEQUENCE, TIMESTAMP};
use probe_common::volley::Template;

/// Clears the fields of a captured frame that change from probe to probe, and sums the rest. `None` if the length is not that
/// of a probe of IP version `family`.
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
