//! Authenticated mode (RFC 8762 §4.4, RFC 8972 §4.8): HMAC-SHA-256, truncated to 16 bytes, over base packets and TLVs.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use probe_common::authenticated::{BASE_LEN, HMAC, HMAC_LEN, SEQUENCE};
use probe_common::tlv::{self, HmacPlace};
use sha2::Sha256;

#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlvIntegrity {
    /// The HMAC is right, or there is nothing to protect.
    Intact,
    /// The HMAC is wrong, misplaced, or missing where one is needed.
    Failed,
}

impl Key {
    /// Takes a secret of any length.
    pub fn new(secret: &[u8]) -> Self {
        match Hmac::new_from_slice(secret) {
            Ok(hmac) => Self(hmac),
            // `InvalidLength` is for other algorithms than HMAC.
            Err(_) => unreachable!("HMAC takes keys of every length"),
        }
    }

    /// Writes the HMAC of a base packet whose other fields are complete. Does nothing if the packet is shorter.
    pub fn sign(&self, packet: &mut [u8]) {
        if let Some(base) = packet.first_chunk_mut::<BASE_LEN>() {
            let (fields, hmac) = base.split_at_mut(HMAC);
            hmac.copy_from_slice(&self.hmac(&[fields]));
        }
    }

    /// Whether the base packet has the right HMAC. Compares in constant time.
    pub fn is_signed(&self, packet: &[u8]) -> bool {
        let Some(base) = packet.first_chunk::<BASE_LEN>() else {
            return false;
        };
        let (fields, hmac) = base.split_at(HMAC);
        self.verify(&[fields], hmac)
    }

    /// Writes the HMAC of the TLVs after a base packet of `base_len` bytes, if there is an HMAC TLV in the right place.
    pub fn sign_tlvs(&self, packet: &mut [u8], base_len: usize) {
        let Some((base, tlvs)) = packet.split_at_mut_checked(base_len) else {
            return;
        };
        if let HmacPlace::At(at) = tlv::hmac_place(tlvs) {
            let (before, rest) = tlvs.split_at_mut(at);
            let hmac = self.hmac(&[&base[SEQUENCE..][..4], before]);
            rest[tlv::HEADER_LEN..][..HMAC_LEN].copy_from_slice(&hmac);
        }
    }

    /// Checks the HMAC of the TLVs after a base packet of `base_len` bytes. TLVs without one are intact unless `needed`: in
    /// unauthenticated mode the sender decides.
    pub fn check_tlvs(&self, packet: &[u8], base_len: usize, needed: bool) -> TlvIntegrity {
        let Some((base, tlvs)) = packet.split_at_checked(base_len) else {
            return TlvIntegrity::Failed;
        };
        let intact = match tlv::hmac_place(tlvs) {
            HmacPlace::NotNeeded => true,
            HmacPlace::Missing => !needed,
            HmacPlace::Misplaced => false,
            HmacPlace::At(at) => {
                let hmac = &tlvs[at + tlv::HEADER_LEN..][..HMAC_LEN];
                self.verify(&[&base[SEQUENCE..][..4], &tlvs[..at]], hmac)
            }
        };
        if intact {
            TlvIntegrity::Intact
        } else {
            TlvIntegrity::Failed
        }
    }

    pub(crate) fn hmac(&self, parts: &[&[u8]]) -> [u8; HMAC_LEN] {
        let mut cut = [0; HMAC_LEN];
        cut.copy_from_slice(&self.fed(parts).finalize().into_bytes()[..HMAC_LEN]);
        cut
    }

    fn verify(&self, parts: &[&[u8]], hmac: &[u8]) -> bool {
        hmac.len() == HMAC_LEN && self.fed(parts).verify_truncated_left(hmac).is_ok()
    }

    fn fed(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut hmac = self.0.clone();
        for part in parts {
            hmac.update(part);
        }
        hmac
    }
}

#[cfg(test)]
mod tests;
