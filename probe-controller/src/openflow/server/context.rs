//! State that all connections share on the I/O thread.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::openflow::server::config::Config;
use crate::openflow::server::event::{ConnectionId, Event, EventKind, EventSender};
use crate::openflow::server::limits::Refusals;
use crate::openflow::server::shared::{Counts, Shared};
use crate::openflow::server::slots::Slots;

/// Never leaves the I/O thread.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) shared: Arc<Shared>,
    events: EventSender,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) slots: Rc<Slots>,
    pub(super) refusals: Refusals,
    pub(super) next_connection: Cell<u64>,
}

impl Context {
    pub(super) fn new(
        config: Config,
        shared: Arc<Shared>,
        events: EventSender,
        stop: watch::Receiver<bool>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        Self {
            config,
            shared,
            events,
            stop,
            tls,
            slots: Rc::default(),
            refusals: Refusals::default(),
            next_connection: Cell::new(1),
        }
    }

    /// Sends an event that must not be lost.
    pub(super) async fn notify(&self, connection: ConnectionId, at_ns: u64, kind: EventKind) {
        let event = Event {
            connection,
            at_ns,
            kind,
        };
        self.events.send(event).await;
    }

    /// Sends an event, or drops it if the queue is full.
    pub(super) fn notify_or_drop(&self, connection: ConnectionId, at_ns: u64, kind: EventKind) {
        let event = Event {
            connection,
            at_ns,
            kind,
        };
        if !self.events.send_or_drop(event) {
            Counts::add_one(&self.shared.counts.events_dropped);
        }
    }
}
