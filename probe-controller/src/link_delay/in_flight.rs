//! What was sent and not answered yet, by sequence number: whatever is late, lost or forged is never paired with
//! another send.

use std::collections::HashMap;

use crate::link_delay::{Answer, Ends, Probe};

/// Why an answer counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was given up, or answered already.
    #[error("late, or answered already")]
    Late,
    /// No such probe was sent, or not by this port or switch, or not then.
    #[error("not an answer to what was sent")]
    Mismatched,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    probe: Probe,
    handed_ns: u64,
}

/// Probes on their way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    next_seq: u64,
    sent: HashMap<u64, Sent>,
    ends: Ends,
}

impl InFlight {
    /// A probe is handed to the socket's writer: its sequence number.
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

    /// An answer came: how long it took since the socket was written, in nanoseconds.
    pub(super) fn arrive(&mut self, answer: &Answer) -> Result<u64, Refusal> {
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

    /// Those that were handed over longer ago than `timeout_ns` are lost, or `unheard` where nobody was ever heard.
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

    /// Answers to what was sent so far of this are late from now on. They are not lost: nobody waits for them.
    pub(super) fn forget(&mut self, probe: Probe) {
        self.sent.retain(|_, sent| sent.probe != probe);
    }

    pub(super) fn ends(&self) -> Ends {
        self.ends
    }
}
