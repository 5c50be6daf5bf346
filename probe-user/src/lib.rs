//! kstamp's userspace, outermost layer last: the core concludes, the host tells facts, the engine obtains stamps, the
//! output reports, the commands wire them together.

pub mod command;
pub mod controller;
pub mod core;
pub mod engine;
pub mod host;
pub mod identity;
pub mod openflow;
pub mod output;
