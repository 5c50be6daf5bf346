//! Hosts that keep asking for this agent's identity and are no peers: their probes arrive here, but maybe this agent's
//! group probes do not arrive there. They are asked back, and become peers when they have answered twice.
//!
//! A source address can be forged, an answer cannot be guessed: it returns a nonce that went to that address alone.

use std::collections::VecDeque;
use std::net::IpAddr;

/// Between two requests, to the same newcomer or to different ones.
const APART_NS: u64 = 100_000_000;
/// Newcomers that wait to be asked, and requests that wait for an answer.
const MAX_WAITING: usize = 16;
/// Answers that make a peer.
const ANSWERS: u32 = 2;

#[derive(Debug, Default)]
pub struct Newcomers {
    waiting: VecDeque<Newcomer>,
    asked: VecDeque<(u64, Newcomer)>,
    next_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Newcomer {
    address: IpAddr,
    answers: u32,
}

impl Newcomers {
    /// The host asked for this agent's identity, maybe.
    pub fn heard(&mut self, address: IpAddr) {
        if self.waiting.len() < MAX_WAITING && self.waiting.iter().all(|waiting| waiting.address != address) {
            self.waiting.push_back(Newcomer { address, answers: 0 });
        }
    }

    /// Whether [`Newcomers::poll`] may return a host.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns && !self.waiting.is_empty()
    }

    /// A host to ask now, with `nonce`. Those that are not wanted are forgotten.
    pub fn poll(&mut self, now_ns: u64, nonce: u64, is_wanted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        if now_ns < self.next_ns {
            return None;
        }
        self.waiting.retain(|newcomer| is_wanted(newcomer.address));
        let newcomer = self.waiting.pop_front()?;
        self.next_ns = now_ns.saturating_add(APART_NS);
        if self.asked.len() >= MAX_WAITING {
            self.asked.pop_front();
        }
        self.asked.push_back((nonce, newcomer));
        Some(newcomer.address)
    }

    /// The host that is to be a peer, if this was its last answer of those that it takes.
    pub fn answered(&mut self, nonce: u64, from: IpAddr) -> Option<IpAddr> {
        let is_it = |(asked, newcomer): &(u64, Newcomer)| *asked == nonce && newcomer.address == from;
        let place = self.asked.iter().position(is_it)?;
        let (_, mut newcomer) = self.asked.remove(place)?;
        newcomer.answers += 1;
        if newcomer.answers >= ANSWERS {
            return Some(newcomer.address);
        }
        self.waiting.retain(|waiting| waiting.address != from);
        self.waiting.push_front(newcomer);
        self.waiting.truncate(MAX_WAITING);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    #[test]
    fn two_answers_to_two_requests_make_a_peer() {
        let mut newcomers = Newcomers::default();
        assert_eq!(newcomers.poll(0, 1, |_| true), None, "nobody");
        newcomers.heard(host(6));
        newcomers.heard(host(6));
        assert_eq!(newcomers.poll(0, 1, |_| true), Some(host(6)));
        assert_eq!(newcomers.poll(APART_NS, 2, |_| true), None, "asked once");
        assert_eq!(newcomers.answered(2, host(6)), None, "another nonce");
        assert_eq!(newcomers.answered(1, host(7)), None, "another address");
        assert_eq!(newcomers.answered(1, host(6)), None, "the first answer");
        assert_eq!(newcomers.answered(1, host(6)), None, "the same again");
        assert_eq!(newcomers.poll(APART_NS, 3, |_| true), Some(host(6)));
        assert_eq!(newcomers.answered(1, host(6)), None, "an old one");
        assert_eq!(newcomers.answered(3, host(6)), Some(host(6)));
        assert_eq!(newcomers.answered(3, host(6)), None);
    }

    #[test]
    fn who_is_not_wanted_is_not_asked() {
        let mut newcomers = Newcomers::default();
        (1..=3).for_each(|number| newcomers.heard(host(number)));
        assert_eq!(newcomers.poll(0, 1, |address| address == host(2)), Some(host(2)));
        assert_eq!(newcomers.poll(APART_NS, 2, |_| true), None, "the others are forgotten");
    }

    #[test]
    fn a_flood_of_forged_sources_costs_few_requests_and_bounded_memory() {
        let mut newcomers = Newcomers::default();
        let mut requests = 0;
        for number in 0..100_000 {
            newcomers.heard(host(number));
            let now_ns = u64::from(number) * APART_NS / 1_000;
            requests += u32::from(newcomers.poll(now_ns, number.into(), |_| true).is_some());
            assert!(newcomers.waiting.len() <= MAX_WAITING && newcomers.asked.len() <= MAX_WAITING);
        }
        assert_eq!(requests, 100);
    }
}
