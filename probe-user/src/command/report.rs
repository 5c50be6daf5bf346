//! `kstamp report`.

pub mod args;
pub mod config;
mod read;
pub mod run;
