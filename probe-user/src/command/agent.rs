//! `kstamp agent`: discover, probe, reflect, report.

pub mod args;
pub mod config;
pub mod fleet;
mod floor;
mod follow;
mod legacy;
mod ovs;
pub mod run;
pub mod site;
