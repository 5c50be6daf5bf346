//! Keys, values and sizes of the maps, and the ring buffer's records.

use crate::abi::address::Address;

/// Value of `DESTINATIONS`: the address is one of this interface.
pub const DESTINATION_OWN: u32 = 1;
/// Value of `DESTINATIONS`: the address is a group that this agent has joined.
pub const DESTINATION_GROUP: u32 = 2;

/// A probe of this host, as a part of map keys.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeKey {
    pub seq: u32,
    pub ssid: u16,
    pub reserved: u16,
}

/// Value of `SESSION_RINGS`, by session identifier: where the records of the session begin in `IN_FLIGHT`. One word, so that
/// no program reads half of a change.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRing(u64);

impl SessionRing {
    /// The session has no ring, and its probes are not stamped.
    pub const NONE: Self = Self(0);

    /// The ring whose records begin at `base`. `generation` must not be 0, nor the generation of any record there.
    pub const fn new(base: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | base as u64)
    }

    #[inline(always)]
    pub const fn base(self) -> u32 {
        self.0 as u32
    }

    /// The index of a probe's record, and its [`InFlightRecord::id`]; `None` for a session without a ring.
    #[inline(always)]
    pub fn record(self, seq: u32, mask: u32) -> Option<(u32, u64)> {
        let generation = self.0 & !u64::from(u32::MAX);
        let index = self.base().wrapping_add(seq & mask);
        (generation != 0).then_some((index, generation | u64::from(seq)))
    }
}

/// An entry of `IN_FLIGHT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightRecord {
    /// The generation of the session's ring, and the sequence number: see [`SessionRing::record`]. 0 while the rest is
    /// written.
    pub id: u64,
    pub sent: InFlight,
}

impl InFlightRecord {
    /// Whether the probe `id` of this place counts as one that has left: this is its record, or the record of a later probe
    /// of its session.
    pub fn has_left(&self, id: u64) -> bool {
        let later = (self.id as u32).wrapping_sub(id as u32) as i32;
        self.id >> 32 == id >> 32 && later >= 0
    }
}

/// A probe that the egress program has stamped.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// T1, `CLOCK_MONOTONIC`.
    pub t1_mono_ns: u64,
    /// T1 as the packet carries it, NTP format.
    pub t1_wire: u64,
    pub destination: Address,
    /// Replies that were passed on. CPUs that count at once may lose some.
    pub replies: u32,
    pub reserved: u32,
}

impl InFlight {
    /// Whether a reply from `source` that returns `sender_timestamp` as T1 answers this probe: a probe to a group may be
    /// answered by anyone, one to a host by that host alone.
    #[inline(always)]
    pub fn is_answered_by(&self, source: &Address, sender_timestamp: u64) -> bool {
        self.t1_wire == sender_timestamp && (self.destination == *source || self.destination.is_multicast())
    }

    /// Whether further replies are passed on, of each source as many as [`MAX_REPLIES`]: to a group probe, other hosts may
    /// still answer.
    #[inline(always)]
    pub fn has_room_for_others(&self) -> bool {
        self.destination.is_multicast() && self.replies < MAX_GROUP_REPLIES
    }
}

/// Key of `REFLECTOR_SESSIONS` (RFC 8762 §4.3: addresses, ports, and the SSID of RFC 8972 §3).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorSessionKey {
    /// The sender's address.
    pub source: Address,
    /// The address that the sender probes, own or group.
    pub destination: Address,
    /// The sender's port, as on the wire.
    pub source_port: u16,
    /// The test port, as on the wire.
    pub destination_port: u16,
    /// Session identifier, as on the wire; 0 for none.
    pub ssid: u16,
    pub reserved: u16,
}

/// Value of `REFLECTOR_SESSIONS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorSession {
    /// Replies so far; the low 32 bits are the sequence number of the next one. Modified atomically.
    pub replies: u64,
}

/// Value of `ALLOWED`: how the sources in a prefix are treated, unless a longer one contains them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Their group probes are answered from this address; [`Address::NONE`]: they are not answered.
    pub own: Address,
    /// [`ALLOWED_V4`], [`ALLOWED_V6`] or [`ALLOWED_NOBODY`].
    pub kind: u32,
    pub reserved: u32,
}

/// The sources in an IPv4 prefix, mapped into IPv6, are answered.
pub const ALLOWED_V4: u32 = 4;
/// The sources in an IPv6 prefix are answered.
pub const ALLOWED_V6: u32 = 6;
/// The network or broadcast address of an own prefix is not answered.
pub const ALLOWED_NOBODY: u32 = 0;

/// Value of `SOURCES`, by source address: the debts of a sender that may be answered, see [`super::Limit`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceState {
    /// Debt for its unicast probes, as the time at which it will have been earned, `CLOCK_MONOTONIC`. Modified
    /// atomically.
    pub unicast_earned_ns: u64,
    /// The same for its group probes.
    pub group_earned_ns: u64,
    /// The same for packets passed up to userspace: separate, so that a source above its rate can still request the
    /// identity.
    pub passed_up_earned_ns: u64,
    /// Probes that a limit has refused. Modified atomically.
    pub refused: u64,
    /// [`Allowed::own`] of its prefix, if that is of its scope.
    pub own: Address,
    /// [`super::Settings::policy_generation`] at which it was found to be allowed.
    pub generation: u32,
    pub reserved: u32,
}

/// Key of `MISSED`: a reply that was accepted, but for which the ring buffer had no room. The value is T4,
/// `CLOCK_MONOTONIC`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedKey {
    /// Source address of the reply.
    pub source: Address,
    pub probe: ProbeKey,
}

/// Entries of `SESSIONS_BY_PEER` at least: userspace makes room for all its sessions.
pub const MIN_PEER_SESSIONS: u32 = 4_096;

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
    /// T2 as the reflector wrote it, in the format given by `reflector_error`.
    pub t2_wire: u64,
    /// T3, likewise.
    pub t3_wire: u64,
    /// T4, UTC since 1970.
    pub t4_unix_ns: u64,
    /// Source address of the reply.
    pub source: Address,
    /// Sequence number of the probe.
    pub seq: u32,
    /// Sequence number of the reply.
    pub reflector_seq: u32,
    pub ssid: u16,
    /// The reflector's error estimate.
    pub reflector_error: u16,
    pub reserved: u32,
}

/// Size of the ring buffer `SAMPLES`.
pub const SAMPLES_BYTES: u32 = 4_194_304;
/// Probes that can be waiting for replies at once, in all sessions together.
pub const MAX_IN_FLIGHT: u32 = 65_536;
/// Entries of `IN_FLIGHT` at most: 6 MiB. Twice [`MAX_IN_FLIGHT`], because the length of a ring is rounded up to a power of
/// two.
pub const MAX_RECORDS: u32 = 2 * MAX_IN_FLIGHT;
/// Entries of `SESSION_RINGS`, one for each session identifier: 512 KiB.
pub const SESSION_IDS: u32 = 65_536;
/// Sessions that a reflector counts at once; beyond, the least recently used one is evicted and starts again at zero.
pub const MAX_REFLECTOR_SESSIONS: u32 = 16_384;
/// Senders whose debts the reflector knows; beyond, the least recently seen one is evicted and starts again without.
pub const MAX_SOURCES: u32 = 16_384;
/// Addresses of an interface.
pub const MAX_ADDRESSES: u32 = 8_190;
/// Own addresses, and one group of each IP version.
pub const MAX_DESTINATIONS: u32 = MAX_ADDRESSES + 2;
/// Prefixes that the user adds.
pub const MAX_ADDED_PREFIXES: u32 = 4_096;
/// Entries of `ALLOWED`: for each own address a prefix and its network and broadcast address, and the user's prefixes.
pub const MAX_ALLOWED: u32 = 3 * MAX_ADDRESSES + MAX_ADDED_PREFIXES;
/// Replies to one unicast probe that are passed on, duplicates included; to a group probe, those of each source.
pub const MAX_REPLIES: u32 = 16;
/// Replies to one group probe that are passed on.
pub const MAX_GROUP_REPLIES: u32 = 4_096;
/// Sources whose replies to a group probe are counted, once it has more than [`MAX_REPLIES`].
pub const MAX_REPLIERS: u32 = 4_096;
/// Ports on which a reflector listens.
pub const MAX_TEST_PORTS: usize = 4;
/// Replies remembered while the ring buffer is full.
pub const MAX_MISSED: u32 = 16_384;
