//! One phase of probing by all methods.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use probe_core::compare::anatomy::Anatomy;
use probe_core::compare::ledger::{RoundTrip, SentProbe, Tally};
use probe_core::compare::{Method, Phase, stamped};
use probe_core::observation::Fate;
use probe_host::cpu::{self, Spent};
use probe_io::compare::pacer::{Senders, Sent};
use probe_io::compare::priority::Priority;
use probe_io::compare::userspace::UserspaceAnswer;
use probe_io::compare::{pacer, socket, userspace};
use probe_io::port::Port;
use tokio::time::{Instant, sleep};

use crate::command::compare::output::PhaseResult;
use crate::command::shared::shutdown::Shutdown;

/// Probes of a phase are settled by their stamps alone, whatever the interface did when they were sent.
const UNKNOWN_NS: u64 = 0;

/// How often the last replies are polled for.
const POLL: Duration = Duration::from_millis(20);

const REFUTED: &str = "the far end proves that it reads this host's clock, but its stamps cannot be from it: both directions of \
                       the path are taken together";

/// All methods, ready to probe.
pub struct Prober {
    pub port: Port,
    pub senders: Option<Senders>,
    pub userspace: Option<userspace::Receiver>,
    pub socket: Option<socket::Receiver>,
    pub peer: IpAddr,
    pub ssid: u16,
    pub interval_ns: u64,
    pub timeout_ns: u64,
    pub priority: Priority,
    pub next_seq: u32,
    pub same_clock: bool,
    /// Stamps have refuted it.
    pub refuted: bool,
}

pub struct Outcome {
    pub result: PhaseResult,
    /// A signal came: no further phase.
    pub is_over: bool,
}

#[derive(Default)]
struct Replies {
    userspace: Vec<UserspaceAnswer>,
    socket: Vec<stamped::StampedReply>,
    kernel: Vec<RoundTrip>,
}

impl Replies {
    fn count(&self) -> usize {
        self.userspace.len() + self.socket.len() + self.kernel.len()
    }
}

impl Prober {
    /// Probes for `duration_ns` or until a signal comes, and waits for the last replies.
    pub async fn run(&mut self, duration_ns: u64, phase: Phase, busy: u32, shutdown: &mut Shutdown) -> Result<Outcome> {
        let senders = self.senders.take().context("the phase before has not ended")?;
        let plan = pacer::Schedule {
            interval_ns: self.interval_ns,
            duration_ns,
            first_seq: self.next_seq,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let before = Spent::now();
        let mut pacer = pacer::start(senders, plan, self.priority, &stop).context("cannot start a thread")?;
        let mut replies = Replies::default();
        let mut is_over = false;
        let mut sent = loop {
            tokio::select! {
                sent = &mut pacer => break sent.context("the sending thread failed")?,
                ready = self.port.ready() => {
                    ready.context("the ring buffer failed")?;
                    self.take(&mut replies);
                }
                () = shutdown.requested(), if !is_over => {
                    is_over = true;
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        let cpu = before
            .zip(Spent::now())
            .and_then(|(before, now)| now.busy_since(&before));
        self.await_last_replies(&sent, &mut replies, is_over).await;
        self.next_seq = sent.next_seq;
        if sent.departures.values().all(Vec::is_empty) && sent.tried > 0 {
            bail!(
                "no probe could be sent to {}; is there a route, and is the interface up?",
                self.peer
            );
        }
        let (tallies, anatomy) = self.tallies(&mut sent, &replies);
        let left: u64 = tallies.iter().map(|(_, tally)| tally.sent).sum();
        self.senders = Some(sent.senders);
        let result = PhaseResult {
            phase,
            busy,
            cpu,
            load: cpu::load_average(),
            unsent: sent.tried.saturating_sub(left),
            tallies,
            anatomy,
            notes: self.refuted.then(|| REFUTED.to_owned()).into_iter().collect(),
        };
        Ok(Outcome { result, is_over })
    }

    fn take(&mut self, replies: &mut Replies) {
        let kernel = &mut replies.kernel;
        let (ssid, peer) = (self.ssid, self.peer);
        let refuted = &mut self.refuted;
        self.port.drain(|reply| {
            if reply.ssid == ssid && reply.peer == peer {
                *refuted |= self.same_clock && reply.refutes_same_clock();
                kernel.push(RoundTrip {
                    seq: reply.seq,
                    rtt_ns: reply.rtt_ns(),
                });
            }
        });
        replies
            .userspace
            .extend(self.userspace.iter().flat_map(userspace::Receiver::take));
        replies
            .socket
            .extend(self.socket.iter().flat_map(socket::Receiver::take));
    }

    async fn await_last_replies(&mut self, sent: &Sent, replies: &mut Replies, is_over: bool) {
        let all: usize = sent.departures.values().map(Vec::len).sum();
        let timeout = if is_over {
            POLL * 5
        } else {
            Duration::from_nanos(self.timeout_ns)
        };
        let end = Instant::now() + timeout;
        loop {
            self.take(replies);
            if replies.count() >= all || Instant::now() >= end {
                return;
            }
            sleep(POLL).await;
        }
    }

    fn tallies(&mut self, sent: &mut Sent, replies: &Replies) -> (Vec<(Method, Tally)>, Option<Anatomy>) {
        let nothing = Vec::new();
        let mut tallies = Vec::new();
        let departures = std::mem::take(&mut sent.departures);
        let of = |method| departures.get(&method).unwrap_or(&nothing);
        let mut anatomy = None;
        if self.userspace.is_some() {
            let arrivals: Vec<_> = replies.userspace.iter().map(|answer| answer.arrival).collect();
            let tally = Tally::new(of(Method::Userspace), &arrivals, self.timeout_ns);
            tallies.push((Method::Userspace, tally));
            anatomy = self.dissect(of(Method::Userspace), &replies.userspace);
        }
        if let Some(sender) = &mut sent.senders.socket {
            let joined = stamped::join(&sender.take(), &replies.socket);
            let tally = Tally::new(of(Method::Socket), &joined.arrivals, self.timeout_ns);
            tallies.push((Method::Socket, tally));
        }
        let (left, arrivals) = self.settle(of(Method::Kernel), &replies.kernel);
        tallies.push((Method::Kernel, Tally::new(&left, &arrivals, self.timeout_ns)));
        (tallies, anatomy)
    }

    /// Asks the programs for the fate of the kernel's probes without a reply: one that never left does not count as sent,
    /// one whose sample did not fit into the ring buffer counts as received.
    fn settle(&mut self, departures: &[SentProbe], arrivals: &[RoundTrip]) -> (Vec<SentProbe>, Vec<RoundTrip>) {
        let answered: BTreeMap<u32, ()> = arrivals.iter().map(|arrival| (arrival.seq, ())).collect();
        let (mut left, mut arrived) = (departures.to_vec(), arrivals.to_vec());
        left.retain(|departure| {
            if answered.contains_key(&departure.seq) {
                return true;
            }
            match self.port.fate(self.ssid, departure.seq, self.peer, UNKNOWN_NS) {
                Fate::NeverLeft(_) => return false,
                Fate::CollectorLost => arrived.push(RoundTrip {
                    seq: departure.seq,
                    rtt_ns: None,
                }),
                Fate::Unanswered => {}
            }
            true
        });
        (left, arrived)
    }

    /// The parts of the probes that the far end stamped too; `None` without any.
    fn dissect(&self, departures: &[SentProbe], answers: &[UserspaceAnswer]) -> Option<Anatomy> {
        let first = departures.first()?.seq;
        let mut anatomy = Anatomy::default();
        let mut seen = HashSet::new();
        // The same probes as in the tally: duplicates count once, late ones are lost.
        let in_time = |rtt_ns| rtt_ns <= self.timeout_ns;
        let counted = answers.iter().filter(|UserspaceAnswer { arrival, .. }| {
            arrival.seq >= first && arrival.rtt_ns.is_some_and(in_time) && seen.insert(arrival.seq)
        });
        for answer in counted {
            match (&answer.watched, answer.arrival.rtt_ns) {
                (Some(stamps), _) => anatomy.record(stamps, self.same_clock && !self.refuted),
                (None, Some(rtt_ns)) => anatomy.unwatched.record(rtt_ns as i64),
                (None, None) => {}
            }
        }
        (anatomy.watched.count() > 0 || anatomy.refused > 0).then_some(anatomy)
    }
}
