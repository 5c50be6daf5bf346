//! How stamps are obtained.

pub mod backend;
pub mod compare;
pub mod legacy;
pub mod ping;
pub mod port;
pub mod tap;
pub mod udp;
