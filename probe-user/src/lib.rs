//! The `kstamp` command: subcommands, results, and the reference pages about both.

pub mod command;
pub mod config;
pub mod otlp;
pub mod output;
pub mod reference;
pub mod serve;
mod service;
mod web;

pub use service::inherit_descriptors;
