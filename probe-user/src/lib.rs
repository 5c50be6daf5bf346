//! kstamp's userspace.
pub mod core;
