//! What the measuring side hands over to the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

/// Updates that may wait for the server: a few for each report interval, and one for each peer that comes or goes.
const MAX_UPDATES: usize = 4_096;

/// Numbers that the measuring side writes and the server reads.
#[derive(Debug)]
pub(super) struct Shared {
    /// When the measuring side was last seen to run, in nanoseconds of the monotonic clock.
    pub(super) beat_ns: AtomicU64,
    pub(super) updates_lost: AtomicU64,
}

/// The measuring side's end. Nothing here blocks.
#[derive(Debug)]
pub struct Feed<U> {
    updates: mpsc::Sender<U>,
    shared: Arc<Shared>,
}

// A derived `Clone` would need updates that can be cloned.
impl<U> Clone for Feed<U> {
    fn clone(&self) -> Self {
        Self {
            updates: self.updates.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<U> Feed<U> {
    pub fn new(now_ns: u64) -> (Self, mpsc::Receiver<U>) {
        let (updates, receiver) = mpsc::channel(MAX_UPDATES);
        let shared = Arc::new(Shared {
            beat_ns: AtomicU64::new(now_ns),
            updates_lost: AtomicU64::new(0),
        });
        (Self { updates, shared }, receiver)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Hands an update over, or counts it as lost if too many wait.
    pub fn send(&self, update: U) {
        if self.updates.try_send(update).is_err() {
            self.shared.updates_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Updates that were lost.
    pub fn lost(&self) -> u64 {
        self.shared.updates_lost.load(Ordering::Relaxed)
    }

    /// The measuring side runs.
    pub fn beat(&self, now_ns: u64) {
        self.shared.beat_ns.store(now_ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_nothing_costs_a_bounded_number_of_updates() {
        let (feed, mut receiver) = Feed::new(7);
        for number in 0..MAX_UPDATES + 3 {
            feed.send(number);
        }
        assert_eq!(feed.lost(), 3);
        let waiting = std::iter::from_fn(|| receiver.try_recv().ok());
        assert_eq!(waiting.count(), MAX_UPDATES);
        feed.beat(9);
        assert_eq!(feed.shared().beat_ns.load(Ordering::Relaxed), 9);
    }
}
