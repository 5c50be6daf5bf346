//! What the agent hands over to the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::output::metrics::State;
use crate::output::model::Event;

/// Updates that may wait for the server: a few for each report interval, and one for each peer that comes or goes.
const MAX_UPDATES: usize = 4_096;

pub(super) enum Update {
    Event(Box<Event>),
    State(Box<State>),
}

/// Numbers that the agent writes and the server reads.
#[derive(Debug)]
pub(super) struct Shared {
    /// When the agent was last seen to run, in nanoseconds of the monotonic clock.
    pub(super) beat_ns: AtomicU64,
    pub(super) events_lost: AtomicU64,
}

/// The agent's end. Nothing here blocks.
#[derive(Debug, Clone)]
pub struct Feed {
    updates: mpsc::Sender<Update>,
    shared: Arc<Shared>,
}

impl Feed {
    pub(super) fn new(now_ns: u64) -> (Self, mpsc::Receiver<Update>) {
        let (updates, receiver) = mpsc::channel(MAX_UPDATES);
        let shared = Arc::new(Shared {
            beat_ns: AtomicU64::new(now_ns),
            events_lost: AtomicU64::new(0),
        });
        (Self { updates, shared }, receiver)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub fn event(&self, event: Event) {
        self.send(Update::Event(Box::new(event)));
    }

    pub fn state(&self, state: State) {
        self.send(Update::State(Box::new(state)));
    }

    /// The agent runs.
    pub fn beat(&self, now_ns: u64) {
        self.shared.beat_ns.store(now_ns, Ordering::Relaxed);
    }

    fn send(&self, update: Update) {
        if self.updates.try_send(update).is_err() {
            self.shared.events_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_nothing_costs_a_bounded_number_of_updates() {
        let (feed, mut receiver) = Feed::new(7);
        for _ in 0..MAX_UPDATES + 3 {
            feed.state(State::default());
        }
        assert_eq!(feed.shared.events_lost.load(Ordering::Relaxed), 3);
        let waiting = std::iter::from_fn(|| receiver.try_recv().ok());
        assert_eq!(waiting.count(), MAX_UPDATES);
        feed.beat(9);
        assert_eq!(feed.shared().beat_ns.load(Ordering::Relaxed), 9);
    }
}
