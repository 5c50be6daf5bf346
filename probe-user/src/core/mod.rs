//! What kstamp concludes from stamps: sessions, windows, loss, discovery. No socket, no clock, no aya, no tokio:
//! `now_ns` is always a parameter, in nanoseconds of `CLOCK_MONOTONIC`.

pub mod agent;
pub mod compare;
mod direction;
pub mod distribution;
pub mod event;
mod history;
pub mod observation;
mod peers;
pub mod report;
mod schedule;
pub mod sequence;
pub mod session;
mod window;
