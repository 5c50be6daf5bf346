//! The fleet: measured ports that find each other beyond one multicast domain, and deliver their results, through NATS.
//!
//! Agents publish what they are ([`message::presence`]) and get whom to probe ([`message::assignment`]). Hubs decide that, and
//! take windows ([`message::windows`]) and events ([`message::event`]). All subjects, buckets and streams are in [`subjects`].

pub mod agent;
pub mod connection;
pub mod credentials;
pub mod enrol;
pub mod hub;
pub mod message;
pub mod name;
pub mod roots;
pub mod server;
pub mod spread;
pub mod subjects;

// As the integration tests call it, which share this file.
#[cfg(test)]
extern crate self as probe_hub;
#[cfg(test)]
#[path = "../tests/support/nats.rs"]
mod test_nats;
