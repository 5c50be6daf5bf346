//! Either engine behind one face: the kernel programs with their ring buffer, or sockets alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::{fmt, io};

use probe_common::ntp::ErrorEstimate;
use probe_core::auth::Key;
use probe_core::observation::{Fate, Reply};
use probe_core::reflector::policy::Policy;
use probe_host::clock::ClockState;

use crate::backend::ebpf::plan::ReceiveMode;
use crate::backend::ebpf::{PortConfig, PortError, PortEvent, Ring, reply};
use crate::backend::{ebpf, socket};
use crate::udp::sockets::Sockets;

/// How stamps are obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By kernel programs.
    Ebpf,
    /// By sockets.
    Socket,
}

/// How probes and replies are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// By the receive program.
    Program(ReceiveMode),
    /// By a socket.
    Socket,
}

impl fmt::Display for Receive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(mode) => mode.fmt(f),
            Self::Socket => f.write_str("socket"),
        }
    }
}

/// An interface under measurement.
pub enum Engine {
    /// By kernel programs, which write samples to the ring.
    Ebpf(Box<ebpf::Port>, Box<Ring>),
    /// By sockets.
    Socket(Box<socket::Port>),
}

impl Engine {
    /// Opens the interface. Probes are authenticated if there is a key, which only sockets can do.
    ///
    /// # Errors
    /// One line: what is wrong with the interface, and what to do.
    pub async fn open(config: PortConfig, kind: Kind, key: Option<Key>) -> Result<Self, PortError> {
        match kind {
            Kind::Ebpf => {
                let (port, ring) = ebpf::Port::open(config).await?;
                Ok(Self::Ebpf(Box::new(port), Box::new(ring)))
            }
            Kind::Socket => Ok(Self::Socket(Box::new(socket::Port::open(config, key).await?))),
        }
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ebpf(..) => Kind::Ebpf,
            Self::Socket(_) => Kind::Socket,
        }
    }

    /// How it receives, and why so; `None` while the interface is gone.
    pub fn attachment(&self) -> Option<(Receive, &str)> {
        match self {
            Self::Ebpf(port, _) => {
                let (mode, reason) = port.attachment()?;
                Some((Receive::Program(mode), reason))
            }
            Self::Socket(port) => Some((Receive::Socket, port.reason())),
        }
    }

    /// The interface's addresses in use.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Ebpf(port, _) => port.addresses(),
            Self::Socket(port) => port.addresses(),
        }
    }

    /// Who is answered.
    pub fn policy(&self) -> Policy {
        match self {
            Self::Ebpf(port, _) => port.policy().clone(),
            Self::Socket(port) => port.policy(),
        }
    }

    /// This host's clock, as of the last [`Engine::poll`].
    pub fn clock(&self) -> ClockState {
        match self {
            Self::Ebpf(port, _) => port.clock(),
            Self::Socket(port) => port.clock(),
        }
    }

    /// The error estimate that goes with this host's stamps.
    pub fn error_estimate(&self) -> ErrorEstimate {
        match self {
            Self::Ebpf(port, _) => port.error_estimate(),
            Self::Socket(port) => port.error_estimate(),
        }
    }

    /// The sockets of one IP version; `None` while the interface is gone or the version is not in use.
    pub fn sockets(&self, v6: bool) -> Option<&Sockets> {
        match self {
            Self::Ebpf(port, _) => port.sockets(v6),
            Self::Socket(port) => port.sockets(v6),
        }
    }

    /// Sends one probe.
    ///
    /// # Errors
    /// The socket's, or that the interface is gone.
    pub fn send(&mut self, to: IpAddr, ssid: u16, seq: u32) -> io::Result<()> {
        match self {
            Self::Ebpf(port, _) => port.send(to, ssid, seq),
            Self::Socket(port) => port.send(to, ssid, seq),
        }
    }

    /// What became of a probe that has no reply.
    pub fn fate(&mut self, ssid: u16, seq: u32, peer: IpAddr) -> Fate {
        match self {
            Self::Ebpf(port, _) => port.fate(ssid, seq, peer),
            Self::Socket(port) => port.fate(ssid, seq),
        }
    }

    /// Returns when there may be replies. Cancel safe.
    ///
    /// # Errors
    /// The ring's, or the runtime's.
    pub async fn ready(&self) -> io::Result<()> {
        match self {
            Self::Ebpf(_, ring) => ring.ready().await,
            Self::Socket(port) => port.ready().await,
        }
    }

    /// Takes the replies that are there.
    pub fn drain(&mut self, mut each: impl FnMut(&Reply)) {
        match self {
            Self::Ebpf(port, ring) => {
                let clock = port.clock();
                let own_error_ns = clock.synchronised.then_some(clock.error_ns);
                ring.drain(|sample| each(&reply(sample, own_error_ns)));
            }
            Self::Socket(port) => port.drain(each),
        }
    }

    /// Probes of `source` that a limit has refused, as far as the engine knows.
    pub fn refused(&self, source: IpAddr) -> Option<u64> {
        match self {
            Self::Ebpf(port, _) => port.refused(source).ok(),
            Self::Socket(_) => None,
        }
    }

    /// What was counted, by name.
    ///
    /// # Errors
    /// The programs' map's.
    pub fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, PortError> {
        match self {
            Self::Ebpf(port, _) => port.counters(),
            Self::Socket(port) => Ok(port.counters()),
        }
    }

    /// Looks after the interface: call it twice a second. Says what has changed.
    pub async fn poll(&mut self) -> Vec<PortEvent> {
        match self {
            Self::Ebpf(port, _) => port.poll().await,
            Self::Socket(port) => port.poll().await,
        }
    }
}
