//! Decides when to ask a peer for its identity: a new peer at once and a few times, then rarely. Limits the answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

const RETRY_NS: u64 = 1_000_000_000;
const RETRIES: u32 = 5;
/// Answers also report refused probes, so they are refreshed after this.
pub const REFRESH_NS: u64 = 10_000_000_000;
/// A peer that does not answer may not run kstamp, and is asked again after this.
const SILENT_RETRY_NS: u64 = 60_000_000_000;

#[derive(Debug, Default)]
pub struct Exchange {
    peers: BTreeMap<IpAddr, Asked>,
}

#[derive(Debug)]
struct Asked {
    next_ns: u64,
    unanswered: u32,
    /// The nonce of the last request, until it is answered.
    nonce: Option<u64>,
    /// The nonce of the last request that was answered.
    answered: Option<u64>,
}

impl Exchange {
    pub fn peer_up(&mut self, peer: IpAddr, now_ns: u64) {
        let asked = Asked {
            next_ns: now_ns,
            unanswered: 0,
            nonce: None,
            answered: None,
        };
        self.peers.insert(peer, asked);
    }

    pub fn peer_down(&mut self, peer: IpAddr) {
        self.peers.remove(&peer);
    }

    /// The peer that was asked with `nonce`. The source address does not count, since a host may answer from another
    /// address than it is probed at.
    pub fn answered(&mut self, nonce: u64, now_ns: u64) -> Option<IpAddr> {
        let (&peer, asked) = self.peers.iter_mut().find(|(_, asked)| asked.nonce == Some(nonce))?;
        *asked = Asked {
            next_ns: now_ns + REFRESH_NS,
            unanswered: 0,
            nonce: None,
            answered: Some(nonce),
        };
        Some(peer)
    }

    /// The peer that ends with `nonce`: that of the last request, which it alone has seen, or of the last that it answered.
    pub fn ended(&self, nonce: u64) -> Option<IpAddr> {
        let is_its = |asked: &Asked| [asked.nonce, asked.answered].contains(&Some(nonce));
        self.peers
            .iter()
            .find_map(|(&peer, asked)| is_its(asked).then_some(peer))
    }

    /// A peer to ask now, with `nonce`.
    pub fn poll(&mut self, now_ns: u64, nonce: u64) -> Option<IpAddr> {
        let (&peer, asked) = self.peers.iter_mut().find(|(_, asked)| asked.next_ns <= now_ns)?;
        asked.unanswered += 1;
        asked.nonce = Some(nonce);
        let wait_ns = if asked.unanswered < RETRIES {
            RETRY_NS
        } else {
            SILENT_RETRY_NS
        };
        asked.next_ns = now_ns + wait_ns;
        Some(peer)
    }
}

/// A token bucket for all answers together.
#[derive(Debug)]
pub struct AnswerLimit {
    tokens: f64,
    refilled_ns: u64,
}

impl AnswerLimit {
    const PER_SECOND: f64 = 200.0;
    const BURST: f64 = 400.0;

    pub fn new(now_ns: u64) -> Self {
        Self {
            tokens: Self::BURST,
            refilled_ns: now_ns,
        }
    }

    pub fn allow(&mut self, now_ns: u64) -> bool {
        let elapsed_s = now_ns.saturating_sub(self.refilled_ns) as f64 / 1e9;
        self.tokens = (self.tokens + elapsed_s * Self::PER_SECOND).min(Self::BURST);
        self.refilled_ns = now_ns;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn peer(last: u8) -> IpAddr {
        [10, 1, 1, last].into()
    }

    #[test]
    fn asks_soon_a_few_times_then_rarely() {
        let mut exchange = Exchange::default();
        exchange.peer_up(peer(6), 0);
        let mut asked = Vec::new();
        for second in 0..130 {
            while let Some(peer) = exchange.poll(second * S, 1) {
                asked.push((second, peer));
            }
        }
        let seconds: Vec<_> = asked.iter().map(|&(second, _)| second).collect();
        assert_eq!(seconds, [0, 1, 2, 3, 4, 64, 124]);
    }

    #[test]
    fn an_answer_ends_the_retries() {
        let mut exchange = Exchange::default();
        exchange.peer_up(peer(6), 0);
        assert_eq!(exchange.poll(0, 77), Some(peer(6)));
        assert_eq!(exchange.answered(77, S / 2), Some(peer(6)));
        assert_eq!(exchange.answered(77, S / 2), None, "one answer to one request");
        assert_eq!(exchange.poll(10 * S, 78), None);
        assert_eq!(exchange.poll(11 * S, 78), Some(peer(6)));
    }

    #[test]
    fn only_the_last_request_is_answered_and_only_by_its_nonce() {
        let mut exchange = Exchange::default();
        exchange.peer_up(peer(6), 0);
        exchange.peer_up(peer(7), 0);
        assert_eq!(exchange.answered(0, 0), None, "no peer was asked");
        assert_eq!(exchange.poll(0, 1), Some(peer(6)));
        assert_eq!(exchange.poll(0, 2), Some(peer(7)));
        assert_eq!(exchange.poll(S, 3), Some(peer(6)));
        assert_eq!(exchange.answered(1, S), None, "asked again since");
        assert_eq!(exchange.answered(2, S), Some(peer(7)));
        exchange.peer_down(peer(6));
        assert_eq!(exchange.answered(3, S), None);
        assert_eq!(exchange.poll(9 * S, 4), None);
    }

    #[test]
    fn a_peer_ends_by_the_nonce_of_the_last_request_only() {
        let mut exchange = Exchange::default();
        exchange.peer_up(peer(6), 0);
        assert_eq!(exchange.ended(0), None, "not asked yet");
        exchange.poll(0, 77);
        assert_eq!(exchange.ended(77), Some(peer(6)), "its answer was lost");
        exchange.answered(77, S);
        assert_eq!((exchange.ended(77), exchange.ended(78)), (Some(peer(6)), None));
        exchange.poll(11 * S, 78);
        assert_eq!(exchange.ended(77), Some(peer(6)), "it has not got the new request yet");
        exchange.answered(78, 12 * S);
        assert_eq!(exchange.ended(77), None, "an old one");
        exchange.peer_down(peer(6));
        assert_eq!(exchange.ended(78), None);
    }

    #[test]
    fn answers_are_bounded() {
        let mut limit = AnswerLimit::new(0);
        assert_eq!((0..1000).filter(|_| limit.allow(0)).count(), 400);
        assert_eq!((0..1000).filter(|_| limit.allow(S)).count(), 200);
    }
}
