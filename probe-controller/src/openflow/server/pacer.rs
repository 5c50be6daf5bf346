//! Sends messages at planned times, so that one wake-up of the thread plans many.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::future::pending;
use std::sync::Arc;

use log::error;
use probe_host::clock::monotonic_ns;
use probe_host::timer::Timer;
use tokio::sync::mpsc;

use crate::openflow::server::event::{Build, Command, ConnectionId};
use crate::openflow::server::shared::Shared;

/// Sends that may be planned at a time.
pub(super) const MAX_PLANNED: usize = 8_192;
/// Planned sends that are taken at a time.
const AT_ONCE: usize = 256;

/// A send, by its time.
pub(super) struct Paced {
    due_ns: u64,
    connection: ConnectionId,
    build: Build,
}

impl Paced {
    pub(super) fn new(due_ns: u64, connection: ConnectionId, build: Build) -> Self {
        Self {
            due_ns,
            connection,
            build,
        }
    }
}

impl PartialEq for Paced {
    fn eq(&self, other: &Self) -> bool {
        self.due_ns == other.due_ns
    }
}

impl Eq for Paced {}

impl PartialOrd for Paced {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Paced {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due_ns.cmp(&other.due_ns)
    }
}

pub(super) struct Pacer {
    timer: Timer,
    coming: mpsc::Receiver<Paced>,
    planned: BinaryHeap<Reverse<Paced>>,
    shared: Arc<Shared>,
}

impl Pacer {
    pub(super) fn new(timer: Timer, coming: mpsc::Receiver<Paced>, shared: Arc<Shared>) -> Self {
        Self {
            timer,
            coming,
            planned: BinaryHeap::new(),
            shared,
        }
    }

    /// Sends due messages. Ends only if the timer fails.
    pub(super) async fn run(mut self) {
        let mut taken = Vec::with_capacity(AT_ONCE);
        loop {
            let due_ns = self.planned.peek().map(|Reverse(next)| next.due_ns);
            let reached = tokio::select! {
                reached = until(&self.timer, due_ns) => reached,
                1.. = self.coming.recv_many(&mut taken, AT_ONCE) => Ok(()),
            };
            if let Err(error) = reached {
                error!("the timer for messages to switches failed: {error}");
                return;
            }
            self.planned.extend(taken.drain(..).map(Reverse));
            self.send_due(monotonic_ns());
        }
    }

    fn send_due(&mut self, now_ns: u64) {
        while self.planned.peek().is_some_and(|Reverse(next)| next.due_ns <= now_ns) {
            let Some(Reverse(next)) = self.planned.pop() else {
                return;
            };
            if let Some(commands) = self.shared.connections().get(&next.connection) {
                // A connection with a full queue is about to end.
                let _ = commands.try_send(Command::SendStamped(next.build));
            }
        }
    }
}

async fn until(timer: &Timer, due_ns: Option<u64>) -> std::io::Result<()> {
    match due_ns {
        Some(due_ns) => timer.until(due_ns).await,
        None => pending().await,
    }
}
