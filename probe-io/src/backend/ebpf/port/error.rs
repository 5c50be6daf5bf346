//! Why an interface cannot be used.

use std::io;

use probe_host::link::LinkError;
use thiserror::Error;

use crate::backend::ebpf::attach::AttachError;
use crate::backend::ebpf::object::ObjectError;
use crate::udp::sockets::SocketError;

/// The interface cannot be used.
#[derive(Debug, Error)]
pub enum PortError {
    /// There is none of this name.
    #[error("no interface named {0} in this network namespace; `ip link` lists those that are there")]
    NoInterface(String),
    /// It is down.
    #[error("{0} is down; bring it up with `ip link set {0} up`")]
    Down(String),
    /// It has no address that could be probed from.
    #[error("{interface} has no {family} address; add one with `ip address add`, or choose another --family")]
    NoAddress {
        /// Which interface.
        interface: String,
        /// IPv4 or IPv6.
        family: &'static str,
    },
    /// What the user asked for cannot be had.
    #[error("{interface}: {refusal}")]
    Refused {
        /// Which interface.
        interface: String,
        /// What stands in the way, and what to do.
        refusal: String,
    },
    /// The kernel would not tell.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A socket could not be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The programs could not be loaded, or their maps not be used.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The programs could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The ring buffer could not be watched.
    #[error("cannot watch the ring buffer: {0}")]
    Ring(io::Error),
    /// What the programs log could not be read.
    #[error("cannot read what the programs log: {0}")]
    Log(io::Error),
}
