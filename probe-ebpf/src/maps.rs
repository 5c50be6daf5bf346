//! The maps, shared by all programs of one interface, and the counting of outcomes.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use probe_common::abi::{
    Address, Allowed, COUNTERS, Counter, InFlightRecord, MAX_ALLOWED, MAX_DESTINATIONS, MAX_MISSED, MAX_RECORDS,
    MAX_REFLECTOR_SESSIONS, MAX_REPLIERS, MAX_SOURCES, MIN_PEER_SESSIONS, MissedKey, ReflectorSession,
    ReflectorSessionKey, SAMPLES_BYTES, SESSION_IDS, SLOTS, SessionRing, SessionSlot, Settings, SourceSlot,
    SourceState,
};
use probe_common::reflect::V6_FRAME;

/// Bytes of a payload that are summed at once: the most that `bpf_csum_diff` takes before Linux 6.13.
pub const CHUNK_LEN: usize = 512;

/// Written by the loader; one entry.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Addresses to which probes may come, with `DESTINATION_OWN` or `DESTINATION_GROUP`.
#[map]
pub static DESTINATIONS: HashMap<Address, u32> = HashMap::with_max_entries(MAX_DESTINATIONS, 0);

/// Prefixes whose sources are answered, and the addresses within them that are not. Each entry is of one IP version.
/// The key's words are an [`Address`].
#[map]
pub static ALLOWED: LpmTrie<[u64; 2], Allowed> = LpmTrie::with_max_entries(MAX_ALLOWED, 0);

/// Senders, each at the place of its address, so that no hash table is searched.
#[map]
pub static SOURCE_SLOTS: Array<SourceSlot> = Array::with_max_entries(SLOTS, 0);

/// The debts of senders whose slot another one has.
#[map]
pub static SOURCES: LruHashMap<Address, SourceState> = LruHashMap::with_max_entries(MAX_SOURCES, 0);

/// The debt of the port, as the time at which it will have been earned, `CLOCK_MONOTONIC`; one entry.
#[map]
pub static PORT_EARNED: Array<u64> = Array::with_max_entries(1, 0);

/// Packets that each CPU has charged to the port and not yet answered.
#[map]
pub static PORT_SHARE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Probes that have left and may be answered: a ring of records for each session. The loader sets the size.
#[map]
pub static IN_FLIGHT: Array<InFlightRecord> = Array::with_max_entries(MAX_RECORDS, 0);

/// The ring of each session identifier, written by the loader.
#[map]
pub static SESSION_RINGS: Array<SessionRing> = Array::with_max_entries(SESSION_IDS, 0);

/// The reflector's reply counters, each at the place of its session's key.
#[map]
pub static SESSION_SLOTS: Array<SessionSlot> = Array::with_max_entries(SLOTS, 0);

/// The reply counters of sessions whose slot another one has.
#[map]
pub static REFLECTOR_SESSIONS: LruHashMap<ReflectorSessionKey, ReflectorSession> =
    LruHashMap::with_max_entries(MAX_REFLECTOR_SESSIONS, 0);

/// The session of each host that is probed at its own address: for reflectors that do not return its identifier.
#[map]
pub static SESSIONS_BY_PEER: LruHashMap<Address, u32> = LruHashMap::with_max_entries(MIN_PEER_SESSIONS, 0);

/// Accepted replies.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(SAMPLES_BYTES, 0);

/// Replies of each source to a group probe with more than [`probe_common::abi::MAX_REPLIES`].
#[map]
pub static REPLIES: LruHashMap<MissedKey, u32> = LruHashMap::with_max_entries(MAX_REPLIERS, 0);

/// Accepted replies for which `SAMPLES` had no room, with T4.
#[map]
pub static MISSED: LruHashMap<MissedKey, u64> = LruHashMap::with_max_entries(MAX_MISSED, 0);

/// Room for a frame that TC cannot change in place.
#[map]
pub static SCRATCH: PerCpuArray<[u8; V6_FRAME]> = PerCpuArray::with_max_entries(1, 0);

/// Room for a piece of a payload while it is summed, and one more word that the verifier thinks is reached.
#[map]
pub static CHUNK: PerCpuArray<[u64; CHUNK_LEN / 8 + 1]> = PerCpuArray::with_max_entries(1, 0);

/// Packets that concerned kstamp, by `Counter`.
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Adds one to `counter` on this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the entry is this CPU's own, and the programs that write it do not interrupt one another.
        unsafe { *value += 1 };
    }
}
