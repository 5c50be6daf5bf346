//! Formats that kstamp's kernel programs and userspace share, and pure functions that both run.
//!
//! Everything here is `no_std`, does no I/O and reads no clock, so the very code that runs in the kernel is tested on
//! the host.

#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod authenticated;
mod bytes;
pub mod checksum;
pub mod compare;
pub mod family;
pub mod frame;
pub mod hops;
pub mod legacy;
pub mod ntp;
pub mod reflect;
pub mod stamp;
pub mod tap;
pub mod tlv;
pub mod upcalls;
pub mod volley;
