//! The packets of `kstamp compare`: processes send these probes and responders, processes too, answer them. They are as
//! long as a base STAMP packet, so that all methods put as many bytes on the wire.
//!
//! They go to the responder's own ports, which an agent advertises in the identity exchange, and are not STAMP: a probe
//! and its reply differ in one bit, and a reply is never answered. Offsets count from the start of the UDP payload;
//! sequence numbers and kinds are big-endian, stamps have the byte order of the host that took them.

use crate::abi::is_one_of;
use crate::bytes::{get, put};
use crate::family::Family;
use crate::frame::Udp;

/// Length of a probe and of its reply.
pub const LEN: usize = crate::stamp::BASE_LEN;

/// Sequence number: `u32`.
pub const SEQUENCE: usize = 0;
/// Watched reply: the reply left the far port, monotonic clock there. Socket reply: T3 of the probe [`PREVIOUS`], UTC,
/// big-endian.
pub const FAR_EGRESS: usize = 4;
/// [`PROBE`] or [`WATCHED_PROBE`], with [`IS_REPLY`] in a reply: `u32`.
pub const KIND: usize = 12;
/// Watched: the probe reached the far port, monotonic clock there. Socket reply: T2, UTC, big-endian.
pub const FAR_INGRESS: usize = 16;
/// Socket reply: the sequence number of the probe whose reply left at [`FAR_EGRESS`].
pub const PREVIOUS: usize = 24;
/// Watched: the probe left the near port, monotonic clock there.
pub const NEAR_EGRESS: usize = 28;
/// Watched reply: the reply reached the near port, monotonic clock there.
pub const NEAR_INGRESS: usize = 36;

pub const PROBE: u32 = 0x6b73_0001;
/// A probe that the watching programs stamp on its way.
pub const WATCHED_PROBE: u32 = 0x6b73_0003;
/// Set in the kind of every reply, and in that of no probe.
pub const IS_REPLY: u32 = 0x8000_0000;

/// A probe, all stamps at zero.
pub fn probe(sequence: u32, watched: bool) -> [u8; LEN] {
    let kind = if watched { WATCHED_PROBE } else { PROBE };
    let mut packet = [0; LEN];
    put(&mut packet, SEQUENCE, sequence.to_be_bytes());
    put(&mut packet, KIND, kind.to_be_bytes());
    packet
}

/// Turns a probe into its reply in place, and returns whether it is watched; `None` if it is no probe.
pub fn into_reply(packet: &mut [u8]) -> Option<bool> {
    let kind = kind(packet)?;
    if kind != PROBE && kind != WATCHED_PROBE {
        return None;
    }
    put(packet, KIND, (kind + IS_REPLY).to_be_bytes());
    Some(kind == WATCHED_PROBE)
}

/// The sequence number of a reply, and whether it is watched; `None` if it is no reply.
pub fn reply(packet: &[u8]) -> Option<(u32, bool)> {
    let watched = match kind(packet)?.checked_sub(IS_REPLY)? {
        PROBE => false,
        WATCHED_PROBE => true,
        _ => return None,
    };
    Some((u32::from_be_bytes(get(packet, SEQUENCE)), watched))
}

fn kind(packet: &[u8]) -> Option<u32> {
    (packet.len() == LEN).then(|| u32::from_be_bytes(get(packet, KIND)))
}

/// A stamp that a watching program of this host wrote; `None` if none did.
pub fn stamp(packet: &[u8], at: usize) -> Option<u64> {
    field(packet, at).map(u64::from_ne_bytes).filter(|&stamp| stamp != 0)
}

pub fn field<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

/// The one entry of the `WATCH` array, which the watching programs read.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchSettings {
    /// [`ABI_VERSION`](crate::abi::ABI_VERSION) of the loader.
    pub abi_version: u32,
    /// Port from which this host's probes leave, host order; 0 for none.
    pub near_port: u16,
    /// Port of this host's responder for IPv4, host order; 0 for none.
    pub responder_port_v4: u16,
    /// Port of this host's responder for IPv6, host order; 0 for none.
    pub responder_port_v6: u16,
    pub reserved: u16,
}

const _: () = assert!(size_of::<WatchSettings>() == 12 && align_of::<WatchSettings>() == 4);

// SAFETY: `repr(C)`, made of integers, valid for any bytes, and without padding, which its size shows.
#[cfg(feature = "user")]
unsafe impl aya::Pod for WatchSettings {}

impl WatchSettings {
    /// Offset at which to stamp a packet that leaves, and the kind it must have, by its ports.
    #[inline(always)]
    pub fn on_egress(&self, udp: &Udp) -> Option<(usize, u32)> {
        if is(udp.source_port, self.near_port) {
            Some((NEAR_EGRESS, WATCHED_PROBE))
        } else if is(udp.source_port, self.responder_port(udp)) {
            Some((FAR_EGRESS, WATCHED_PROBE + IS_REPLY))
        } else {
            None
        }
    }

    /// Offset at which to stamp a packet that arrives, and the kind it must have, by its ports.
    #[inline(always)]
    pub fn on_ingress(&self, udp: &Udp) -> Option<(usize, u32)> {
        if is(udp.destination_port, self.responder_port(udp)) {
            Some((FAR_INGRESS, WATCHED_PROBE))
        } else if is(udp.destination_port, self.near_port) {
            Some((NEAR_INGRESS, WATCHED_PROBE + IS_REPLY))
        } else {
            None
        }
    }

    /// Whether packets of this host with this port may have to be stamped.
    #[inline(always)]
    pub fn is_watched(&self, port: u16) -> bool {
        is_one_of(
            port,
            [self.near_port, self.responder_port_v4, self.responder_port_v6, 0],
        )
    }

    #[inline(always)]
    fn responder_port(&self, udp: &Udp) -> u16 {
        match udp.family {
            Family::V4 => self.responder_port_v4,
            Family::V6 => self.responder_port_v6,
        }
    }
}

#[inline(always)]
fn is(port: u16, wanted: u16) -> bool {
    port == wanted && wanted != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_never_answered() {
        for watched in [false, true] {
            let mut packet = probe(7, watched);
            assert_eq!(reply(&packet), None, "a probe is no reply");
            assert_eq!(into_reply(&mut packet), Some(watched));
            assert_eq!(packet.len(), LEN, "no amplification");
            assert_eq!(reply(&packet), Some((7, watched)));
            assert_eq!(into_reply(&mut packet), None);
        }
    }

    #[test]
    fn only_probes_are_answered() {
        let stamp = crate::stamp::probe(1, crate::ntp::ErrorEstimate(0x8101), 9);
        for packet in [&stamp[..], &[0; LEN], &probe(1, false)[..LEN - 1], &[]] {
            assert_eq!(into_reply(&mut packet.to_vec()), None);
            assert_eq!(reply(packet), None);
        }
        let mut longer = probe(1, false).to_vec();
        longer.push(0);
        assert_eq!(into_reply(&mut longer), None);
    }

    #[test]
    fn each_stamp_has_its_place_by_port_and_direction() {
        let settings = WatchSettings {
            abi_version: 1,
            near_port: 40_000,
            responder_port_v4: 50_004,
            responder_port_v6: 50_006,
            reserved: 0,
        };
        let udp = |family, source_port, destination_port| Udp {
            family,
            obstacle: None,
            source_port,
            destination_port,
            ip_payload_len: 52,
            udp_len: 52,
        };
        let off = WatchSettings {
            near_port: 0,
            responder_port_v4: 0,
            ..settings
        };
        let (probe, reply) = (WATCHED_PROBE, WATCHED_PROBE + IS_REPLY);
        for (settings, udp, on_egress, on_ingress) in [
            (
                settings,
                udp(Family::V4, 40_000, 50_004),
                Some((NEAR_EGRESS, probe)),
                Some((FAR_INGRESS, probe)),
            ),
            (
                settings,
                udp(Family::V6, 50_006, 40_000),
                Some((FAR_EGRESS, reply)),
                Some((NEAR_INGRESS, reply)),
            ),
            (settings, udp(Family::V6, 50_004, 50_004), None, None),
            (settings, udp(Family::V4, 50_006, 50_006), None, None),
            (off, udp(Family::V4, 0, 0), None, None),
        ] {
            assert_eq!(settings.on_egress(&udp), on_egress, "{udp:?}");
            assert_eq!(settings.on_ingress(&udp), on_ingress, "{udp:?}");
            assert!(on_egress.is_none() || settings.is_watched(udp.source_port));
            assert!(on_ingress.is_none() || settings.is_watched(udp.destination_port));
        }
        assert!(!settings.is_watched(40_001) && !off.is_watched(0) && !off.is_watched(40_000));
    }

    #[test]
    fn fields_are_read_where_they_are_and_not_beyond() {
        let mut packet = probe(7, true);
        assert_eq!(field(&packet, SEQUENCE), Some([0, 0, 0, 7]));
        assert_eq!(field::<4>(&packet, LEN - 4), Some([0; 4]));
        assert_eq!(field::<4>(&packet, LEN - 3), None);
        assert_eq!(stamp(&packet, NEAR_EGRESS), None, "not stamped");
        packet[NEAR_EGRESS..][..8].copy_from_slice(&5_u64.to_ne_bytes());
        assert_eq!(stamp(&packet, NEAR_EGRESS), Some(5));
    }
}
