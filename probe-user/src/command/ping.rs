//! `kstamp ping`: probes one reflector; a line for each probe, and a summary.

pub mod args;
pub mod config;
pub mod output;
mod path;
pub mod run;
