//! Errors of opening an interface.

use probe_common::abi::MAX_ADDRESSES;
use probe_host::link::LinkError;
use thiserror::Error;

use crate::backend::error::{AttachError, ObjectError};
use crate::udp::sockets::SocketError;

#[derive(Debug, Error)]
pub enum PortError {
    #[error("no interface named {0} in this network namespace; `ip link` lists those that are there")]
    NoInterface(String),
    #[error("{0} is down; bring it up with `ip link set {0} up`")]
    Down(String),
    #[error("{interface} has no {family} address; add one with `ip address add`, or choose another --family")]
    NoAddress {
        interface: String,
        /// IPv4, IPv6 or IP.
        family: String,
    },
    #[error("kstamp measures at most {MAX_ADDRESSES} addresses on an interface; {interface} has {number}")]
    TooManyAddresses { interface: String, number: usize },
    /// The interface does not support the request.
    #[error("{interface}: {refusal}")]
    Refused { interface: String, refusal: String },
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel programs cannot be loaded or used.
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Attach(#[from] AttachError),
}
