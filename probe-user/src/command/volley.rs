//! `kstamp volley`: probes one path up to a million times a second.

pub mod args;
pub mod config;
pub mod output;
mod report;
pub mod run;
