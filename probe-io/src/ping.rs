//! Probes to a single reflector: by kernel programs on the interface that leads to it, or by a socket.

pub mod answer;
pub mod packet;

use std::io;

use probe_common::ntp::NtpTime;
use probe_core::observation::Fate;
use probe_host::clock::ClockState;

use crate::backend::ebpf::{PortError, Ring, error_estimate, reply};
use crate::backend::{ebpf, socket};
use crate::ping::answer::Answer;
use crate::ping::packet::PacketPlan;
use crate::port::Kind;
use crate::udp::sockets::{SocketError, Target};

/// Whoever sends probes to one destination.
pub enum Pinger {
    /// By kernel programs.
    Ebpf {
        /// The programs and their socket.
        sender: Box<ebpf::Sender>,
        /// What they collect.
        ring: Box<Ring>,
        /// What each probe contains.
        plan: Box<PacketPlan>,
    },
    /// By a socket.
    Socket(Box<socket::Sender>),
}

impl Pinger {
    /// With kernel stamps, on the interface that leads to `to`.
    ///
    /// # Errors
    /// One line: what is wrong with the interface, and what to do.
    pub async fn by_programs(interface: &str, target: Target, plan: PacketPlan) -> Result<Self, PortError> {
        let (sender, ring) = ebpf::Sender::open(interface, target, plan.ssid, plan.len()).await?;
        Ok(Self::Ebpf {
            sender: Box::new(sender),
            ring: Box::new(ring),
            plan: Box::new(plan),
        })
    }

    /// With a socket's stamps.
    ///
    /// # Errors
    /// What could not be done.
    pub fn by_socket(target: Target, plan: PacketPlan) -> Result<Self, SocketError> {
        Ok(Self::Socket(Box::new(socket::Sender::open(target, plan)?)))
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ebpf { .. } => Kind::Ebpf,
            Self::Socket(_) => Kind::Socket,
        }
    }

    /// This host's clock.
    pub fn clock(&self) -> ClockState {
        match self {
            Self::Ebpf { sender, .. } => sender.clock(),
            Self::Socket(sender) => sender.clock(),
        }
    }

    /// Sends the probe with this number.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, seq: u32) -> io::Result<()> {
        match self {
            Self::Ebpf { sender, plan, .. } => {
                // T1 is for the egress program to write.
                let probe = plan.build(seq, NtpTime(0), error_estimate(&sender.clock()));
                sender.send(&probe)
            }
            Self::Socket(sender) => sender.send(seq),
        }
    }

    /// What became of a probe that has no reply.
    pub fn fate(&mut self, seq: u32) -> Fate {
        match self {
            Self::Ebpf { sender, plan, .. } => sender.fate(plan.ssid, seq),
            Self::Socket(sender) => sender.fate(seq),
        }
    }

    /// Returns when there may be replies. Cancel safe.
    ///
    /// # Errors
    /// The ring's, or the runtime's.
    pub async fn ready(&self) -> io::Result<()> {
        match self {
            Self::Ebpf { ring, .. } => ring.ready().await,
            Self::Socket(sender) => sender.ready().await,
        }
    }

    /// The replies that are there.
    pub fn take(&mut self) -> Vec<Answer> {
        match self {
            Self::Ebpf { sender, ring, .. } => {
                let clock = sender.clock();
                let own_error_ns = clock.synchronised.then_some(clock.error_ns);
                let mut answers = Vec::new();
                ring.drain(|sample| {
                    answers.push(Answer {
                        reply: reply(sample, own_error_ns),
                        packet: None,
                    });
                });
                answers
            }
            Self::Socket(sender) => sender.take(),
        }
    }

    /// Whether the far host has said, since this was last asked, that nobody listens there.
    pub fn was_refused(&self) -> bool {
        match self {
            Self::Ebpf { sender, .. } => sender.was_refused(),
            Self::Socket(sender) => sender.was_refused(),
        }
    }

    /// Replies that answer no probe, or are not signed as they must be; known of sockets only.
    pub fn unmatched(&self) -> Option<u64> {
        match self {
            Self::Ebpf { .. } => None,
            Self::Socket(sender) => Some(sender.unmatched()),
        }
    }
}
