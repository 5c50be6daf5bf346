//! How stamps are obtained.

pub mod ebpf;
pub mod sockets;
pub mod timer;
