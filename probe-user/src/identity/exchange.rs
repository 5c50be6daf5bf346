//! When to ask whom: a peer that shows itself, soon and a few times, and then rarely. And how often to answer.

use std::collections::BTreeMap;
use std::net::IpAddr;

const RETRY_NS: u64 = 1_000_000_000;
const RETRIES: u32 = 5;
const REFRESH_NS: u64 = 60_000_000_000;

/// The questions that are due.
#[derive(Debug, Default)]
pub struct Exchange {
    peers: BTreeMap<IpAddr, Asked>,
}

#[derive(Debug)]
struct Asked {
    next_ns: u64,
    unanswered: u32,
}

impl Exchange {
    /// `peer` has shown itself: ask it now.
    pub fn peer_up(&mut self, peer: IpAddr, now_ns: u64) {
        self.peers.insert(
            peer,
            Asked {
                next_ns: now_ns,
                unanswered: 0,
            },
        );
    }

    /// `peer` has gone: ask no more.
    pub fn peer_down(&mut self, peer: IpAddr) {
        self.peers.remove(&peer);
    }

    /// `peer` has answered. Says whether it had been asked.
    pub fn answered(&mut self, peer: IpAddr, now_ns: u64) -> bool {
        let asked = self.peers.get_mut(&peer);
        let Some(asked) = asked.filter(|asked| asked.unanswered > 0) else {
            return false;
        };
        *asked = Asked {
            next_ns: now_ns + REFRESH_NS,
            unanswered: 0,
        };
        true
    }

    /// A peer to ask now, if any.
    pub fn poll(&mut self, now_ns: u64) -> Option<IpAddr> {
        let (&peer, asked) = self.peers.iter_mut().find(|(_, asked)| asked.next_ns <= now_ns)?;
        asked.unanswered += 1;
        let wait_ns = if asked.unanswered < RETRIES {
            RETRY_NS
        } else {
            REFRESH_NS
        };
        asked.next_ns = now_ns + wait_ns;
        Some(peer)
    }
}

/// A bound on answers, for all askers together: a token bucket.
#[derive(Debug)]
pub struct AnswerLimit {
    tokens: f64,
    refilled_ns: u64,
}

impl AnswerLimit {
    const PER_SECOND: f64 = 200.0;
    const BURST: f64 = 400.0;

    /// A full bucket.
    pub fn new(now_ns: u64) -> Self {
        Self {
            tokens: Self::BURST,
            refilled_ns: now_ns,
        }
    }

    /// Whether one more answer may be given now.
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
            while let Some(peer) = exchange.poll(second * S) {
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
        assert!(!exchange.answered(peer(6), 0), "it has not been asked yet");
        assert_eq!(exchange.poll(0), Some(peer(6)));
        assert!(exchange.answered(peer(6), S / 2));
        assert!(!exchange.answered(peer(6), S / 2), "one answer to one question");
        assert_eq!(exchange.poll(59 * S), None);
        assert_eq!(exchange.poll(61 * S), Some(peer(6)));
    }

    #[test]
    fn strangers_and_the_departed_have_no_say() {
        let mut exchange = Exchange::default();
        exchange.peer_up(peer(6), 0);
        assert!(!exchange.answered(peer(7), 0));
        exchange.peer_down(peer(6));
        assert_eq!(exchange.poll(S), None);
    }

    #[test]
    fn answers_are_bounded() {
        let mut limit = AnswerLimit::new(0);
        assert_eq!((0..1000).filter(|_| limit.allow(0)).count(), 400);
        assert_eq!((0..1000).filter(|_| limit.allow(S)).count(), 200);
    }
}
