//! The server of switches against simulated, hostile and real switches, over loopback and in namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../../probe-hub/tests/support/address.rs"]
mod address;
#[path = "../support/mod.rs"]
mod support;

mod binary;
mod controller;
mod harness;
mod hostile;
mod many;
mod mutations;
mod ovs;
mod sim;
mod steering;
mod stream;
mod tls;
mod web;
