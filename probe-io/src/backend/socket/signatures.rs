//! Which address sent a signed reply first: the signature does not cover the address, so anybody who has seen the reply can
//! send a copy from another one.

use std::net::IpAddr;

use probe_common::authenticated::{HMAC, HMAC_LEN};
use probe_core::lru::Lru;

/// As many replies as can answer the group probes of a few seconds.
const MAX_SIGNATURES: usize = 16_384;

#[derive(Debug)]
pub(super) struct Signatures(Lru<[u8; HMAC_LEN], IpAddr>);

impl Default for Signatures {
    fn default() -> Self {
        Self(Lru::new(MAX_SIGNATURES))
    }
}

impl Signatures {
    /// Whether `source` was the first to send this reply.
    pub(super) fn are_of(&mut self, source: IpAddr, packet: &[u8]) -> bool {
        let signature = packet.get(HMAC..).and_then(|rest| rest.first_chunk());
        signature.is_some_and(|&signature| *self.0.get_or(signature, || source) == source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_from_another_address_is_refused_and_a_duplicate_is_not() {
        let mut signatures = Signatures::default();
        let [peer, other]: [IpAddr; 2] = [[10, 1, 1, 6].into(), [10, 1, 1, 7].into()];
        let [one, two] = [1, 2].map(|byte| [byte; HMAC + HMAC_LEN]);
        let table = [
            (peer, one, true),
            (other, one, false),
            (peer, one, true),
            (other, two, true),
            (peer, two, false),
        ];
        for (source, packet, expected) in table {
            assert_eq!(signatures.are_of(source, &packet), expected, "{source} {}", packet[0]);
        }
        assert!(
            !signatures.are_of(peer, &one[..HMAC + HMAC_LEN - 1]),
            "without a signature"
        );
    }
}
