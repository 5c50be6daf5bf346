//! Proves to another agent that both read one clock, without naming the clock.
//!
//! The proof is an HMAC over a random number of each end and the address of the end that proves. Its key is a secret that
//! all agents on one clock know. A host that reads another clock cannot compute the proof. Nor can it use that of an
//! agent on the clock, which covers the agent's address.

use std::net::IpAddr;

use probe_common::abi::Address;
use serde::{Deserialize, Serialize};

use crate::auth::Key;

const PURPOSE: &[u8] = b"kstamp same clock";

#[derive(Debug, Clone)]
pub struct ClockKey(Key);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockProof {
    /// Of the end that proves.
    nonce: u64,
    hmac: u64,
}

impl ClockKey {
    /// `secret` identifies the clock.
    pub fn new(secret: &[u8]) -> Self {
        Self(Key::new(secret))
    }

    /// The proof for an end that asked with the nonce `asked`. The own nonce must be random.
    pub fn prove(&self, asked: u64, nonce: u64, own: IpAddr) -> ClockProof {
        ClockProof {
            nonce,
            hmac: self.hmac(asked, nonce, own),
        }
    }

    /// Whether `peer`, which was asked with the nonce `asked`, reads this clock.
    pub fn accepts(&self, asked: u64, peer: IpAddr, proof: &ClockProof) -> bool {
        proof.hmac == self.hmac(asked, proof.nonce, peer)
    }

    fn hmac(&self, asked: u64, nonce: u64, address: IpAddr) -> u64 {
        let address = Address::from(address.to_canonical()).bytes();
        let hmac = self
            .0
            .hmac(&[PURPOSE, &asked.to_be_bytes(), &nonce.to_be_bytes(), &address]);
        hmac.first_chunk().map_or(0, |cut| u64::from_be_bytes(*cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 6));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 7));

    #[test]
    fn only_an_agent_on_the_clock_proves_it_for_its_address_and_for_the_request() {
        let (key, other) = (ClockKey::new(b"boot 1"), ClockKey::new(b"boot 2"));
        let proof = key.prove(5, 77, PROVER);
        let mapped = "::ffff:10.1.1.6".parse().unwrap();
        let table = [
            ("itself", &key, 5, PROVER, proof, true),
            ("its mapped address", &key, 5, mapped, proof, true),
            ("another clock", &other, 5, PROVER, proof, false),
            ("another request", &key, 6, PROVER, proof, false),
            ("passed on by another host", &key, 5, OTHER, proof, false),
            (
                "another nonce",
                &key,
                5,
                PROVER,
                ClockProof { nonce: 78, ..proof },
                false,
            ),
            ("made up", &key, 5, PROVER, ClockProof { hmac: 0, ..proof }, false),
        ];
        for (what, key, asked, peer, proof, accepted) in table {
            assert_eq!(key.accepts(asked, peer, &proof), accepted, "{what}");
        }
    }
}
