//! What kstamp concludes from stamps: sessions, windows, loss, discovery. No socket, no clock, no aya, no tokio:
//! `now_ns` is always a parameter, in nanoseconds of `CLOCK_MONOTONIC`.

pub mod agent;
pub mod clock_fit;
pub mod compare;
mod direction;
pub mod distribution;
pub mod echo;
pub mod event;
mod history;
pub mod link_delay;
pub mod observation;
mod patterns;
mod peers;
pub mod policy;
pub mod report;
mod schedule;
pub mod sequence;
pub mod session;
pub mod topology;
mod window;
