//! `kstamp report`.

pub mod args;
pub mod config;
mod draft;
mod read;
pub mod run;
