//! The sign that an agent is alive: a Protocol Buffers message that is not kept.

/// Time between two heartbeats of an agent.
pub const INTERVAL_NS: u64 = 5_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Heartbeat {
    /// As in the presence.
    #[prost(fixed64, tag = "1")]
    pub boot: u64,
    /// `CLOCK_REALTIME` when it was sent.
    #[prost(fixed64, tag = "2")]
    pub sent_ns: u64,
    /// Of the assignment that is in force; 0 for none.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// Peers that are probed, of which `up` answer.
    #[prost(uint32, tag = "4")]
    pub peers: u32,
    #[prost(uint32, tag = "5")]
    pub up: u32,
    /// Batches and events that wait on disk.
    #[prost(uint64, tag = "6")]
    pub waiting: u64,
    /// Batches and events that were dropped since the start, because there was no room for them.
    #[prost(uint64, tag = "7")]
    pub dropped: u64,
}
