//! How stamps are obtained: one measured interface over kernel programs or sockets; ping, compare and taps.

pub mod backend;
mod clock;
pub mod compare;
pub mod hops;
pub mod legacy;
pub mod ping;
pub mod port;
pub mod tap;
pub mod udp;
pub mod volley;
