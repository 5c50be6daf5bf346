//! Probes in flight by sequence number, so that a late or forged answer never matches another probe.

use std::collections::HashMap;

use crate::link_delay::{Ends, Probe, ProbeAnswer};

/// Why an answer is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("late, or answered already")]
    Late,
    /// No such probe was sent, or by another port or switch, or at another time.
    #[error("not an answer to a probe that was sent")]
    Mismatched,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    probe: Probe,
    handed_ns: u64,
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    next_seq: u64,
    sent: HashMap<u64, Sent>,
    ends: Ends,
}

impl InFlight {
    /// Takes a probe that is handed to the server, and returns its sequence number.
    pub(super) fn depart(&mut self, probe: Probe, now_ns: u64) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.sent.insert(
            seq,
            Sent {
                probe,
                handed_ns: now_ns,
            },
        );
        self.ends.sent += 1;
        seq
    }

    /// Takes an answer, and returns the time since the probe was written.
    pub(super) fn arrive(&mut self, answer: &ProbeAnswer) -> Result<u64, Refusal> {
        let Some(sent) = self.sent.get(&answer.seq) else {
            return Err(if answer.seq < self.next_seq {
                self.ends.late += 1;
                Refusal::Late
            } else {
                self.ends.mismatched += 1;
                Refusal::Mismatched
            });
        };
        let took_ns = answer.received_ns.checked_sub(answer.sent_ns);
        match took_ns {
            Some(took_ns) if sent.probe == answer.probe && sent.handed_ns <= answer.sent_ns => {
                self.sent.remove(&answer.seq);
                self.ends.answered += 1;
                Ok(took_ns)
            }
            _ => {
                self.ends.mismatched += 1;
                Err(Refusal::Mismatched)
            }
        }
    }

    /// Probes older than `timeout_ns` are lost, or `unheard` if their port never had an answer.
    pub(super) fn expire(&mut self, now_ns: u64, timeout_ns: u64, is_heard: impl Fn(&Probe) -> bool) {
        let ends = &mut self.ends;
        self.sent.retain(|_, sent| {
            let waits = now_ns.saturating_sub(sent.handed_ns) <= timeout_ns;
            match is_heard(&sent.probe) {
                _ if waits => {}
                true => ends.lost += 1,
                false => ends.unheard += 1,
            }
            waits
        });
    }

    /// Removes probes without counting them as lost; their answers count as late.
    pub(super) fn remove(&mut self, probe: Probe) {
        self.sent.retain(|_, sent| sent.probe != probe);
    }

    pub(super) fn ends(&self) -> Ends {
        self.ends
    }
}
