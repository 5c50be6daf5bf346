//! `kstamp hub`: coordinates a fleet of agents, takes their results and shows them; enrols hosts.

mod alert_events;
pub mod args;
pub mod config;
pub mod enroll;
pub mod export;
pub mod output;
pub mod run;
pub mod site;
pub mod status;
