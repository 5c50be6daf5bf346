//! Keys, values and sizes of the maps, and the ring buffer's records.

use super::Address;

/// Value of `DESTINATIONS`: the address is one of this interface.
pub const DESTINATION_OWN: u32 = 1;
/// Value of `DESTINATIONS`: the address is a group that this agent has joined.
pub const DESTINATION_GROUP: u32 = 2;

/// Key of `IN_FLIGHT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightKey {
    /// Sequence number of the probe.
    pub seq: u32,
    /// Its session identifier.
    pub ssid: u16,
    /// Zero.
    pub reserved: u16,
}

/// Value of `IN_FLIGHT`: what the egress program remembers of a probe.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// T1, `CLOCK_MONOTONIC`.
    pub t1_mono_ns: u64,
    /// T1 as the packet carries it, NTP format.
    pub t1_wire: u64,
    /// Where it was sent.
    pub destination: Address,
}

/// Key of `REFLECTOR_SESSIONS` (RFC 8762 §4.3: addresses, ports, and the SSID of RFC 8972 §3).
///
/// The destination port is the test port of the one interface that a map serves, so it is not repeated here.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorSessionKey {
    /// The sender's address.
    pub source: Address,
    /// The address that the sender probes, own or group.
    pub destination: Address,
    /// The sender's port, as on the wire.
    pub source_port: u16,
    /// Session identifier, as on the wire.
    pub ssid: u16,
    /// Zero.
    pub reserved: u32,
}

/// Value of `REFLECTOR_SESSIONS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorSession {
    /// Replies so far; the low 32 bits are the sequence number of the next one. Modified atomically.
    pub replies: u64,
}

/// Value of `ALLOWED`: the prefix is one of IPv4, mapped into IPv6.
pub const ALLOWED_V4: u32 = 4;
/// Value of `ALLOWED`: the prefix is one of IPv6.
pub const ALLOWED_V6: u32 = 6;

/// Value of `SOURCES`, by source address: what a sender that may be answered has used up.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceState {
    /// When all that it was answered by unicast will have been earned, UTC. Modified atomically.
    pub unicast_earned_ns: u64,
    /// The same for its probes to a group.
    pub group_earned_ns: u64,
    /// The same for what was passed up to userspace: apart, so that a source whose probes are too many can still ask.
    pub passed_up_earned_ns: u64,
    /// Probes of its that a limit has refused. Modified atomically.
    pub refused: u64,
    /// [`super::Settings::policy_generation`] of when it was found to be allowed.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
}

/// Key of `MISSED`: a reply that was accepted, but for which the ring buffer had no room. The value is T4,
/// `CLOCK_MONOTONIC`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedKey {
    /// Who replied.
    pub source: Address,
    /// To which probe.
    pub probe: InFlightKey,
}

/// Probed hosts of which `SESSIONS_BY_PEER` knows the session.
pub const MAX_PEER_SESSIONS: u32 = 1 << 12;

/// One accepted reply; the only kind of record in `SAMPLES`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// T1, `CLOCK_MONOTONIC`.
    pub t1_mono_ns: u64,
    /// T4, `CLOCK_MONOTONIC`.
    pub t4_mono_ns: u64,
    /// T1 as the probe carried it, NTP format.
    pub t1_wire: u64,
    /// T2 as the reflector wrote it, in the format that `reflector_error` says.
    pub t2_wire: u64,
    /// T3 as the reflector wrote it, in the format that `reflector_error` says.
    pub t3_wire: u64,
    /// T4, UTC since 1970.
    pub t4_unix_ns: u64,
    /// Who replied.
    pub source: Address,
    /// Sequence number of the probe.
    pub seq: u32,
    /// Sequence number of the reply.
    pub reflector_seq: u32,
    /// Session identifier.
    pub ssid: u16,
    /// The reflector's error estimate.
    pub reflector_error: u16,
    /// Zero.
    pub reserved: u32,
}

/// Size of `SAMPLES`.
pub const SAMPLES_BYTES: u32 = 4 << 20;
/// Probes that can be waiting for replies at once, in all sessions together.
pub const MAX_IN_FLIGHT: u32 = 1 << 16;
/// Sessions that a reflector counts at once; beyond, the least recently used one starts again at zero.
pub const MAX_REFLECTOR_SESSIONS: u32 = 1 << 14;
/// Senders of which the reflector knows what they have used up; beyond, the least recently seen one starts anew.
pub const MAX_SOURCES: u32 = 1 << 14;
/// Prefixes whose sources are answered.
pub const MAX_ALLOWED: u32 = 1 << 12;
/// Own and group addresses.
pub const MAX_DESTINATIONS: u32 = 256;
/// Replies remembered while the ring buffer is full.
pub const MAX_MISSED: u32 = 1 << 14;
