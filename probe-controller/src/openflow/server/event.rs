//! Events that the server sends, and commands that it takes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{Notify, mpsc};

use crate::openflow::cookie;
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::message::{ErrorMessage, Features, Message, PacketIn};
use crate::openflow::port::{Port, PortReason};

/// Identifies one connection. Every connection of this run has its own identifier, reconnections included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Something that happened on a connection.
///
/// For one connection the order is: `Connected`, then any others, then `Gone` as the last one. A
/// connection that does not get through its handshake yields one `Refused`.
#[derive(Debug)]
pub struct Event {
    pub connection: ConnectionId,
    /// `CLOCK_MONOTONIC` in ns when the bytes that caused it were read from the socket (`Connected`: the last
    /// answer of the handshake); the time of detection for `Gone` and `Refused`.
    pub at_ns: u64,
    pub kind: EventKind,
}

#[derive(Debug)]
pub enum EventKind {
    /// A switch is ready: its handshake is done and its rules are in place.
    Connected {
        address: SocketAddr,
        features: Features,
        /// All its ports, with [`crate::openflow::id::PortNumber::LOCAL`] if it has one.
        ports: Vec<Port>,
    },
    /// A port changed. Open vSwitch reports a change in several steps.
    PortStatus(PortReason, Port),
    /// A frame from the switch.
    PacketIn(PacketIn),
    /// The answer to an echo request that a [`Command`] sent.
    EchoReply(Vec<u8>),
    /// The switch has processed everything sent before the [`Command::Barrier`] with this token.
    Barrier(u64),
    /// How many rules a switch has: the answer to [`Command::CountRules`].
    RuleCount(u32),
    /// The switch refused a message.
    Error(ErrorMessage),
    /// The connection has ended.
    Gone {
        dpid: Dpid,
        address: SocketAddr,
        reason: Reason,
    },
    /// A connection did not complete its handshake.
    Refused { address: SocketAddr, reason: Reason },
}

impl EventKind {
    /// Whether the event may be taken later: answers to probes carry their stamps.
    pub(super) fn can_wait(&self) -> bool {
        match self {
            Self::EchoReply(_) => true,
            Self::PacketIn(packet) => cookie::is_measuring(packet.cookie) || packet.in_port == PortNumber::CONTROLLER,
            _ => false,
        }
    }
}

/// Makes a message, given `CLOCK_MONOTONIC` in ns at the moment of its write. It runs on the I/O thread and must be quick.
pub type Build = Box<dyn FnOnce(u64) -> Message + Send>;

/// Something to do on a connection.
pub enum Command {
    Send(Message),
    /// Sends a message that is built when it is written: the connection's buffer is then empty.
    SendStamped(Build),
    /// As [`Command::SendStamped`], at this time in nanoseconds of `CLOCK_MONOTONIC`. Other commands are executed in the
    /// meantime. Dropped if the connection has ended by then.
    SendStampedAt(u64, Build),
    /// Sends a barrier request; its answer is [`EventKind::Barrier`] with this token.
    Barrier(u64),
    /// Asks for the number of rules whose cookies equal `cookie` in the bits of the mask; the answer is
    /// [`EventKind::RuleCount`]. One at a time.
    CountRules {
        cookie: u64,
        mask: u64,
    },
    /// Sends queued messages, then closes the connection.
    Close,
}

impl Command {
    pub fn stamped(build: impl FnOnce(u64) -> Message + Send + 'static) -> Self {
        Self::SendStamped(Box::new(build))
    }

    pub fn stamped_at(due_ns: u64, build: impl FnOnce(u64) -> Message + Send + 'static) -> Self {
        Self::SendStampedAt(due_ns, Box::new(build))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(message) => f.debug_tuple("Send").field(message).finish(),
            Self::SendStamped(_) => f.write_str("SendStamped"),
            Self::SendStampedAt(due_ns, _) => f.debug_tuple("SendStampedAt").field(due_ns).finish(),
            Self::Barrier(token) => f.debug_tuple("Barrier").field(token).finish(),
            Self::CountRules { cookie, mask } => f.debug_tuple("CountRules").field(cookie).field(mask).finish(),
            Self::Close => f.write_str("Close"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such connection any more.
    #[error("the connection has ended")]
    Gone,
    /// The switch does not read, and the queue is full.
    #[error("too much is waiting to be sent to the switch")]
    Full,
}

impl<T> From<TrySendError<T>> for CommandError {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::Full,
            TrySendError::Closed(_) => Self::Gone,
        }
    }
}

/// Why a connection ended or was refused; displayed as one clause that names no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the switch closed the connection")]
    ClosedBySwitch,
    /// [`Command::Close`], or the server was stopped.
    #[error("closed by this controller")]
    ClosedHere,
    /// Not OpenFlow 1.3, or not allowed at this point.
    #[error("{0}")]
    Protocol(String),
    /// It did not answer.
    #[error("{0}")]
    Silent(String),
    #[error("TLS: {0}")]
    Tls(String),
    /// Another connection of the same datapath is alive.
    #[error(
        "datapath {dpid} is already connected from {other}, and that connection answers; two switches with one datapath id?"
    )]
    DuplicateDpid {
        dpid: Dpid,
        /// The connection that stays.
        other: SocketAddr,
    },
    /// A newer connection of the same datapath took its place, because this one no longer answered.
    #[error("datapath {0} connected again, and this connection no longer answers")]
    Superseded(Dpid),
    #[error("{0}")]
    Limit(String),
    /// The socket failed.
    #[error("{0}")]
    Io(String),
}

/// Length of the queue. Answers to probes do not wake the reader until the queue fills up. When it is full, packet-ins and
/// echo replies are dropped and counted, and other events wait.
const MAX_WAITING: usize = 8_192;

/// A queue without events.
pub(super) fn channel() -> (EventSender, Events) {
    let (sender, all) = mpsc::channel(MAX_WAITING);
    let pressing = Arc::new(Notify::new());
    let bell = Bell(Arc::clone(&pressing));
    (EventSender { sender, bell }, Events { all, pressing })
}

/// What happened, in the order in which it did. Ends when the server has ended.
pub struct Events {
    all: mpsc::Receiver<Event>,
    pressing: Arc<Notify>,
}

impl Events {
    /// The next event.
    ///
    /// # Errors
    /// `Empty` if there is none yet, `Disconnected` if there will be none: the server has ended.
    pub fn try_recv(&mut self) -> Result<Event, TryRecvError> {
        self.all.try_recv()
    }

    /// Waits for an event other than an answer to a probe, for a queue that fills up, or for the end of the server. The
    /// caller must then take all events. Cancel safe.
    pub async fn pressing(&self) {
        self.pressing.notified().await;
    }
}

/// The other end.
pub(super) struct EventSender {
    // Before the bell, which is rung when this is gone.
    sender: mpsc::Sender<Event>,
    bell: Bell,
}

impl EventSender {
    /// Sends an event that must not be lost.
    pub(super) async fn send(&self, event: Event) {
        if self.sender.capacity() == 0 {
            self.bell.ring();
        }
        // Without a receiver the server is about to be stopped.
        let _ = self.sender.send(event).await;
        self.bell.ring();
    }

    /// Sends an event, or drops it if the queue is full; false if dropped.
    pub(super) fn send_or_drop(&self, event: Event) -> bool {
        let presses = !event.kind.can_wait() || self.sender.capacity() < MAX_WAITING / 2;
        let queued = self.sender.try_send(event).is_ok();
        if presses {
            self.bell.ring();
        }
        queued
    }
}

/// Wakes the reader for a pressing event, and when the sender is dropped.
struct Bell(Arc<Notify>);

impl Bell {
    fn ring(&self) {
        self.0.notify_one();
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}
