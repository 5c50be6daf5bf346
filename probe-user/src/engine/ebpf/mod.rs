//! Stamps by kernel programs: loading them, attaching them, telling them what to do, and reading what they write.

pub(in crate::engine) mod attach;
mod log;
pub mod object;
pub mod plan;
mod port;
mod programs;
mod ring;
mod samples;
mod settings;
mod watch;

pub use port::{Port, PortConfig, PortError, PortEvent};
pub use ring::Ring;
pub use samples::reply;
