//! Whether a peer agrees to a volley, and at which rate.

use std::fmt;

use crate::identity::Identity;

/// Why no volley is sent, displayed as a clause whose subject is the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAgreement {
    Refused,
    OlderPeer,
    NoAnswer,
}

impl fmt::Display for NoAgreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "agrees to no volley; give it a --volley-limit above 0",
            Self::OlderPeer => {
                "did not say whether it agrees to a volley, because its kstamp is older; update it, or give --force"
            }
            Self::NoAnswer => {
                "does not answer the identity request, so it did not agree to a volley; start `kstamp reflect` or `kstamp \
                 agent` there, or give --force for another STAMP reflector"
            }
        })
    }
}

/// The rate to which a peer agrees, in probes per second; `None` for any. `peer` is the host that answered the identity
/// request. `force` stands in for a missing answer, not for a limit that the peer reported.
pub fn limit(peer: Option<&Identity>, force: bool) -> Result<Option<u64>, NoAgreement> {
    match peer.map(|peer| peer.volley_limit) {
        Some(Some(0)) => Err(NoAgreement::Refused),
        Some(Some(limit)) => Ok(Some(limit.into())),
        Some(None) | None if force => Ok(None),
        Some(None) => Err(NoAgreement::OlderPeer),
        None => Err(NoAgreement::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(volley_limit: Option<u32>) -> Identity {
        Identity {
            name: "agent".to_owned(),
            version: "0.1.0".to_owned(),
            instance: None,
            receive: String::new(),
            egress: String::new(),
            synchronised: false,
            error_ns: 0,
            stateful: true,
            responder: None,
            volley_limit,
        }
    }

    #[test]
    fn only_silence_can_be_overridden() {
        // What the peer said, and the outcome without and with --force.
        let table = [
            (Some(Some(0)), Err(NoAgreement::Refused), Err(NoAgreement::Refused)),
            (Some(Some(1)), Ok(Some(1)), Ok(Some(1))),
            (Some(Some(u32::MAX)), Ok(Some(4_294_967_295)), Ok(Some(4_294_967_295))),
            (Some(None), Err(NoAgreement::OlderPeer), Ok(None)),
            (None, Err(NoAgreement::NoAnswer), Ok(None)),
        ];
        for (said, plain, forced) in table {
            let peer = said.map(peer);
            let limits = [false, true].map(|force| limit(peer.as_ref(), force));
            assert_eq!(limits, [plain, forced], "{said:?}");
        }
    }
}
