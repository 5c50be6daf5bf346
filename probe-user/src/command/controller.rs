//! `kstamp controller`: listens for switches, measures links, routes by delay, reports.

pub mod args;
pub mod config;
pub mod output;
mod report;
pub mod run;
mod site;
mod update;
