//! Whom a port probes and answers. JSON in a key-value bucket, signed by the hub in the header [`SIGNATURE`].

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

use crate::name::PortName;

/// Header: the signature of the hub's key, in base64.
pub const SIGNATURE: &str = "Kstamp-Signature";

/// So that no other message that the key signs can be taken for an assignment.
const DOMAIN: &[u8] = b"kstamp assignment\n";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub port: PortName,
    /// Grows with each assignment of this port: an agent ignores older ones.
    pub generation: u64,
    pub targets: Vec<Target>,
    /// Who probes this port. No one else is answered on its behalf.
    pub probers: Vec<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    pub port: PortName,
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum AssignmentError {
    #[error("it has no valid signature of the hub's key {0}")]
    Signature(String),
    #[error("it cannot be read: {0}")]
    Content(#[from] serde_json::Error),
    #[error("it is for {0}")]
    Port(PortName),
}

impl Assignment {
    /// The message, and the value of its header.
    pub fn sign(&self, key: &KeyPair) -> Result<(Vec<u8>, String), nkeys::error::Error> {
        let content = serde_json::to_vec(self).unwrap_or_default();
        let signature = key.sign(&[DOMAIN, &content].concat())?;
        Ok((content, STANDARD.encode(signature)))
    }

    /// Reads a message for `port`. `key` is the hub's public key.
    pub fn verify(content: &[u8], signature: &str, key: &KeyPair, port: &PortName) -> Result<Self, AssignmentError> {
        let is_signed = STANDARD
            .decode(signature)
            .is_ok_and(|signature| key.verify(&[DOMAIN, content].concat(), &signature).is_ok());
        if !is_signed {
            return Err(AssignmentError::Signature(key.public_key()));
        }
        let assignment: Self = serde_json::from_slice(content)?;
        if assignment.port != *port {
            return Err(AssignmentError::Port(assignment.port));
        }
        Ok(assignment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assignments_that_the_hub_signed_for_this_port_are_taken() {
        let hub = KeyPair::new_account();
        let public = KeyPair::from_public_key(&hub.public_key()).unwrap();
        let port: PortName = "h1/port1".parse().unwrap();
        let other: PortName = "h2/port1".parse().unwrap();
        let assignment = Assignment {
            port: port.clone(),
            generation: 7,
            targets: vec![Target {
                port: other.clone(),
                addresses: vec!["10.1.1.2".parse().unwrap()],
            }],
            probers: Vec::new(),
        };
        let (content, signature) = assignment.sign(&hub).unwrap();
        let verify = |content: &[u8], signature: &str, port| Assignment::verify(content, signature, &public, port);
        assert_eq!(verify(&content, &signature, &port).unwrap(), assignment);
        let wrong = [
            verify(&content, &signature, &other),
            verify(&content, "", &port),
            verify(&[&content[..], b" "].concat(), &signature, &port),
            verify(&content, &assignment.sign(&KeyPair::new_account()).unwrap().1, &port),
        ];
        assert!(wrong.iter().all(Result::is_err), "{wrong:?}");
    }
}
