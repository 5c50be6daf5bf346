//! Decisions without I/O. No socket, no clock, no async: `now_ns` is always a parameter, in nanoseconds of
//! `CLOCK_MONOTONIC`.

pub mod agent;
pub mod attach;
pub mod auth;
pub mod clock;
pub mod compare;
pub mod identity;
pub mod legacy;
pub mod observation;
pub mod reflector;
pub mod schedule;
pub mod session;
pub mod stats;
