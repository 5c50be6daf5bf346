//! Sends ASCII probes to legacy agents: a socket of its own for each IP version, stamped by the kernel.

use std::io;
use std::net::IpAddr;

use probe_common::family::Family;
use probe_core::agent::event::Destination;
use probe_core::legacy::{LegacyAgent, LegacyTransmit, Moment};
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_host::wall::WallOffset;

use crate::udp::sockets;
use crate::udp::sockets::SocketError;
use crate::udp::stamped::Received;
use crate::udp::watched::WatchedSocket;

/// Longer answers hold more than a number.
const MAX_ANSWER: usize = 32;

/// Answers taken at once, so that a flood of the port does not stall the agent.
const MAX_AT_ONCE: usize = 4096;

/// Probes the legacy agents on one interface.
pub struct LegacyProber {
    interface: String,
    port: u16,
    /// Each IP version's group and socket; none while the interface is gone.
    sockets: Vec<(IpAddr, WatchedSocket)>,
    index: u32,
    groups: Vec<IpAddr>,
    /// The number in each probe that was sent, by the family and number of its stamp.
    unstamped: Vec<((Family, u32), u64)>,
    wall: WallOffset,
}

impl LegacyProber {
    /// Opens a socket for each group.
    pub fn open(interface: &str, index: u32, port: u16, groups: &[IpAddr]) -> Result<Self, SocketError> {
        let mut opened = Self {
            interface: interface.to_owned(),
            port,
            sockets: Vec::new(),
            index,
            groups: groups.to_vec(),
            unstamped: Vec::new(),
            wall: WallOffset::now(),
        };
        opened.reopen(index)?;
        Ok(opened)
    }

    /// Opens a socket for another group.
    pub fn add(&mut self, group: IpAddr) -> Result<(), SocketError> {
        let socket = sockets::legacy_sender(&self.interface, self.index, Family::of(group))?;
        self.sockets.push((group, socket));
        self.groups.push(group);
        Ok(())
    }

    /// Closes the sockets of an interface that is gone.
    pub fn close(&mut self) {
        self.sockets.clear();
        self.unstamped.clear();
    }

    /// Opens the sockets of an interface that is back, with another index.
    pub fn reopen(&mut self, index: u32) -> Result<(), SocketError> {
        self.close();
        self.index = index;
        for &group in &self.groups {
            let socket = sockets::legacy_sender(&self.interface, index, Family::of(group))?;
            self.sockets.push((group, socket));
        }
        Ok(())
    }

    /// Both clocks now.
    pub fn now() -> Moment {
        Moment {
            unix_ns: realtime_ns(),
            mono_ns: monotonic_ns(),
        }
    }

    /// Sends one ASCII probe.
    pub fn send(&mut self, transmit: LegacyTransmit) -> io::Result<()> {
        self.wall.follow(WallOffset::now());
        let family = match transmit.destination {
            Destination::Group(family) => family,
            Destination::Peer(peer) => Family::of(peer),
        };
        let Some((group, socket)) = self.sockets.iter().find(|(group, _)| Family::of(*group) == family) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the interface is gone"));
        };
        let to = match transmit.destination {
            Destination::Group(_) => *group,
            Destination::Peer(peer) => peer,
        };
        let to = sockets::endpoint(to, self.port, self.index);
        let stamp = socket.send(transmit.number.to_string().as_bytes(), to)?;
        self.unstamped.push(((family, stamp), transmit.number));
        // A driver stamps at once or never.
        let excess = self.unstamped.len().saturating_sub(MAX_AT_ONCE);
        self.unstamped.drain(..excess);
        Ok(())
    }

    /// Returns when there may be answers. Cancel safe.
    pub async fn ready(&self) -> io::Result<()> {
        match &self.sockets[..] {
            [] => std::future::pending().await,
            [(_, one)] => one.ready().await,
            [(_, one), (_, other), ..] => tokio::select! {
                ready = one.ready() => ready,
                ready = other.ready() => ready,
            },
        }
    }

    /// Hands stamps and answers to `agent`, but ignores the answers of some addresses.
    pub fn drain(&mut self, agent: &mut LegacyAgent, is_ignored: impl Fn(IpAddr) -> bool) {
        self.wall.follow(WallOffset::now());
        let mut buffer = [0; MAX_ANSWER];
        for place in 0..self.sockets.len() {
            for _ in 0..MAX_AT_ONCE {
                let Ok(Some(received)) = self.sockets[place].1.try_receive(&mut buffer) else {
                    break;
                };
                // Stamps first: a probe is stamped before its answer arrives.
                self.take_stamps(place, agent);
                self.take(&buffer[..received.len], &received, agent, &is_ignored);
            }
            self.take_stamps(place, agent);
        }
    }

    fn take(&self, payload: &[u8], received: &Received, agent: &mut LegacyAgent, is_ignored: impl Fn(IpAddr) -> bool) {
        let source = received.from.ip();
        if received.from.port() != self.port || is_ignored(source) {
            return;
        }
        let unix_ns = received.stamp_ns.unwrap_or_else(realtime_ns);
        let at = Moment {
            unix_ns,
            mono_ns: self.wall.monotonic_ns(unix_ns),
        };
        agent.answer(source, payload, at, monotonic_ns());
    }

    fn take_stamps(&mut self, place: usize, agent: &mut LegacyAgent) {
        let (group, socket) = &self.sockets[place];
        let family = Family::of(*group);
        while let Ok(Some(stamp)) = socket.sent_stamp() {
            let sent = self.unstamped.iter().position(|&(id, _)| id == (family, stamp.id));
            if let Some(sent) = sent {
                let (_, number) = self.unstamped.swap_remove(sent);
                let at = Moment {
                    unix_ns: stamp.stamp_ns,
                    mono_ns: self.wall.monotonic_ns(stamp.stamp_ns),
                };
                agent.transmitted(number, at);
            }
        }
    }
}
