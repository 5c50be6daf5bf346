//! Stamps by ordinary sockets: the best that can be had without eBPF.

mod in_flight;
mod port;
mod reply;
mod sender;

pub use port::Port;
pub use sender::Sender;
