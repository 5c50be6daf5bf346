//! A connection after its handshake: reads, writes, and checks that the switch is alive, until one of these ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use log::warn;
use probe_host::clock::monotonic_ns;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep;

use crate::openflow::cookie;
use crate::openflow::frame::Header;
use crate::openflow::id::Dpid;
use crate::openflow::message::{Message, PacketIn, kind};
use crate::openflow::server::context::Context;
use crate::openflow::server::event::{Command, ConnectionId, EventKind, Reason};
use crate::openflow::server::io::{Incoming, Outgoing};
use crate::openflow::server::limits::{Bucket, PortBuckets};
use crate::openflow::server::shared::Counts;
use crate::openflow::server::slots::Summons;

/// Answers and keepalives that may wait to be written. When it is full, reading waits too.
const REPLIES: usize = 64;
/// Time for the switch to read our last messages before we close the connection.
const LINGER: Duration = Duration::from_millis(300);

/// Rate and burst of messages above which a connection is read more slowly. The burst is large because a switch reports
/// all its ports when it starts.
const MESSAGES_PER_S: u32 = 20_000;
/// Pause in reading a connection above a limit; TCP then slows the switch down.
const PAUSE: Duration = Duration::from_millis(5);
/// Time between two warnings about one connection.
const WARN_INTERVAL_NS: u64 = 10_000_000_000;
/// Barriers that may wait for their answers.
const MAX_BARRIERS: usize = 1_024;

/// Limits on the messages of one connection.
struct Allowance {
    measuring: Bucket,
    other: Bucket,
    ports: PortBuckets,
    messages: Bucket,
    /// Whether a limit was exceeded since the last pause.
    exceeded: bool,
    warned_ns: Option<u64>,
}

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
    /// The request for the number of rules that is not answered yet.
    counting: Cell<Option<u32>>,
    /// Time of the last read.
    heard_ns: Cell<u64>,
    heard: Notify,
}

/// How a connection ended.
pub(super) struct Left {
    pub(super) reason: Reason,
    /// Dropped once the end of the connection is reported.
    pub(super) reported: Option<oneshot::Sender<()>>,
}

/// An answer or a keepalive to write.
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
            counting: Cell::default(),
            heard_ns: Cell::new(heard_ns),
            heard: Notify::new(),
        }
    }

    /// Runs until one end closes the connection.
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
            reason = self.read(&mut incoming, &replies, early) => Left { reason, reported: None },
            reason = self.write(&mut outgoing, commands, to_reply) => Left { reason, reported: None },
            left = self.watch(summons, &replies) => left,
        };
        outgoing.finish().await;
        if left.reason == Reason::ClosedHere {
            // Closing a socket with unread bytes would discard data that the switch has not read yet.
            incoming.drain(LINGER).await;
        }
        left
    }

    fn xid(&self) -> u32 {
        let xid = self.next_xid.get();
        self.next_xid.set(xid.wrapping_add(1));
        xid
    }

    /// Reads until the connection ends.
    async fn read<S: AsyncRead>(
        &self,
        incoming: &mut Incoming<S>,
        replies: &mpsc::Sender<Reply>,
        early: Vec<(u64, Message)>,
    ) -> Reason {
        for (at_ns, message) in early {
            if let Message::PortStatus(reason, port) = message {
                self.context
                    .notify(self.id, at_ns, EventKind::PortStatus(reason, port))
                    .await;
            }
        }
        match self.read_on(incoming, replies).await {
            Ok(never) => match never {},
            Err(reason) => reason,
        }
    }

    async fn read_on<S: AsyncRead>(
        &self,
        incoming: &mut Incoming<S>,
        replies: &mpsc::Sender<Reply>,
    ) -> Result<std::convert::Infallible, Reason> {
        let mut at_ns = self.heard_ns.get();
        let per_s = self.context.config.limits.packet_ins_per_s;
        let mut allowance = Allowance {
            measuring: Bucket::new(per_s, at_ns),
            other: Bucket::new(per_s, at_ns),
            ports: PortBuckets::new(per_s),
            messages: Bucket::new(MESSAGES_PER_S, at_ns),
            exceeded: false,
            warned_ns: None,
        };
        loop {
            // The handshake may have read more bytes than it needed.
            while let Some((header, body)) = incoming.next_message()? {
                allowance.exceeded |= !allowance.messages.take(at_ns);
                if header.kind == kind::PACKET_IN && !self.admits(&mut allowance, body, at_ns) {
                    continue;
                }
                let message = Message::decode(header, body).map_err(|error| Reason::Protocol(error.to_string()))?;
                self.take(header, message, at_ns, replies).await?;
            }
            if std::mem::take(&mut allowance.exceeded) {
                tokio::time::sleep(PAUSE).await;
            } else if incoming.is_busy() {
                // Let other connections read, even if more bytes are waiting.
                tokio::task::yield_now().await;
            }
            at_ns = incoming.fill().await?;
            self.heard_ns.set(at_ns);
            self.heard.notify_waiters();
        }
    }

    /// Whether a packet-in is within the limits, decided without decoding it.
    fn admits(&self, allowance: &mut Allowance, body: &[u8], at_ns: u64) -> bool {
        let measuring = PacketIn::peek_cookie(body).is_some_and(cookie::is_measuring);
        let bucket = if measuring {
            &mut allowance.measuring
        } else {
            &mut allowance.other
        };
        // Packet-ins above the share of their port take nothing from the limit of the switch.
        let of_port = PacketIn::peek_in_port(body).is_none_or(|port| allowance.ports.take(measuring, port, at_ns));
        let within = of_port && bucket.take(at_ns);
        if !within {
            Counts::add_one(&self.context.shared.counts.packet_ins_over_limit);
            allowance.exceeded = true;
            if allowance
                .warned_ns
                .is_none_or(|then| at_ns.saturating_sub(then) >= WARN_INTERVAL_NS)
            {
                allowance.warned_ns = Some(at_ns);
                let (dpid, address) = (self.dpid, self.address);
                let limit = self.context.config.limits.packet_ins_per_s;
                warn!(
                    "switch {dpid} at {address}: more than {limit} packet-ins a second, or a quarter of that from one port; the excess is dropped"
                );
            }
        }
        within
    }

    async fn take(
        &self,
        header: Header,
        message: Message,
        at_ns: u64,
        replies: &mpsc::Sender<Reply>,
    ) -> Result<(), Reason> {
        let xid = header.xid;
        let event = match message {
            Message::PacketIn(packet) => {
                self.context.notify_or_drop(self.id, at_ns, EventKind::PacketIn(packet));
                return Ok(());
            }
            Message::EchoReply(_) if self.keepalive.get() == Some(xid) => {
                self.keepalive.set(None);
                return Ok(());
            }
            Message::EchoReply(payload) => {
                self.context
                    .notify_or_drop(self.id, at_ns, EventKind::EchoReply(payload));
                return Ok(());
            }
            Message::EchoRequest(payload) => {
                let message = Message::EchoReply(payload);
                let _ = replies.send(Reply { xid, message }).await;
                return Ok(());
            }
            Message::PortStatus(reason, port) => EventKind::PortStatus(reason, port),
            Message::Error(error) => EventKind::Error(error),
            Message::BarrierReply => match self.barriers.borrow_mut().remove(&xid) {
                Some(token) => EventKind::Barrier(token),
                None => return Err(Reason::Protocol("an unsolicited barrier reply".to_owned())),
            },
            Message::AggregateReply { flows } if self.counting.get() == Some(xid) => {
                self.counting.set(None);
                EventKind::RuleCount(flows)
            }
            // Open vSwitch sends messages about other controllers to all of them.
            Message::Unused { kind } if kind != kind::MULTIPART_REPLY && kind != kind::MULTIPART_REQUEST => {
                return Ok(());
            }
            _ => {
                return Err(Reason::Protocol(format!(
                    "an unsolicited message of type {}",
                    header.kind
                )));
            }
        };
        self.context.notify(self.id, at_ns, event).await;
        Ok(())
    }

    /// Ends when the switch has been silent for too long, or another connection of the same datapath takes its place.
    async fn watch(&self, summons: &mut mpsc::Receiver<Summons>, replies: &mpsc::Sender<Reply>) -> Left {
        let limits = &self.context.config.limits;
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            let silent = self.silent_for();
            if silent >= limits.dead {
                let reason = Reason::Silent(format!("nothing received for {} s", silent.as_secs()));
                return Left { reason, reported: None };
            }
            // Checks at a quarter of the limit.
            let next = if silent < limits.idle {
                limits.idle - silent
            } else {
                limits.dead / 4
            };
            tokio::select! {
                summoned = summons.recv() => match summoned {
                    Some(Summons::ShowLife(answer)) => {
                        waiting.push(answer);
                        self.ask(replies);
                    }
                    Some(Summons::Leave(reported)) => {
                        let reason = Reason::Superseded(self.dpid);
                        return Left { reason, reported: Some(reported) };
                    }
                    // The sender is kept with the slot, which outlives this.
                    None => std::future::pending().await,
                },
                () = self.heard.notified(), if !waiting.is_empty() => {
                    for answer in waiting.drain(..) {
                        let _ = answer.send(());
                    }
                }
                () = sleep(next) => {
                    if self.silent_for() >= limits.idle {
                        self.ask(replies);
                    }
                }
            }
        }
    }

    fn silent_for(&self) -> Duration {
        Duration::from_nanos(monotonic_ns().saturating_sub(self.heard_ns.get()))
    }

    /// Sends an echo request, unless the queue is full: then enough is waiting for the switch.
    fn ask(&self, replies: &mpsc::Sender<Reply>) {
        let xid = self.xid();
        let message = Message::EchoRequest(Vec::new());
        if replies.try_send(Reply { xid, message }).is_ok() {
            self.keepalive.set(Some(xid));
        }
    }

    /// Writes until the connection must be closed.
    async fn write<S: AsyncWrite>(
        &self,
        outgoing: &mut Outgoing<S>,
        mut commands: mpsc::Receiver<Command>,
        mut replies: mpsc::Receiver<Reply>,
    ) -> Reason {
        let mut stop = self.context.stop.clone();
        loop {
            let written = tokio::select! {
                biased;
                Some(reply) = replies.recv() => self.send(outgoing, &reply.message, reply.xid).await,
                Some(command) = commands.recv() => self.carry_out(outgoing, command).await,
                _ = stop.wait_for(|&stop| stop) => {
                    while let Ok(command) = commands.try_recv() {
                        if let Err(reason) = self.carry_out(outgoing, command).await {
                            return reason;
                        }
                    }
                    return Reason::ClosedHere;
                }
            };
            if let Err(reason) = written {
                return reason;
            }
        }
    }

    async fn carry_out<S: AsyncWrite>(&self, outgoing: &mut Outgoing<S>, command: Command) -> Result<(), Reason> {
        match command {
            Command::Send(message) => self.send(outgoing, &message, self.xid()).await,
            // The kernel has all earlier bytes, so this is the time of the write.
            Command::SendStamped(build) | Command::SendStampedAt(_, build) => {
                self.send(outgoing, &build(monotonic_ns()), self.xid()).await
            }
            Command::Barrier(token) => {
                let xid = self.xid();
                let waiting = {
                    let mut barriers = self.barriers.borrow_mut();
                    barriers.insert(xid, token);
                    barriers.len()
                };
                if waiting > MAX_BARRIERS {
                    return Err(Reason::Silent(format!("it has not answered {waiting} barriers")));
                }
                self.send(outgoing, &Message::BarrierRequest, xid).await
            }
            Command::CountRules { cookie, mask } => {
                let xid = self.xid();
                self.counting.set(Some(xid));
                self.send(outgoing, &Message::AggregateRequest { cookie, mask }, xid)
                    .await
            }
            Command::Close => Err(Reason::ClosedHere),
        }
    }

    async fn send<S: AsyncWrite>(&self, outgoing: &mut Outgoing<S>, message: &Message, xid: u32) -> Result<(), Reason> {
        match message.encode(xid) {
            Ok(bytes) => outgoing.write(&bytes).await,
            Err(error) => {
                // Not the switch's fault: the connection continues.
                warn!("switch {} at {}: not sent: {error}", self.dpid, self.address);
                Ok(())
            }
        }
    }
}
