//! One stretch of probing by all methods, and what came of it.

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
use probe_io::backend::ebpf::{Port, Ring, reply};
use probe_io::compare::load::Spent;
use probe_io::compare::pacer::{Senders, Sent};
use probe_io::compare::priority::Priority;
use probe_io::compare::userspace::Answer;
use probe_io::compare::{load, pacer, socket, userspace};
use tokio::time::{Instant, sleep};

use crate::command::shutdown::Shutdown;
use crate::output::compare::PhaseResult;

/// How often it is looked whether all replies have come.
const POLL: Duration = Duration::from_millis(20);

/// All methods, ready to probe.
pub(super) struct Course {
    pub(super) port: Port,
    pub(super) ring: Ring,
    pub(super) senders: Option<Senders>,
    pub(super) userspace: Option<userspace::Receiver>,
    pub(super) socket: Option<socket::Receiver>,
    pub(super) peer: IpAddr,
    pub(super) ssid: u16,
    pub(super) interval_ns: u64,
    pub(super) timeout_ns: u64,
    pub(super) priority: Priority,
    pub(super) next_seq: u32,
    pub(super) same_clock: bool,
}

/// What a stretch brought.
pub(super) struct Stretch {
    pub(super) result: PhaseResult,
    /// A signal came.
    pub(super) is_over: bool,
}

/// What has come so far.
#[derive(Default)]
struct Came {
    userspace: Vec<Answer>,
    socket: Vec<stamped::StampedReply>,
    kernel: Vec<RoundTrip>,
}

impl Came {
    fn count(&self) -> usize {
        self.userspace.len() + self.socket.len() + self.kernel.len()
    }
}

impl Course {
    /// Probes for `duration_ns`, or until a signal comes, and waits for the last replies.
    pub(super) async fn run(
        &mut self,
        duration_ns: u64,
        phase: Phase,
        busy: u32,
        shutdown: &mut Shutdown,
    ) -> Result<Stretch> {
        let senders = self.senders.take().context("a stretch before has not ended")?;
        let plan = pacer::Course {
            interval_ns: self.interval_ns,
            duration_ns,
            first_seq: self.next_seq,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let before = Spent::now();
        let mut pacer = pacer::start(senders, plan, self.priority, &stop).context("cannot start a thread")?;
        let mut came = Came::default();
        let mut is_over = false;
        let mut sent = loop {
            tokio::select! {
                sent = &mut pacer => break sent.context("the sending thread failed")?,
                ready = self.ring.ready() => {
                    ready.context("the ring buffer failed")?;
                    self.take(&mut came);
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
        self.wait_for_the_last(&sent, &mut came, is_over).await;
        self.next_seq = sent.next_seq;
        if sent.departures.values().all(Vec::is_empty) && sent.tried > 0 {
            bail!(
                "no probe could be sent to {}; is there a route, and is the interface up?",
                self.peer
            );
        }
        let (tallies, anatomy) = self.conclude(&mut sent, &came);
        let left: u64 = tallies.iter().map(|(_, tally)| tally.sent).sum();
        self.senders = Some(sent.senders);
        let result = PhaseResult {
            phase,
            busy,
            cpu,
            load: load::average(),
            unsent: sent.tried.saturating_sub(left),
            tallies,
            anatomy,
            notes: Vec::new(),
        };
        Ok(Stretch { result, is_over })
    }

    fn take(&mut self, came: &mut Came) {
        let kernel = &mut came.kernel;
        let (ssid, peer) = (self.ssid, self.peer);
        self.ring.drain(|sample| {
            let reply = reply(sample, None);
            if reply.ssid == ssid && reply.peer == peer {
                kernel.push(RoundTrip {
                    seq: reply.seq,
                    rtt_ns: reply.rtt_ns(),
                });
            }
        });
        came.userspace
            .extend(self.userspace.iter().flat_map(userspace::Receiver::take));
        came.socket.extend(self.socket.iter().flat_map(socket::Receiver::take));
    }

    async fn wait_for_the_last(&mut self, sent: &Sent, came: &mut Came, is_over: bool) {
        let all: usize = sent.departures.values().map(Vec::len).sum();
        let patience = if is_over {
            POLL * 5
        } else {
            Duration::from_nanos(self.timeout_ns)
        };
        let end = Instant::now() + patience;
        loop {
            self.take(came);
            if came.count() >= all || Instant::now() >= end {
                return;
            }
            sleep(POLL).await;
        }
    }

    fn conclude(&mut self, sent: &mut Sent, came: &Came) -> (Vec<(Method, Tally)>, Option<Anatomy>) {
        let nothing = Vec::new();
        let mut tallies = Vec::new();
        let departures = std::mem::take(&mut sent.departures);
        let of = |method| departures.get(&method).unwrap_or(&nothing);
        let mut anatomy = None;
        if self.userspace.is_some() {
            let arrivals: Vec<_> = came.userspace.iter().map(|answer| answer.arrival).collect();
            let tally = Tally::new(of(Method::Userspace), &arrivals, self.timeout_ns);
            tallies.push((Method::Userspace, tally));
            anatomy = self.dissect(of(Method::Userspace), &came.userspace);
        }
        if let Some(sender) = &mut sent.senders.socket {
            let joined = stamped::join(&sender.take(), &came.socket);
            let tally = Tally::new(of(Method::Socket), &joined.arrivals, self.timeout_ns);
            tallies.push((Method::Socket, tally));
        }
        let (left, arrivals) = self.settle(of(Method::Kernel), &came.kernel);
        tallies.push((Method::Kernel, Tally::new(&left, &arrivals, self.timeout_ns)));
        (tallies, anatomy)
    }

    /// Asks the programs what became of the kernel's probes without a reply: one that never left was not sent, and one
    /// whose sample the ring buffer could not take was received.
    fn settle(&mut self, departures: &[SentProbe], arrivals: &[RoundTrip]) -> (Vec<SentProbe>, Vec<RoundTrip>) {
        let answered: BTreeMap<u32, ()> = arrivals.iter().map(|arrival| (arrival.seq, ())).collect();
        let (mut left, mut arrived) = (departures.to_vec(), arrivals.to_vec());
        left.retain(|departure| {
            if answered.contains_key(&departure.seq) {
                return true;
            }
            match self.port.fate(self.ssid, departure.seq, self.peer) {
                Fate::NeverLeft => return false,
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

    /// The parts of the watched probes of this stretch; `None` if the far end has not stamped any.
    fn dissect(&self, departures: &[SentProbe], answers: &[Answer]) -> Option<Anatomy> {
        let first = departures.first()?.seq;
        let mut anatomy = Anatomy::default();
        let mut seen = HashSet::new();
        // The same probes as in the tally: copies count once, and what came too late is lost.
        let in_time = |rtt_ns| rtt_ns <= self.timeout_ns;
        let counted = answers.iter().filter(|Answer { arrival, .. }| {
            arrival.seq >= first && arrival.rtt_ns.is_some_and(in_time) && seen.insert(arrival.seq)
        });
        for answer in counted {
            match (&answer.watched, answer.arrival.rtt_ns) {
                (Some(stamps), _) => anatomy.record(stamps, self.same_clock),
                (None, Some(rtt_ns)) => anatomy.unwatched.record(rtt_ns as i64),
                (None, None) => {}
            }
        }
        (anatomy.watched.count() > 0 || anatomy.refused > 0).then_some(anatomy)
    }
}
