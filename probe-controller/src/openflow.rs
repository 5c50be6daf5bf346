//! OpenFlow 1.3, southbound: the codec, LLDP, and the server that switches connect to.
//!
//! The codec (`message`, `flow`, `port`, `frame`) and `lldp` are sans-I/O. The server (`server`) does I/O on a thread of
//! its own, and is reached by channels only.
//!
//! Source of all layouts: OpenFlow Switch Specification 1.3.5 (ONF TS-023), IEEE 802.1AB-2016 for LLDP.

pub mod cookie;
pub mod flow;
pub mod frame;
pub mod id;
pub mod lldp;
pub mod message;
pub mod port;
pub mod server;
mod wire;

pub use crate::openflow::wire::DecodeError;
