//! `kstamp top`: peers, their delays and losses, live on a terminal.

pub mod args;
pub mod config;
mod keys;
mod model;
pub mod run;
pub mod screen;
mod source;
mod summary;
mod view;
