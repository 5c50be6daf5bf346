//! `kstamp path`: where round trips to one peer spend their time, measured by hand.

pub mod args;
pub mod config;
mod forwarding;
pub mod output;
pub mod run;
