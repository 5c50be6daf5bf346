//! Addresses that answered one probe to the group. They become peers when they answer another one.
//!
//! One forged or copied packet makes no peer: the second answer returns the T1 of a probe that left after the first. Memory
//! is bounded, and a flood of addresses does not keep a peer out for ever: of all addresses that answer within an epoch, a
//! random sample is remembered (reservoir sampling, Vitter's algorithm R).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use crate::observation::Reply;

/// Candidates of one epoch.
const MAX_CANDIDATES: usize = 1024;

#[derive(Debug)]
pub(super) struct Candidates {
    /// A candidate is remembered for at least this time, if there is room.
    epoch_ns: u64,
    ends_ns: u64,
    current: Epoch,
    last: Epoch,
    /// The standard library seeds it from the kernel's random numbers.
    random: RandomState,
    /// Random numbers drawn so far.
    drawn: u64,
}

/// The first answer of each candidate.
#[derive(Debug, Default)]
struct Epoch {
    answers: Vec<Reply>,
    places: HashMap<IpAddr, usize>,
    /// Addresses that answered, remembered or not.
    seen: u64,
}

impl Candidates {
    pub(super) fn new(epoch_ns: u64) -> Self {
        Self {
            epoch_ns,
            ends_ns: 0,
            current: Epoch::default(),
            last: Epoch::default(),
            random: RandomState::new(),
            drawn: 0,
        }
    }

    /// Sets the length of epochs, from the next one on.
    pub(super) fn set_epoch(&mut self, epoch_ns: u64) {
        self.epoch_ns = epoch_ns;
    }

    /// Takes an answer of an address that is no peer. Returns its first answer if this one is to another probe.
    pub(super) fn answered(&mut self, reply: &Reply, now_ns: u64) -> Option<Reply> {
        if now_ns >= self.ends_ns {
            self.last = std::mem::take(&mut self.current);
            if now_ns >= self.ends_ns.saturating_add(self.epoch_ns) {
                self.last = Epoch::default();
            }
            self.ends_ns = now_ns.saturating_add(self.epoch_ns);
        }
        let first = self.current.get(reply.peer).or_else(|| self.last.get(reply.peer));
        match first {
            Some(first) => ((first.ssid, first.seq) != (reply.ssid, reply.seq)).then_some(*first),
            None => {
                self.drawn += 1;
                self.current.sample(reply, self.random.hash_one(self.drawn));
                None
            }
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.current.get(address).or_else(|| self.last.get(address)).is_some()
    }
}

impl Epoch {
    fn get(&self, address: IpAddr) -> Option<&Reply> {
        self.places.get(&address).map(|&place| &self.answers[place])
    }

    fn sample(&mut self, reply: &Reply, random: u64) {
        self.seen += 1;
        if self.answers.len() < MAX_CANDIDATES {
            self.places.insert(reply.peer, self.answers.len());
            self.answers.push(*reply);
            return;
        }
        let place = (random % self.seen) as usize;
        if let Some(answer) = self.answers.get_mut(place) {
            self.places.remove(&answer.peer);
            self.places.insert(reply.peer, place);
            *answer = *reply;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const EPOCH: u64 = 1_000;

    fn answer(host: u32, seq: u32) -> Reply {
        Reply {
            peer: Ipv4Addr::from_bits(host).into(),
            ssid: 9,
            seq,
            reflector_seq: 0,
            sent_mono_ns: 0,
            received_mono_ns: 0,
            t1_ns: 0,
            t2_ns: 0,
            t3_ns: 0,
            t4_ns: 0,
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        }
    }

    #[test]
    fn an_answer_to_another_probe_is_a_second_one_and_a_duplicate_is_not() {
        let mut candidates = Candidates::new(EPOCH);
        assert_eq!(candidates.answered(&answer(1, 5), 10), None);
        assert_eq!(candidates.answered(&answer(1, 5), 11), None, "a duplicate");
        assert_eq!(candidates.answered(&answer(2, 6), 12), None, "another address");
        assert_eq!(candidates.answered(&answer(1, 6), 13), Some(answer(1, 5)));
        let other_group = Reply {
            ssid: 8,
            ..answer(2, 6)
        };
        assert_eq!(candidates.answered(&other_group, 14), Some(answer(2, 6)));
    }

    #[test]
    fn a_candidate_is_remembered_for_an_epoch_and_forgotten_after_two() {
        for (after, remembered) in [(EPOCH - 1, true), (EPOCH, true), (2 * EPOCH, false), (9 * EPOCH, false)] {
            let mut candidates = Candidates::new(EPOCH);
            candidates.answered(&answer(1, 5), 10);
            let second = candidates.answered(&answer(1, 6), 10 + after);
            assert_eq!(second.is_some(), remembered, "after {after}");
        }
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory_and_does_not_keep_a_host_out() {
        let mut candidates = Candidates::new(EPOCH);
        let flood = 4 * MAX_CANDIDATES as u32;
        // Each probe is answered by the flood first, from new addresses.
        let found = (0..200).find(|&seq| {
            let now = u64::from(seq) * EPOCH;
            (1..=flood).for_each(|host| {
                candidates.answered(&answer(seq * flood + host, seq), now);
            });
            candidates.answered(&answer(u32::MAX, seq), now).is_some()
        });
        // Its chance is about a fifth for each probe.
        assert!(found.is_some());
        assert!(candidates.current.answers.len() <= MAX_CANDIDATES);
        assert_eq!(candidates.current.places.len(), candidates.current.answers.len());
    }
}
