//! Decisions without I/O: no socket, no clock, no async. `now_ns` is always a parameter, in nanoseconds of
//! `CLOCK_MONOTONIC`.
//!
//! A probe goes through [`schedule`], [`agent`] and [`session`] into a window. A reply goes as an
//! [`observation::Reply`] through [`agent`] and [`session`] into the same window, which becomes a
//! [`stats::report::Report`].

pub mod agent;
pub mod attach;
pub mod auth;
pub mod clock;
pub mod compare;
pub mod direction;
pub mod engine;
pub mod hops;
pub mod identity;
pub mod legacy;
pub mod lru;
pub mod mismatch;
pub mod observation;
pub mod reflector;
pub mod rings;
pub mod schedule;
pub mod session;
pub mod stats;
pub mod text;
pub mod volley;

/// How many cases a costly test tries: as many as `PROPTEST_CASES` says, which `cargo xtask test` sets, or `quick`.
#[cfg(test)]
fn cases(quick: u32) -> u32 {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    wanted.and_then(|cases| cases.parse().ok()).unwrap_or(quick)
}
