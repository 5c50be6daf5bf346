//! `kstamp agent`: discover, probe, reflect, report.

pub mod args;
mod cold;
pub mod config;
pub mod fleet;
mod floor;
mod follow;
mod legacy;
pub mod run;
pub mod site;
