//! What the server says and what it is told: the whole of its interface beside start and stop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{Notify, mpsc};

use crate::openflow::cookie;
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::message::{ErrorMessage, Features, Message, PacketIn};
use crate::openflow::port::{Port, PortReason};

/// One connection of a switch; never used again in this run, also not by the same switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Something that happened on a connection.
///
/// For one connection the order is: `Connected`, then anything, then `Gone`, after which there is nothing more of it. A
/// connection that does not get through its handshake yields one `Refused`.
#[derive(Debug)]
pub struct Event {
    /// Where.
    pub connection: ConnectionId,
    /// `CLOCK_MONOTONIC` in ns when the bytes that caused it were read from the socket (`Connected`: those of the last
    /// answer of the handshake); for `Gone` and `Refused` when it was found out.
    pub at_ns: u64,
    /// What.
    pub what: EventKind,
}

/// What happened.
#[derive(Debug)]
pub enum EventKind {
    /// A switch is ready: its handshake is done and its rules are in place.
    Connected {
        /// From where.
        address: SocketAddr,
        /// Who it is.
        features: Features,
        /// All its ports, with [`crate::openflow::id::PortNumber::LOCAL`] if it has one.
        ports: Vec<Port>,
    },
    /// One of its ports changed. Open vSwitch tells a change in several steps.
    PortStatus(PortReason, Port),
    /// A frame from the switch.
    PacketIn(PacketIn),
    /// The answer to an echo request that a [`Command`] sent.
    EchoReply(Vec<u8>),
    /// All that was sent before [`Command::Barrier`] with this token is done.
    Barrier(u64),
    /// The switch refused something that it was sent.
    Error(ErrorMessage),
    /// The connection has ended.
    Gone {
        /// Whose it was.
        dpid: Dpid,
        /// From where.
        address: SocketAddr,
        /// Why.
        reason: Reason,
    },
    /// Someone did not get through the handshake.
    Refused {
        /// From where.
        address: SocketAddr,
        /// Why.
        reason: Reason,
    },
}

impl EventKind {
    /// Whether it may be taken a little later: an answer to what was sent to measure has its stamp.
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
    /// Sends a message.
    Send(Message),
    /// Sends a message that is made at the moment of its write: nothing else of ours is then before it in the connection's
    /// buffer.
    SendStamped(Build),
    /// As [`Command::SendStamped`], but not before `CLOCK_MONOTONIC` has reached so many nanoseconds: many may be given
    /// ahead. What is given meanwhile goes first. If the connection has ended by then it is dropped.
    SendStampedAt(u64, Build),
    /// Sends a barrier request; its answer is [`EventKind::Barrier`] with this token.
    Barrier(u64),
    /// Sends what is waiting, then closes the connection.
    Close,
}

impl Command {
    /// A [`Command::SendStamped`].
    pub fn stamped(build: impl FnOnce(u64) -> Message + Send + 'static) -> Self {
        Self::SendStamped(Box::new(build))
    }

    /// A [`Command::SendStampedAt`].
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
            Self::Close => f.write_str("Close"),
        }
    }
}

/// A command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such connection any more.
    #[error("the connection has ended")]
    Gone,
    /// The switch does not read what it is sent, and too much is waiting.
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
    /// The switch closed it.
    #[error("the switch closed the connection")]
    ClosedBySwitch,
    /// [`Command::Close`], or the server was stopped.
    #[error("closed by this controller")]
    ClosedHere,
    /// What came is not OpenFlow 1.3, or not what may come at this point.
    #[error("{0}")]
    Protocol(String),
    /// It did not answer.
    #[error("{0}")]
    Silent(String),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// Another connection of the same datapath is alive.
    #[error(
        "datapath {dpid} is already connected from {other}, and that connection answers; two switches with one datapath id?"
    )]
    DuplicateDpid {
        /// The datapath.
        dpid: Dpid,
        /// The connection that stays.
        other: SocketAddr,
    },
    /// A newer connection of the same datapath took its place, because this one no longer answered.
    #[error("datapath {0} connected anew, and this connection no longer answers")]
    Superseded(Dpid),
    /// A limit was reached.
    #[error("{0}")]
    Limit(String),
    /// The socket failed.
    #[error("{0}")]
    Io(String),
}

/// Events that may wait to be taken. Answers to probes come thousands a second with their arrival stamps: they wake the
/// reader only with the next pressing event, or when the queue fills up. When there are as many, packet-ins and echo replies are dropped and counted, and all
/// else waits.
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

    /// Waits for something that does not wait: all but answers to what measures, a queue that fills up, the server's end.
    /// All that is there must then be taken. Cancel safe.
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
        // If nobody listens any more, the server is about to be stopped.
        let _ = self.sender.send(event).await;
        self.bell.ring();
    }

    /// Sends an event that is better dropped than late; false if it was.
    pub(super) fn send_or_drop(&self, event: Event) -> bool {
        let presses = !event.what.can_wait() || self.sender.capacity() < MAX_WAITING / 2;
        let told = self.sender.try_send(event).is_ok();
        if presses {
            self.bell.ring();
        }
        told
    }
}

/// Rung when there is something to hurry for, and when it is dropped.
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
