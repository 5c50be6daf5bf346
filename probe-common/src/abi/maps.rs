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

impl ReflectorSessionKey {
    /// The one entry of `SESSION_SLOTS` that may be this session's.
    #[inline(always)]
    pub fn slot(&self) -> u32 {
        place(mixed(self.source.hash() ^ self.destination.hash().rotate_left(16)) ^ self.rest())
    }

    /// The key of two addresses and the word of [`Self::rest`].
    #[inline(always)]
    pub fn new(source: Address, destination: Address, rest: u64) -> Self {
        Self {
            source,
            destination,
            source_port: rest as u16,
            destination_port: (rest >> 16) as u16,
            ssid: (rest >> 32) as u16,
            reserved: (rest >> 48) as u16,
        }
    }

    /// All but the addresses, as one word: ports and session identifier, in memory order as on the wire.
    #[inline(always)]
    pub fn rest(&self) -> u64 {
        u64::from(self.source_port)
            | u64::from(self.destination_port) << 16
            | u64::from(self.ssid) << 32
            | u64::from(self.reserved) << 48
    }

    /// Whether two are the same, word by word: by the derived operator it would be a call.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        self.source.is(&other.source) && self.destination.is(&other.destination) && self.rest() == other.rest()
    }
}

/// Spreads the bits of a word over all others above them (Fibonacci hashing).
#[inline(always)]
fn mixed(word: u64) -> u64 {
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The slot of a hash, of [`SLOTS`].
#[inline(always)]
fn place(hash: u64) -> u32 {
    (mixed(hash) >> (u64::BITS - SLOTS.ilog2())) as u32
}

impl Address {
    #[inline(always)]
    fn hash(&self) -> u64 {
        let [first, last] = self.words();
        first ^ last.rotate_left(32)
    }

    /// The one entry of `SOURCE_SLOTS` that may be this source's.
    #[inline(always)]
    pub fn slot(&self) -> u32 {
        place(self.hash())
    }

    /// Whether two are the same, word by word: by the derived operator it would be a call.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let ([a, b], [c, d]) = (self.words(), other.words());
        (a ^ c) | (b ^ d) == 0
    }
}

/// Entries of `SOURCE_SLOTS` and of `SESSION_SLOTS`, a power of two. A source or session whose slot another one has is in an LRU
/// map instead.
pub const SLOTS: u32 = 16_384;

/// A slot goes to another owner if the one that it has was not seen for this time.
pub const SLOT_IDLE_NS: u64 = 60_000_000_000;

/// Entry of `SESSION_SLOTS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSlot {
    /// In the high half the number of the owner among those that the slot has had, 0 while there is none; in the low half
    /// [`ReflectorSession::replies`]. Modified atomically.
    pub count: u64,
    pub key: ReflectorSessionKey,
    /// When the owner was last answered, `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    pub reserved: u64,
}

impl SessionSlot {
    /// [`Self::count`] of a slot without an owner so far.
    pub const FREE: u64 = 0;
    /// [`Self::count`] while a CPU gives the slot to a session.
    pub const CHANGES: u64 = 1;
    /// The unit of the owner's number in [`Self::count`].
    pub const OWNER: u64 = 1 << 32;

    /// The replies to `session`, if the slot is its own.
    pub fn of(&self, session: &ReflectorSessionKey) -> Option<ReflectorSession> {
        let is_owned = self.count >= Self::OWNER;
        let replies = self.count % Self::OWNER;
        (is_owned && self.key == *session).then_some(ReflectorSession { replies })
    }
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

/// What a source is charged for: an index of [`SourceState::earned_ns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge(pub u32);

impl Charge {
    /// A reply to a unicast probe.
    pub const UNICAST: Self = Self(0);
    /// A reply to a group probe.
    pub const GROUP: Self = Self(1);
    /// Waking up a process. It has a debt of its own, so that a source above its rate can still request the identity.
    pub const USERSPACE: Self = Self(2);
}

/// Value of `SOURCES`, by source address: the debts of a sender that may be answered, see [`super::Limit`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceState {
    /// By [`Charge`]: its debt, as the time at which it will have been earned, `CLOCK_MONOTONIC`. Modified atomically.
    pub earned_ns: [u64; 3],
    /// Probes that a limit has refused. Modified atomically.
    pub refused: u64,
    /// [`Allowed::own`] of its prefix, if that is of its scope.
    pub own: Address,
    /// [`super::Settings::policy_generation`] at which it was found to be allowed.
    pub generation: u32,
    pub reserved: u32,
}

/// Entry of `SOURCE_SLOTS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceSlot {
    /// [`Self::FREE`], [`Self::CHANGES`], or the number of the owner among those that the slot has had. Modified atomically.
    pub owner: u64,
    pub source: Address,
    /// When the owner was last seen, `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    pub state: SourceState,
}

impl SourceSlot {
    /// [`Self::owner`] of a slot without an owner so far.
    pub const FREE: u64 = 0;
    /// [`Self::owner`] while a CPU gives the slot to a source.
    pub const CHANGES: u64 = u64::MAX;

    /// The state of `source`, if it has the slot.
    pub fn of(&self, source: &Address) -> Option<SourceState> {
        let is_owned = self.owner != Self::FREE && self.owner != Self::CHANGES;
        (is_owned && self.source == *source).then_some(self.state)
    }
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
/// Sessions without a slot that a reflector counts at once; beyond, the least recently used one is evicted and starts again at
/// zero.
pub const MAX_REFLECTOR_SESSIONS: u32 = 16_384;
/// Senders without a slot whose debts the reflector knows; beyond, the least recently seen one is evicted and starts again
/// without.
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
