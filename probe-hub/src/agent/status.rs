//! What the link is doing, for tables, metrics and heartbeats.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Not yet connected since the start.
    #[default]
    Connecting,
    Connected,
    /// It was connected.
    Lost,
    /// The server or this host does not accept the other.
    Refused,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    pub state: State,
    /// Why it is not connected.
    pub reason: String,
    /// Batches that wait to be delivered, and their size.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// Batches and events delivered since the start.
    pub delivered: u64,
    /// Batches and events lost since the start, because there was no room for them, or because their file was damaged.
    pub dropped: u64,
    /// Of the assignment in force; 0 for none.
    pub generation: u64,
    /// Assigned addresses that are probed, of which `up` answer.
    pub peers: u32,
    pub up: u32,
}

/// Written by the measuring loop and by the link's thread.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Status>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    pub fn add_dropped(&self, batches: u64) {
        self.lock().dropped += batches;
    }

    pub fn set_up(&self, up: u32) {
        self.lock().up = up;
    }

    pub fn set_in_force(&self, generation: u64, peers: u32) {
        let mut status = self.lock();
        (status.generation, status.peers) = (generation, peers);
    }

    pub fn set_state(&self, state: State, reason: &str) {
        let mut status = self.lock();
        (status.state, status.reason) = (state, reason.to_owned());
    }

    pub fn set_waiting(&self, waiting: u64, waiting_bytes: u64) {
        let mut status = self.lock();
        (status.waiting, status.waiting_bytes) = (waiting, waiting_bytes);
    }

    pub fn add_delivered(&self) {
        self.lock().delivered += 1;
    }
}
