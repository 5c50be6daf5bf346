//! How stamps are obtained.

pub mod compare;
pub mod ebpf;
pub mod socket;
pub mod sockets;
pub mod timer;
