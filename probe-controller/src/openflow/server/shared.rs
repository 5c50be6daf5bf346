//! State that the I/O thread shares with the rest of the program: open connections and counters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::openflow::server::event::{Command, ConnectionId};

/// What the thread and the rest of the program share.
#[derive(Default)]
pub(super) struct Shared {
    connections: Mutex<HashMap<ConnectionId, mpsc::Sender<Command>>>,
    pub(super) counts: Counts,
}

impl Shared {
    pub(super) fn connections(&self) -> MutexGuard<'_, HashMap<ConnectionId, mpsc::Sender<Command>>> {
        // No operation on the map can leave it half done.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, connection: ConnectionId, commands: mpsc::Sender<Command>) {
        self.connections().insert(connection, commands);
    }

    pub(super) fn unregister(&self, connection: ConnectionId) {
        self.connections().remove(&connection);
    }
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Switches that completed their handshake.
    pub connected: u64,
    /// Connections that did not.
    pub refused: u64,
    /// Packet-ins above the limit, dropped unread.
    pub packet_ins_over_limit: u64,
    /// Packet-ins and echo replies dropped because the receiver of the events did not keep up.
    pub events_dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connected: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) packet_ins_over_limit: AtomicU64,
    pub(super) events_dropped: AtomicU64,
}

impl Counts {
    pub(super) fn add_one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connected: read(&self.connected),
            refused: read(&self.refused),
            packet_ins_over_limit: read(&self.packet_ins_over_limit),
            events_dropped: read(&self.events_dropped),
        }
    }
}
