//! The handshake: hello, features, first rules, ports.

use std::net::SocketAddr;
use std::rc::Rc;

use log::debug;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::openflow::flow::{Action, ETH_TYPE_LLDP, FlowMod, Match, NO_BUFFER, PRIORITY_LLDP};
use crate::openflow::frame::{Header, VERSION};
use crate::openflow::id::PortNumber;
use crate::openflow::message::{ErrorMessage, Features, Hello, Message};
use crate::openflow::port::Port;
use crate::openflow::server::event::{ConnectionId, Reason};
use crate::openflow::server::io::{Incoming, Outgoing};
use crate::openflow::server::slots::{Slot, Slots};
use crate::openflow::{cookie, lldp};

/// Bit of OpenFlow 1.3 in a hello's bitmap.
const VERSION_BIT: u32 = 1 << VERSION;
/// `OFPET_HELLO_FAILED`, and its code `OFPHFC_INCOMPATIBLE`.
const HELLO_FAILED: u16 = 0;
const INCOMPATIBLE: u16 = 0;
/// More ports than any switch has; stops an endless description.
pub const MAX_PORTS: usize = 8_192;

/// Result of the handshake.
pub(super) struct Ready {
    pub(super) features: Features,
    pub(super) ports: Vec<Port>,
    pub(super) slot: Slot,
    /// When the last answer was read.
    pub(super) at_ns: u64,
    /// Port changes reported during the port description.
    pub(super) early: Vec<(u64, Message)>,
    /// The next transaction id that is free.
    pub(super) next_xid: u32,
}

pub(super) struct Handshake<'a, S> {
    pub(super) incoming: &'a mut Incoming<S>,
    pub(super) outgoing: &'a mut Outgoing<S>,
    pub(super) connection: ConnectionId,
    pub(super) address: SocketAddr,
    pub(super) measure_only: bool,
    next_xid: u32,
    at_ns: u64,
    early: Vec<(u64, Message)>,
}

impl<'a, S: AsyncRead + AsyncWrite> Handshake<'a, S> {
    pub(super) fn new(
        incoming: &'a mut Incoming<S>,
        outgoing: &'a mut Outgoing<S>,
        connection: ConnectionId,
        address: SocketAddr,
        measure_only: bool,
    ) -> Self {
        Self {
            incoming,
            outgoing,
            connection,
            address,
            measure_only,
            next_xid: 1,
            at_ns: 0,
            early: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, slots: &Rc<Slots>) -> Result<Ready, Reason> {
        self.hello().await?;
        let features = self.features().await?;
        let slot = slots.take(features.dpid, self.connection, self.address).await?;
        self.rules().await?;
        let ports = self.ports().await?;
        Ok(Ready {
            features,
            ports,
            slot,
            at_ns: self.at_ns,
            early: self.early,
            next_xid: self.next_xid,
        })
    }

    async fn hello(&mut self) -> Result<(), Reason> {
        let ours = Hello {
            version: VERSION,
            bitmap: Some(VERSION_BIT),
        };
        self.send(&Message::Hello(ours)).await?;
        let (header, message) = self.receive().await?;
        let theirs = match message {
            Message::Hello(hello) => hello,
            Message::Error(error) => return Err(refused("the hello", &error)),
            _ => {
                return Err(Reason::Protocol(format!(
                    "a message of type {} before any hello",
                    header.kind
                )));
            }
        };
        let agreed = theirs
            .bitmap
            .map_or(theirs.version >= VERSION, |bitmap| bitmap & VERSION_BIT != 0);
        if agreed {
            return Ok(());
        }
        let error = ErrorMessage {
            kind: HELLO_FAILED,
            code: INCOMPATIBLE,
            data: b"this controller speaks OpenFlow 1.3 only".to_vec(),
        };
        self.send(&Message::Error(error)).await?;
        Err(Reason::Protocol(format!(
            "it does not speak OpenFlow 1.3 (its hello is of version {:#04x}); ovs-vsctl set bridge BRIDGE protocols=OpenFlow13",
            theirs.version
        )))
    }

    async fn features(&mut self) -> Result<Features, Reason> {
        let asked = self.send(&Message::FeaturesRequest).await?;
        let what = "the features request";
        let Message::FeaturesReply(features) = self.answer(asked, asked, what).await? else {
            return Err(unexpected(what));
        };
        if features.auxiliary != 0 {
            return Err(Reason::Protocol(
                "an auxiliary connection, which this controller does not use".to_owned(),
            ));
        }
        Ok(features)
    }

    async fn rules(&mut self) -> Result<(), Reason> {
        let first = self.next_xid;
        let config = Message::SetConfig {
            flags: 0,
            miss_send_len: NO_BUFFER,
        };
        self.send(&config).await?;
        // Rules of an earlier run go first.
        let (ours, mask) = cookie::own(self.measure_only);
        let old = FlowMod::delete_by_cookie(ours, mask);
        for rule in [old].into_iter().chain(first_rules(self.measure_only)) {
            self.send(&Message::FlowMod(rule)).await?;
        }
        let asked = self.send(&Message::BarrierRequest).await?;
        let what = "the first rules";
        match self.answer(first, asked, what).await? {
            Message::BarrierReply => Ok(()),
            _ => Err(unexpected(what)),
        }
    }

    async fn ports(&mut self) -> Result<Vec<Port>, Reason> {
        let asked = self.send(&Message::PortDescRequest).await?;
        let what = "the request for its ports";
        let (mut all, mut described) = (Vec::new(), false);
        loop {
            let Message::PortDescReply { more, ports } = self.answer(asked, asked, what).await? else {
                return Err(unexpected(what));
            };
            if !described {
                // Earlier changes are in the description.
                self.early.clear();
                described = true;
            }
            all.extend(ports);
            if all.len() > MAX_PORTS {
                return Err(Reason::Limit(format!("it has more than {MAX_PORTS} ports")));
            }
            if !more {
                return Ok(all);
            }
        }
    }

    /// Waits for the answer to `asked`. Errors about any transaction from `first` on end the handshake.
    async fn answer(&mut self, first: u32, asked: u32, what: &str) -> Result<Message, Reason> {
        loop {
            let (header, message) = self.receive().await?;
            match message {
                Message::EchoRequest(payload) => {
                    let reply = encode(&Message::EchoReply(payload), header.xid)?;
                    self.outgoing.write(&reply).await?;
                }
                Message::Error(error) if (first..=asked).contains(&header.xid) => return Err(refused(what, &error)),
                Message::Error(error) => {
                    debug!(
                        "{}: error {} {} about an unknown transaction",
                        self.address, error.kind, error.code
                    );
                }
                Message::PortStatus(..) if self.early.len() < MAX_PORTS => self.early.push((self.at_ns, message)),
                // Rules of an earlier run may still send packets.
                Message::PacketIn(_) | Message::Unused { .. } => {}
                answer if header.xid == asked => return Ok(answer),
                _ => return Err(unexpected(what)),
            }
        }
    }

    async fn send(&mut self, message: &Message) -> Result<u32, Reason> {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.outgoing.write(&encode(message, xid)?).await?;
        Ok(xid)
    }

    async fn receive(&mut self) -> Result<(Header, Message), Reason> {
        loop {
            if let Some((header, body)) = self.incoming.next_message()? {
                let message = Message::decode(header, body).map_err(|error| Reason::Protocol(error.to_string()))?;
                return Ok((header, message));
            }
            self.at_ns = self.incoming.fill().await?;
        }
    }
}

/// The rules that the server gives each switch: LLDP and, unless only measuring, table misses go to the controller.
pub fn first_rules(measure_only: bool) -> Vec<FlowMod> {
    let to_controller = || vec![Action::Output(PortNumber::CONTROLLER)];
    let lldp = Match::any().eth_dst(lldp::DESTINATION).eth_type(ETH_TYPE_LLDP);
    let lldp = FlowMod::add(cookie::LLDP, PRIORITY_LLDP, lldp, to_controller());
    let miss = FlowMod::add(cookie::TABLE_MISS, 0, Match::any(), to_controller());
    if measure_only { vec![lldp] } else { vec![lldp, miss] }
}

pub(super) fn encode(message: &Message, xid: u32) -> Result<Vec<u8>, Reason> {
    message.encode(xid).map_err(|error| Reason::Limit(error.to_string()))
}

fn refused(what: &str, error: &ErrorMessage) -> Reason {
    Reason::Protocol(format!(
        "it refused {what}: OpenFlow error type {}, code {}",
        error.kind, error.code
    ))
}

fn unexpected(what: &str) -> Reason {
    Reason::Protocol(format!("another message than the answer to {what}"))
}
