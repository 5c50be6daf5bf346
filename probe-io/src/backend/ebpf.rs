//! Stamps by kernel programs: loading them, attaching them, telling them what to do, and reading what they write.

pub(crate) mod attach;
mod clsact;
mod log;
pub mod object;
pub mod plan;
mod port;
mod programs;
mod ring;
mod samples;
mod settings;
mod watch;

pub(crate) use port::clock_state;
pub use port::{Answering, Port, PortConfig, PortError, PortEvent, Sender};
pub use ring::Ring;
pub use samples::reply;
pub use settings::error_estimate;
