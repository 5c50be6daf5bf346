//! `kstamp compare`: measures one path by three methods; `kstamp calibrate`: measures the noise floor.

pub mod args;
pub mod calibrate;
pub mod config;
pub mod output;
mod phase;
mod report;
pub mod run;
