//! `kstamp agent`: discover, probe, reflect, report.

pub mod args;
pub mod config;
mod floor;
mod follow;
mod legacy;
pub mod run;
pub mod site;
