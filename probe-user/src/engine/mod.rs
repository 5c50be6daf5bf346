//! How stamps are obtained.

pub mod any;
pub mod compare;
pub mod ebpf;
pub mod echo;
pub mod ping;
pub mod socket;
pub mod sockets;
pub mod timer;
