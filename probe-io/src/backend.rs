//! Two ways to stamp: kernel programs, and sockets.

pub mod ebpf;
pub mod socket;
