//! A server under test, and scripted peers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use probe_controller::openflow::frame::{Framer, Header, MAX_MESSAGE};
use probe_controller::openflow::id::{Dpid, MacAddress, PortNumber};
use probe_controller::openflow::message::{Features, Hello, Message};
use probe_controller::openflow::port::{Port, STATE_LIVE};
use probe_controller::openflow::server::{Config, ConnectionId, Event, EventKind, Events, Limits, Reason, Server};
use tokio::sync::mpsc::error::TryRecvError;

/// Generous limit for immediate reactions, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(10);

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub struct Subject {
    pub server: Server,
    pub events: Events,
}

impl Subject {
    pub fn new(limits: Limits) -> Self {
        Self::with(Config {
            limits,
            ..Config::new(loopback())
        })
    }

    pub fn with(config: Config) -> Self {
        let (server, events) = Server::start(config).unwrap();
        Self { server, events }
    }

    /// The next event within a time.
    pub fn event_within(&mut self, limit: Duration) -> Option<Event> {
        let until = Instant::now() + limit;
        loop {
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if Instant::now() >= until => return None,
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// The first event that `pick` takes; others are dropped.
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.event_within(left).unwrap_or_else(|| panic!("no {what} in time"));
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    pub fn connected(&mut self) -> (ConnectionId, Dpid, Vec<Port>) {
        self.wait("connection", |event| match event.kind {
            EventKind::Connected { features, ports, .. } => Some((event.connection, features.dpid, ports)),
            _ => None,
        })
    }

    pub fn refusal(&mut self) -> Reason {
        self.wait("refusal", |event| match event.kind {
            EventKind::Refused { reason, .. } => Some(reason),
            _ => None,
        })
    }

    pub fn gone(&mut self, connection: ConnectionId) -> Reason {
        self.wait("end", |event| match event.kind {
            EventKind::Gone { reason, .. } if event.connection == connection => Some(reason),
            _ => None,
        })
    }

    /// A connected peer before its handshake.
    pub fn peer(&self) -> Peer {
        Peer::connect(self.server.address())
    }

    /// A peer after its handshake.
    pub fn switch(&mut self, dpid: u64) -> (Peer, ConnectionId) {
        let mut peer = self.peer();
        peer.shake_hands(dpid);
        (peer, self.connected().0)
    }
}

pub struct Peer<T = TcpStream> {
    pub stream: T,
    framer: Framer,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self::over(stream)
    }
}

impl<T: Read + Write> Peer<T> {
    pub fn over(stream: T) -> Self {
        Self {
            stream,
            framer: Framer::new(MAX_MESSAGE),
        }
    }

    /// Ignores errors, because the server may close at any time.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn send(&mut self, message: &Message, xid: u32) {
        self.write(&message.encode(xid).unwrap());
    }

    /// The next message; `None` when the server has closed.
    pub fn receive(&mut self) -> Option<(Header, Message)> {
        let mut buffer = [0; 4096];
        loop {
            if let Some((header, body)) = self.framer.next_message().unwrap() {
                return Some((header, Message::decode(header, body).unwrap()));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.framer.push(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn hello(&mut self) {
        let hello = Hello {
            version: 4,
            bitmap: Some(1 << 4),
        };
        self.send(&Message::Hello(hello), 0);
    }

    /// The whole handshake of a switch with port 1. Returns the rules of the server.
    pub fn shake_hands(&mut self, dpid: u64) -> Vec<Message> {
        self.hello();
        let mut given = Vec::new();
        loop {
            let (header, message) = self.receive().expect("the server closed during the handshake");
            match message {
                Message::Hello(_) => {}
                Message::FeaturesRequest => self.send(&Message::FeaturesReply(features(dpid)), header.xid),
                Message::BarrierRequest => self.send(&Message::BarrierReply, header.xid),
                Message::PortDescRequest => {
                    let ports = vec![port(1)];
                    self.send(&Message::PortDescReply { more: false, ports }, header.xid);
                    return given;
                }
                other => given.push(other),
            }
        }
    }
}

pub fn features(dpid: u64) -> Features {
    Features {
        dpid: Dpid(dpid),
        buffers: 0,
        tables: 254,
        auxiliary: 0,
        capabilities: 0x4f,
    }
}

pub fn port(number: u32) -> Port {
    Port {
        number: PortNumber(number),
        mac: MacAddress([2, 0, 0, 0, 0, number as u8]),
        name: format!("port{number}"),
        config: 0,
        state: STATE_LIVE,
        speed_kbps: 0,
    }
}
