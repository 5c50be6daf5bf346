//! What kstamp concludes from stamps: sessions, windows, loss, discovery. No socket, no clock, no aya, no tokio:
//! `now_ns` is always a parameter, in nanoseconds of `CLOCK_MONOTONIC`.

pub mod observation;
pub mod report;
