//! Volleys, trains and datagrams: the rules of the programs, and whole runs between namespaces.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod line;
mod run;
