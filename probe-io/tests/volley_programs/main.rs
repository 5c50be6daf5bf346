//! Volleys, trains and datagrams: the rules of the programs, and whole runs between namespaces.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod accounting;
mod injector;
#[allow(dead_code, reason = "the bench uses the rest")]
mod line;
#[allow(dead_code, reason = "the tests of the other programs use the rest")]
#[path = "../programs/packet.rs"]
mod packet;
mod programs;
mod refusal;
mod run;
mod safety;
mod trouble;
