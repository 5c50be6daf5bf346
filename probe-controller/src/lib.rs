//! The OpenFlow controller: codec, server, link delay, topology, forwarding.

pub mod forwarding;
pub mod link_delay;
pub mod openflow;
pub mod topology;
