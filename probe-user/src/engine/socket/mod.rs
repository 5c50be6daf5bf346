//! Stamps by ordinary sockets: the best that can be had without eBPF.

pub mod stamped;
