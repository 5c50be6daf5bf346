//! Probes to a single reflector: by kernel programs on the interface that leads to it, or by a socket.

pub mod answer;
mod ebpf;
pub mod packet;
mod socket;

use std::future::poll_fn;
use std::io;

use probe_core::engine::Engine;
use probe_core::mismatch::Mismatches;
use probe_core::observation::{Fate, SendFailure};
use probe_host::clock::ClockState;
use probe_host::link::Link;

use crate::ping::answer::PingAnswer;
use crate::ping::ebpf::EbpfSender;
use crate::ping::packet::PacketPlan;
use crate::ping::socket::SocketSender;
use crate::port::PortError;
use crate::udp::sockets::SocketError;
use crate::udp::target::Target;

/// Sends probes to one destination.
pub enum Pinger {
    Ebpf(Box<EbpfSender>),
    Socket(Box<SocketSender>),
}

impl Pinger {
    /// With kernel stamps, on the interface that leads to `to`.
    pub async fn by_programs(interface: &str, target: Target, plan: PacketPlan) -> Result<Self, PortError> {
        let sender = EbpfSender::open(interface, target, plan).await?;
        Ok(Self::Ebpf(Box::new(sender)))
    }

    /// With the stamps of a socket, which needs no privilege.
    pub fn by_socket(target: Target, plan: PacketPlan) -> Result<Self, SocketError> {
        Ok(Self::Socket(Box::new(SocketSender::open(target, plan)?)))
    }

    pub fn engine(&self) -> Engine {
        match self {
            Self::Ebpf(_) => Engine::Ebpf,
            Self::Socket(_) => Engine::Socket,
        }
    }

    /// Takes the state of the interface that leads to the destination, read after `asked_ns`. Returns whether the programs
    /// are still attached.
    pub fn follow(&mut self, link: Option<&Link>, asked_ns: u64) -> bool {
        match self {
            Self::Ebpf(sender) => sender.follow(link, asked_ns),
            Self::Socket(sender) => {
                sender.follow(link, asked_ns);
                true
            }
        }
    }

    /// The port from which probes leave.
    pub fn source_port(&self) -> io::Result<u16> {
        match self {
            Self::Ebpf(sender) => sender.source_port(),
            Self::Socket(sender) => sender.source_port(),
        }
    }

    /// This host's clock at the start.
    pub fn clock(&self) -> ClockState {
        match self {
            Self::Ebpf(sender) => sender.clock(),
            Self::Socket(sender) => sender.clock(),
        }
    }

    /// Sends the probe with this number.
    pub fn send(&mut self, seq: u32) -> Result<(), SendFailure> {
        match self {
            Self::Ebpf(sender) => sender.send(seq),
            Self::Socket(sender) => sender.send(seq),
        }
    }

    /// The fate of a probe without a reply, sent at `sent_ns`.
    pub fn fate(&mut self, seq: u32, sent_ns: u64) -> Fate {
        match self {
            Self::Ebpf(sender) => sender.fate(seq, sent_ns),
            Self::Socket(sender) => sender.fate(seq, sent_ns),
        }
    }

    /// Returns when there may be replies. Cancel safe.
    pub async fn ready(&self) -> io::Result<()> {
        poll_fn(|cx| match self {
            Self::Ebpf(sender) => sender.poll_ready(cx),
            Self::Socket(sender) => sender.poll_ready(cx),
        })
        .await
    }

    /// Takes all replies received so far.
    pub fn take(&mut self) -> Vec<PingAnswer> {
        match self {
            Self::Ebpf(sender) => sender.take(),
            Self::Socket(sender) => sender.take(),
        }
    }

    /// Whether an ICMP error since the last call says that nothing listens at the destination.
    pub fn was_refused(&mut self) -> bool {
        match self {
            Self::Ebpf(sender) => sender.was_refused(),
            Self::Socket(sender) => sender.was_refused(),
        }
    }

    /// Packets so far that arrived where replies are expected, and answer no probe.
    pub fn mismatches(&self) -> Mismatches {
        match self {
            Self::Ebpf(sender) => sender.mismatches(),
            Self::Socket(sender) => sender.mismatches(),
        }
    }
}
