//! `kstamp agent`: discover, probe, reflect, report.

pub mod args;
pub mod config;
mod legacy;
pub mod run;
mod site;
