//! The thread that sends the probes of all methods, in turn and evenly spaced, so that the conditions are the same for
//! each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use probe_core::compare::Method;
use probe_core::compare::ledger::SentProbe;
use probe_core::compare::rotation::Rotation;
use probe_host::clock::monotonic_ns;
use probe_host::timer::sleep_until;
use tokio::sync::oneshot;

use crate::compare::priority::Priority;
use crate::compare::{socket, userspace};
use crate::port::ProbeSender;

/// This many rounds (every order of three methods once) are watched, and the same number are not.
const WATCHED_ROUNDS: u32 = 6;

/// The methods that can be measured.
#[derive(Debug)]
pub struct Senders {
    /// Absent if the peer does not answer it.
    pub userspace: Option<userspace::Sender>,
    /// Absent if the peer does not answer it.
    pub socket: Option<socket::Sender>,
    /// Always present.
    pub kernel: ProbeSender,
}

impl Senders {
    pub fn methods(&self) -> Vec<Method> {
        let present = |method: &Method| match method {
            Method::Userspace => self.userspace.is_some(),
            Method::Socket => self.socket.is_some(),
            Method::Kernel => true,
        };
        Method::ALL.into_iter().filter(present).collect()
    }

    fn send(&mut self, method: Method, seq: u32) -> io::Result<()> {
        match (method, &mut self.userspace, &mut self.socket) {
            (Method::Userspace, Some(sender), _) => sender.send(seq, is_watched(seq)),
            (Method::Socket, _, Some(sender)) => sender.send(seq),
            _ => self.kernel.send(seq),
        }
    }
}

/// Whether the userspace probe with this number is stamped at each hook.
fn is_watched(seq: u32) -> bool {
    (seq / WATCHED_ROUNDS) % 2 == 1
}

#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Time between two probes of one method.
    pub interval_ns: u64,
    /// For how long.
    pub duration_ns: u64,
    /// Number of the first probe of each method.
    pub first_seq: u32,
}

/// What was sent.
#[derive(Debug)]
pub struct Sent {
    pub senders: Senders,
    /// Probes by method.
    pub departures: BTreeMap<Method, Vec<SentProbe>>,
    /// Probes tried, including those that the kernel refused.
    pub tried: u64,
    /// When it began, on `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// The first number that was not used.
    pub next_seq: u32,
}

/// Sends in a thread of its own, until the schedule is over or `stop` is set.
pub fn start(
    senders: Senders,
    schedule: Schedule,
    priority: Priority,
    stop: &Arc<AtomicBool>,
) -> io::Result<oneshot::Receiver<Sent>> {
    let (done, outcome) = oneshot::channel();
    let stop = Arc::clone(stop);
    thread::Builder::new().name("kstamp-pacer".to_owned()).spawn(move || {
        priority.take();
        // The receiver is gone if the run was aborted.
        let _ = done.send(pace(senders, schedule, &stop));
    })?;
    Ok(outcome)
}

fn pace(mut senders: Senders, schedule: Schedule, stop: &AtomicBool) -> Sent {
    let methods = senders.methods();
    let spacing_ns = (schedule.interval_ns / methods.len() as u64).max(1);
    let mut rotation = Rotation::new(&methods);
    let room = usize::try_from(schedule.duration_ns / schedule.interval_ns).unwrap_or(0) + 1;
    let mut departures: BTreeMap<Method, Vec<SentProbe>> = methods
        .iter()
        .map(|&method| (method, Vec::with_capacity(room)))
        .collect();
    let start_ns = monotonic_ns();
    let over_ns = start_ns.saturating_add(schedule.duration_ns);
    let (mut seq, mut tried, mut due_ns) = (schedule.first_seq, 0, start_ns);
    // A round is always finished, so that every method sends as often as the others.
    let mut begins_round = true;
    while !begins_round || (due_ns < over_ns && !stop.load(Ordering::Relaxed)) {
        // An interrupted sleep sends early, which is harmless.
        sleep_until(due_ns);
        let (method, ends_round) = rotation.turn();
        let now_ns = monotonic_ns();
        let sent = senders.send(method, seq);
        tried += 1;
        // The difference between `tried` and the departures is what the kernel refused.
        if sent.is_ok() {
            departures.entry(method).or_default().push(SentProbe {
                seq,
                at_ns: now_ns - start_ns,
            });
        }
        seq = seq.wrapping_add(u32::from(ends_round));
        begins_round = ends_round;
        // After a late wake-up the next probe is late too: two probes at once would affect each other.
        due_ns = (due_ns + spacing_ns).max(now_ns + spacing_ns / 2);
    }
    Sent {
        senders,
        departures,
        tried,
        start_ns,
        next_seq: seq,
    }
}
