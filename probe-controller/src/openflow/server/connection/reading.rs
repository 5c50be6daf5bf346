//! What a switch says.

use std::time::Duration;

use log::warn;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use crate::openflow::cookie;
use crate::openflow::frame::Header;
use crate::openflow::message::{Message, PacketIn, kind};
use crate::openflow::server::bucket::Bucket;
use crate::openflow::server::connection::{Connection, Reply};
use crate::openflow::server::counters::Counts;
use crate::openflow::server::io::Incoming;
use crate::openflow::server::{Reason, What};

/// Messages a second above which a connection is read more slowly, and as many at once: a switch with many ports tells
/// of all of them when it starts.
const MESSAGES_PER_S: u32 = 20_000;
/// How long a connection is not read that is above a limit. The kernel then keeps what comes, and slows the switch down.
const PAUSE: Duration = Duration::from_millis(5);
/// Time between two complaints about one connection.
const COMPLAIN_NS: u64 = 10_000_000_000;

/// What one connection may say.
struct Allowance {
    measuring: Bucket,
    other: Bucket,
    messages: Bucket,
    /// Whether a limit was exceeded since the last pause.
    exceeded: bool,
    complained_ns: Option<u64>,
}

impl Connection {
    /// Reads until the connection ends.
    pub(super) async fn read<S: AsyncRead>(
        &self,
        incoming: &mut Incoming<S>,
        replies: &mpsc::Sender<Reply>,
        early: Vec<(u64, Message)>,
    ) -> Reason {
        for (at_ns, message) in early {
            if let Message::PortStatus(reason, port) = message {
                self.context.tell(self.id, at_ns, What::PortStatus(reason, port)).await;
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
            messages: Bucket::new(MESSAGES_PER_S, at_ns),
            exceeded: false,
            complained_ns: None,
        };
        loop {
            // What the handshake has read beyond its end comes first.
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
                // The others' turn, even if there is more to read.
                tokio::task::yield_now().await;
            }
            at_ns = incoming.fill().await?;
            self.heard_ns.set(at_ns);
            self.heard.notify_waiters();
        }
    }

    /// Whether a packet-in is within the limits. It is not decoded for that.
    fn admits(&self, allowance: &mut Allowance, body: &[u8], at_ns: u64) -> bool {
        let measuring = PacketIn::peek_cookie(body).is_some_and(cookie::is_measuring);
        let bucket = if measuring {
            &mut allowance.measuring
        } else {
            &mut allowance.other
        };
        let within = bucket.take(at_ns);
        if !within {
            Counts::add_one(&self.context.shared.counts.packet_ins_over_limit);
            allowance.exceeded = true;
            if allowance
                .complained_ns
                .is_none_or(|then| at_ns.saturating_sub(then) >= COMPLAIN_NS)
            {
                allowance.complained_ns = Some(at_ns);
                let (dpid, address) = (self.dpid, self.address);
                let most = self.context.config.limits.packet_ins_per_s;
                warn!("switch {dpid} at {address}: more than {most} packet-ins a second; what exceeds that is dropped");
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
        let what = match message {
            Message::PacketIn(packet) => {
                self.context.tell_now(self.id, at_ns, What::PacketIn(packet));
                return Ok(());
            }
            Message::EchoReply(_) if self.keepalive.get() == Some(xid) => {
                self.keepalive.set(None);
                return Ok(());
            }
            Message::EchoReply(payload) => {
                self.context.tell_now(self.id, at_ns, What::EchoReply(payload));
                return Ok(());
            }
            Message::EchoRequest(payload) => {
                let message = Message::EchoReply(payload);
                let _ = replies.send(Reply { xid, message }).await;
                return Ok(());
            }
            Message::PortStatus(reason, port) => What::PortStatus(reason, port),
            Message::Error(error) => What::Error(error),
            Message::BarrierReply => match self.barriers.borrow_mut().remove(&xid) {
                Some(token) => What::Barrier(token),
                None => return Err(Reason::Protocol("a barrier reply that nothing asked for".to_owned())),
            },
            // Another controller's affairs, as Open vSwitch tells them to all.
            Message::Unused { kind } if kind != kind::MULTIPART_REPLY && kind != kind::MULTIPART_REQUEST => {
                return Ok(());
            }
            _ => {
                return Err(Reason::Protocol(format!(
                    "a message of type {} that nothing asked for",
                    header.kind
                )));
            }
        };
        self.context.tell(self.id, at_ns, what).await;
        Ok(())
    }
}
