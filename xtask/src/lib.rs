//! Set-up, lab, tests and benches of kstamp.
//!
//! A library, so that tests can build the lab ([`lab::Lab`]), and a thin binary (`cargo xtask`).

pub mod bench;
pub mod check;
pub mod cli;
pub mod docs;
pub mod exec;
pub mod forward;
pub mod fuzz;
pub mod lab;
pub mod mutants;
pub mod privilege;
pub mod relay;
pub mod run;
pub mod setup;
pub mod signals;
pub mod vm;
pub mod workspace;
