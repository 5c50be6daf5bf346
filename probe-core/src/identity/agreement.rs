//! Whether a peer agrees to a volley, and at which rate.

use std::fmt;

use crate::identity::Identity;

/// The rate of a volley that asks for none, in probes per second.
pub const DEFAULT_RATE: u64 = 100_000;

/// The rate that the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedRate {
    /// [`DEFAULT_RATE`], or the peer's limit if that is lower.
    Default,
    /// Probes per second.
    PerSecond(u64),
    /// The peer's limit or, without one, as fast as this host can.
    Max,
}

/// Why no volley is sent. Each is displayed as a clause about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolleyRefusal {
    None,
    Rate { limit: u32, wanted: u64 },
    OlderPeer,
    NoAnswer,
}

impl fmt::Display for VolleyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("agrees to no volley (--volley-limit 0 there)"),
            Self::Rate { limit, wanted } => write!(
                f,
                "agrees to {limit} probes a second at most, and --rate is {wanted}; lower --rate, or raise --volley-limit \
                 there"
            ),
            Self::OlderPeer => f.write_str(
                "did not say whether it agrees to a volley, because its kstamp is older; update it, or give --force",
            ),
            Self::NoAnswer => f.write_str(
                "does not answer the identity request, so it did not agree to a volley; start `kstamp reflect` or `kstamp \
                 agent` there, or give --force for another STAMP reflector",
            ),
        }
    }
}

/// The rate of a volley in probes per second, `None` for no limit. `peer` is the host that answered the identity request.
/// With `force`, a peer that said nothing has agreed to everything; its own limit holds all the same.
pub fn rate(peer: Option<&Identity>, wanted: WantedRate, force: bool) -> Result<Option<u64>, VolleyRefusal> {
    let limit = peer.map(|peer| peer.volley_limit);
    let limit = match limit {
        Some(Some(0)) => return Err(VolleyRefusal::None),
        Some(Some(limit)) => Some(limit),
        Some(None) if !force => return Err(VolleyRefusal::OlderPeer),
        None if !force => return Err(VolleyRefusal::NoAnswer),
        Some(None) | None => None,
    };
    match (wanted, limit) {
        (WantedRate::PerSecond(wanted), Some(limit)) if wanted > limit.into() => {
            Err(VolleyRefusal::Rate { limit, wanted })
        }
        (WantedRate::PerSecond(wanted), _) => Ok(Some(wanted)),
        (WantedRate::Default, limit) => Ok(Some(limit.map_or(DEFAULT_RATE, |limit| DEFAULT_RATE.min(limit.into())))),
        (WantedRate::Max, limit) => Ok(limit.map(Into::into)),
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
    fn a_volley_never_exceeds_what_the_peer_agreed_to() {
        use VolleyRefusal as No;
        use WantedRate::{Default, Max, PerSecond};
        let above = |limit, wanted| Err(No::Rate { limit, wanted });
        // What the peer said, what the user wants, and the outcome without and with --force.
        let table = [
            (Some(Some(0)), Default, Err(No::None), Err(No::None)),
            (Some(Some(0)), Max, Err(No::None), Err(No::None)),
            (Some(Some(0)), PerSecond(1), Err(No::None), Err(No::None)),
            (Some(Some(50_000)), Default, Ok(Some(50_000)), Ok(Some(50_000))),
            (
                Some(Some(500_000)),
                Default,
                Ok(Some(DEFAULT_RATE)),
                Ok(Some(DEFAULT_RATE)),
            ),
            (
                Some(Some(50_000)),
                PerSecond(50_000),
                Ok(Some(50_000)),
                Ok(Some(50_000)),
            ),
            (
                Some(Some(50_000)),
                PerSecond(50_001),
                above(50_000, 50_001),
                above(50_000, 50_001),
            ),
            (Some(Some(50_000)), Max, Ok(Some(50_000)), Ok(Some(50_000))),
            (Some(None), Default, Err(No::OlderPeer), Ok(Some(DEFAULT_RATE))),
            (Some(None), Max, Err(No::OlderPeer), Ok(None)),
            (None, Default, Err(No::NoAnswer), Ok(Some(DEFAULT_RATE))),
            (None, PerSecond(7), Err(No::NoAnswer), Ok(Some(7))),
            (None, Max, Err(No::NoAnswer), Ok(None)),
        ];
        for (said, wanted, plain, forced) in table {
            let peer = said.map(peer);
            assert_eq!(rate(peer.as_ref(), wanted, false), plain, "{said:?} {wanted:?}");
            assert_eq!(rate(peer.as_ref(), wanted, true), forced, "{said:?} {wanted:?}, forced");
        }
    }
}
