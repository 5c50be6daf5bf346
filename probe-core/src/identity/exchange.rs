//! Decides when to ask a peer for its identity: a new peer at once and a few times, then rarely. Limits the answers.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

const RETRY_NS: u64 = 1_000_000_000;
/// Between two requests to a peer while this host's addresses change.
const AGAIN_NS: u64 = 100_000_000;
const RETRIES: u32 = 5;
/// Answers also report refused probes, so they are refreshed after this.
pub const REFRESH_NS: u64 = 10_000_000_000;
/// A peer that does not answer may not run kstamp, and is asked again after this.
const SILENT_RETRY_NS: u64 = 60_000_000_000;

/// Requests a second to all peers together, because 10,000 peers may come up at once.
const REQUESTS_PER_SECOND: f64 = 1_000.0;
const REQUESTS_BURST: f64 = 100.0;

#[derive(Debug)]
pub struct Exchange {
    peers: HashMap<IpAddr, Asked>,
    /// When to ask each peer next.
    due: BTreeSet<(u64, IpAddr)>,
    /// The peer of each nonce in `peers`.
    by_nonce: HashMap<u64, IpAddr>,
    pace: Bucket,
}

#[derive(Debug)]
struct Asked {
    /// When it was last asked, 0 before the first time.
    asked_ns: u64,
    next_ns: u64,
    unanswered: u32,
    /// The nonce of the last request, until it is answered.
    nonce: Option<u64>,
    /// The nonce of the last request that was answered.
    answered: Option<u64>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            peers: HashMap::new(),
            due: BTreeSet::new(),
            by_nonce: HashMap::new(),
            pace: Bucket::new(REQUESTS_PER_SECOND, REQUESTS_BURST, 0),
        }
    }
}

impl Exchange {
    pub fn peer_up(&mut self, peer: IpAddr, now_ns: u64) {
        self.peer_down(peer);
        let asked = Asked {
            asked_ns: 0,
            next_ns: now_ns,
            unanswered: 0,
            nonce: None,
            answered: None,
        };
        self.due.insert((now_ns, peer));
        self.peers.insert(peer, asked);
    }

    pub fn peer_down(&mut self, peer: IpAddr) {
        if let Some(asked) = self.peers.remove(&peer) {
            self.due.remove(&(asked.next_ns, peer));
            for nonce in [asked.nonce, asked.answered].into_iter().flatten() {
                self.by_nonce.remove(&nonce);
            }
        }
    }

    /// This host's addresses have changed: each peer is asked again, because it says goodbye to the address that asked last.
    pub fn ask_again(&mut self, now_ns: u64) {
        self.due.clear();
        for (&peer, asked) in &mut self.peers {
            let soon_ns = asked.asked_ns.saturating_add(AGAIN_NS).max(now_ns);
            asked.next_ns = asked.next_ns.min(soon_ns);
            self.due.insert((asked.next_ns, peer));
        }
    }

    /// The peer that was asked with `nonce`. The source address does not count, since a host may answer from another
    /// address than it is probed at.
    pub fn answered(&mut self, nonce: u64, now_ns: u64) -> Option<IpAddr> {
        let peer = *self.by_nonce.get(&nonce)?;
        let asked = self.peers.get_mut(&peer).filter(|asked| asked.nonce == Some(nonce))?;
        self.due.remove(&(asked.next_ns, peer));
        asked.next_ns = now_ns + REFRESH_NS;
        self.due.insert((asked.next_ns, peer));
        asked.unanswered = 0;
        asked.nonce = None;
        if let Some(before) = asked.answered.replace(nonce) {
            self.by_nonce.remove(&before);
        }
        Some(peer)
    }

    /// The peer that ends with `nonce`: that of the last request, which it alone has seen, or of the last that it answered.
    pub fn ended(&self, nonce: u64) -> Option<IpAddr> {
        self.by_nonce.get(&nonce).copied()
    }

    /// Whether [`Exchange::poll`] may return a peer.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.due.first().is_some_and(|(next_ns, _)| *next_ns <= now_ns)
    }

    /// A peer to ask now, with `nonce`: the one that has been due for longest.
    pub fn poll(&mut self, now_ns: u64, nonce: u64) -> Option<IpAddr> {
        let &(next_ns, peer) = self.due.first().filter(|(next_ns, _)| *next_ns <= now_ns)?;
        if !self.pace.allow(now_ns) {
            return None;
        }
        let asked = self.peers.get_mut(&peer)?;
        asked.unanswered += 1;
        asked.asked_ns = now_ns;
        if let Some(before) = asked.nonce.replace(nonce) {
            self.by_nonce.remove(&before);
        }
        self.by_nonce.insert(nonce, peer);
        let wait_ns = if asked.unanswered < RETRIES {
            RETRY_NS
        } else {
            SILENT_RETRY_NS
        };
        asked.next_ns = now_ns + wait_ns;
        self.due.remove(&(next_ns, peer));
        self.due.insert((asked.next_ns, peer));
        Some(peer)
    }
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    refilled_ns: u64,
}

impl Bucket {
    fn new(per_second: f64, burst: f64, now_ns: u64) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            refilled_ns: now_ns,
        }
    }

    fn allow(&mut self, now_ns: u64) -> bool {
        let elapsed_s = now_ns.saturating_sub(self.refilled_ns) as f64 / 1e9;
        self.tokens = (self.tokens + elapsed_s * self.per_second).min(self.burst);
        self.refilled_ns = now_ns;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// Limits all answers together.
#[derive(Debug)]
pub struct AnswerLimit(Bucket);

impl AnswerLimit {
    const PER_SECOND: f64 = 200.0;
    const BURST: f64 = 400.0;

    pub fn new(now_ns: u64) -> Self {
        Self(Bucket::new(Self::PER_SECOND, Self::BURST, now_ns))
    }

    pub fn allow(&mut self, now_ns: u64) -> bool {
        self.0.allow(now_ns)
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
    fn peers_are_asked_again_soon_when_the_own_address_has_changed() {
        let mut exchange = Exchange::default();
        exchange.peer_up(peer(6), 0);
        exchange.peer_up(peer(7), 0);
        assert_eq!(exchange.poll(S, 1), Some(peer(6)));
        exchange.answered(1, S);
        exchange.ask_again(S);
        assert_eq!(exchange.poll(S, 2), Some(peer(7)), "it was not asked yet");
        exchange.answered(2, S);
        exchange.ask_again(S + AGAIN_NS - 1);
        assert_eq!(exchange.poll(S + AGAIN_NS - 1, 3), None, "asked just now");
        let mut asked = [3, 4].map(|nonce| exchange.poll(S + AGAIN_NS, nonce));
        asked.sort_unstable();
        assert_eq!(asked, [Some(peer(6)), Some(peer(7))]);
        assert_eq!(exchange.ended(1), Some(peer(6)), "told to the address that is gone");
        exchange.answered(3, 2 * S);
        exchange.answered(4, 2 * S);
        assert_eq!(exchange.poll(3 * S, 5), None, "once");
        exchange.ask_again(11 * S);
        exchange.ask_again(11 * S);
        assert_eq!(exchange.due.len(), 2);
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
    fn peers_that_come_up_at_once_are_asked_one_after_the_other_and_each_once() {
        let mut exchange = Exchange::default();
        let peers: BTreeSet<IpAddr> = (0..10_000u32)
            .map(|host| std::net::Ipv4Addr::from_bits(host).into())
            .collect();
        peers.iter().for_each(|&peer| exchange.peer_up(peer, 0));
        let mut asked = BTreeSet::new();
        let mut nonce = 0;
        for ms in 0..11_000 {
            let before = nonce;
            while let Some(peer) = exchange.poll(ms * 1_000_000, nonce) {
                assert_eq!(exchange.answered(nonce, ms * 1_000_000), Some(peer));
                assert!(!asked.contains(&peer) || ms >= 10_000, "{peer} again after {ms} ms");
                asked.insert(peer);
                nonce += 1;
            }
            assert!(nonce - before <= 100, "{ms} ms");
            assert!(nonce <= 101 + ms, "{ms} ms");
        }
        assert_eq!(asked, peers);
        peers.iter().for_each(|&peer| exchange.peer_down(peer));
        assert!(exchange.due.is_empty() && exchange.by_nonce.is_empty());
    }

    #[test]
    fn answers_are_bounded() {
        let mut limit = AnswerLimit::new(0);
        assert_eq!((0..1000).filter(|_| limit.allow(0)).count(), 400);
        assert_eq!((0..1000).filter(|_| limit.allow(S)).count(), 200);
    }
}
