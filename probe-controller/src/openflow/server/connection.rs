//! The life of a connection behind its handshake: three things at once, of which the first to end ends it: reading,
//! writing, and watching that the switch is alive.

mod reading;
mod watching;
mod writing;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::openflow::id::Dpid;
use crate::openflow::message::Message;
use crate::openflow::server::accept::Context;
use crate::openflow::server::io::{Incoming, Outgoing};
use crate::openflow::server::seats::Summons;
use crate::openflow::server::{Command, ConnectionId, Reason};

/// Answers and keepalives that may wait to be written. When it is full, reading waits too.
const REPLIES: usize = 64;
/// How long the switch has to take what was sent before a connection that we close.
const LINGER: Duration = Duration::from_millis(300);

/// A connection.
pub(super) struct Connection {
    context: Rc<Context>,
    id: ConnectionId,
    address: SocketAddr,
    dpid: Dpid,
    next_xid: Cell<u32>,
    /// Barriers that are not answered yet: their tokens by their transaction ids.
    barriers: RefCell<HashMap<u32, u64>>,
    /// The echo requests of `watching` that are not answered yet.
    keepalive: Cell<Option<u32>>,
    /// When something was last read.
    heard_ns: Cell<u64>,
    heard: Notify,
}

/// How a connection ended.
pub(super) struct Left {
    pub(super) reason: Reason,
    /// Dropped when the end of the connection was told.
    pub(super) told: Option<oneshot::Sender<()>>,
}

/// Something of our own to write, beside commands.
struct Reply {
    xid: u32,
    message: Message,
}

impl Connection {
    pub(super) fn new(
        context: Rc<Context>,
        id: ConnectionId,
        address: SocketAddr,
        dpid: Dpid,
        next_xid: u32,
        heard_ns: u64,
    ) -> Self {
        Self {
            context,
            id,
            address,
            dpid,
            next_xid: Cell::new(next_xid),
            barriers: RefCell::default(),
            keepalive: Cell::default(),
            heard_ns: Cell::new(heard_ns),
            heard: Notify::new(),
        }
    }

    /// Runs until one end has had enough.
    pub(super) async fn run<S: AsyncRead + AsyncWrite>(
        &self,
        mut incoming: Incoming<S>,
        mut outgoing: Outgoing<S>,
        commands: mpsc::Receiver<Command>,
        summons: &mut mpsc::Receiver<Summons>,
        early: Vec<(u64, Message)>,
    ) -> Left {
        let (replies, to_reply) = mpsc::channel(REPLIES);
        let left = tokio::select! {
            reason = self.read(&mut incoming, &replies, early) => Left { reason, told: None },
            reason = self.write(&mut outgoing, commands, to_reply) => Left { reason, told: None },
            left = self.watch(summons, &replies) => left,
        };
        outgoing.finish().await;
        if left.reason == Reason::ClosedHere {
            // To close a socket that has unread bytes would take back what the switch has not read yet.
            incoming.drain(LINGER).await;
        }
        left
    }

    fn xid(&self) -> u32 {
        let xid = self.next_xid.get();
        self.next_xid.set(xid.wrapping_add(1));
        xid
    }
}
