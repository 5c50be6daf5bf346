//! The ABI between the programs of `kstamp volley` and their loader: settings, the ring of probes, and counts.
//!
//! A ball is a probe together with the probes that its replies become, one after the other. It lands when its reply becomes
//! no further probe.
//!
//! Wire times are the monotonic clock plus an offset that the loader writes once, when the run begins: a step of the wall
//! clock touches neither the matching of replies nor a round trip.

use crate::abi::Address;
use crate::ntp::{NS_PER_S, NtpTime, UNIX_EPOCH_IN_NTP};
use crate::reflect::V6_FRAME;

/// Version of this module's layouts; a program that was built with another one touches no packet.
pub const VERSION: u32 = 1;

/// [`Settings::flags`]: a reply becomes the next probe.
pub const RELAY: u32 = 1;
/// [`Settings::flags`]: both ends read one clock, so one-way delays are kept too.
pub const ONE_WAY: u32 = 1 << 1;

/// The one entry of `SETTINGS`, written before anything is attached.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// [`VERSION`] of the loader.
    pub version: u32,
    /// Index of the interface.
    pub interface: u32,
    pub epoch: Epoch,
    pub peer: Address,
    pub own: Address,
    /// Port of the reflector, host order.
    pub test_port: u16,
    /// Port of this sender, host order.
    pub source_port: u16,
    /// 4 or 6.
    pub ip_version: u16,
    pub reserved: u16,
    /// [`RELAY`], [`ONE_WAY`].
    pub flags: u32,
    /// Slots of the ring less one; their number is a power of two.
    pub mask: u32,
    /// One of so many probes is sampled; 0: none.
    pub sample_every: u32,
    pub reserved_too: u32,
}

/// A full second of UTC on both clocks. Converts between monotonic time and wire time.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Seconds since 1970, UTC.
    pub unix_s: u64,
    /// `CLOCK_MONOTONIC` at that second.
    pub mono_ns: u64,
}

impl Epoch {
    /// The wire time of `mono_ns`, which must not be before the epoch.
    #[inline(always)]
    pub fn wire(&self, mono_ns: u64) -> NtpTime {
        let since = mono_ns.wrapping_sub(self.mono_ns);
        NtpTime::from_parts(self.unix_s + since / NS_PER_S, since % NS_PER_S)
    }

    /// The inverse of [`Epoch::wire`], to the nanosecond, within 68 years of the epoch.
    #[inline(always)]
    pub fn mono(&self, wire: u64, is_ptp: bool) -> u64 {
        let begins = if is_ptp { 0 } else { UNIX_EPOCH_IN_NTP };
        let seconds = ((wire >> 32) as u32).wrapping_sub((self.unix_s + begins) as u32) as i32;
        let ns = if is_ptp {
            wire & 0xffff_ffff
        } else {
            ((wire & 0xffff_ffff) * NS_PER_S + (1 << 31)) >> 32
        };
        (i64::from(seconds).wrapping_mul(NS_PER_S as i64) as u64)
            .wrapping_add(ns)
            .wrapping_add(self.mono_ns)
    }
}

/// The one entry of `CONTROL`, which both sides change while the programs run.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Control {
    /// Sequence number at which sending ends; 0 stops.
    pub limit: u64,
    /// `CLOCK_MONOTONIC` at which sending ends.
    pub deadline_ns: u64,
    /// Sequence number of the first probe that the rate counts.
    pub first: u64,
    /// `CLOCK_MONOTONIC` from which the rate is earned.
    pub start_ns: u64,
    /// Probes in 1,024 ns, times 2³².
    pub rate: u64,
    /// Probes that may leave ahead of the rate.
    pub burst: u64,
    /// Maximum number of balls in flight.
    pub balls: u64,
    /// 1: the egress program copies the next probe into `TEMPLATE`.
    pub capture: u64,
    /// Sequence number of the next probe. Modified atomically.
    pub next: u64,
    pub reserved: [u64; 7],
    /// Balls in flight. Modified atomically.
    pub balls_in_flight: u64,
    pub reserved_too: [u64; 7],
}

/// The one entry of `TEMPLATE`: the frame of a probe as this host sends it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Template {
    /// A shorter IPv4 frame is at the front. Sequence number and T1 are zero.
    pub frame: [u8; V6_FRAME],
    /// Bytes of the frame; 0: there is none yet.
    pub length: u16,
    pub reserved: u32,
    /// Checksum, in memory order, of pseudo-header, UDP header and payload with these fields at zero.
    pub sum: u64,
}

/// An entry of `RING`, whose index is the low bits of the sequence number.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// See [`word`]. Modified atomically.
    pub word: u64,
    /// T1 as on the wire.
    pub t1: u64,
}

/// The word of a slot: `sequence (32) | reflector's number (30) | state (2)`.
pub mod word {
    /// Never sent, or lost.
    pub const LOST: u64 = 0;
    /// Waiting for a reply that becomes the next probe.
    pub const FLYING: u64 = 1;
    /// Waiting for a reply that becomes no probe.
    pub const LOOSE: u64 = 2;
    /// Answered, with the reflector's number of the reply.
    pub const DONE: u64 = 3;

    const STATE: u64 = 3;

    #[inline(always)]
    pub const fn of(sequence: u32, state: u64) -> u64 {
        (sequence as u64) << 32 | state
    }

    #[inline(always)]
    pub const fn done(sequence: u32, reflected: u32) -> u64 {
        (sequence as u64) << 32 | ((reflected as u64) << 2 & 0xffff_fffc) | DONE
    }

    #[inline(always)]
    pub const fn sequence(word: u64) -> u32 {
        (word >> 32) as u32
    }

    #[inline(always)]
    pub const fn state(word: u64) -> u64 {
        word & STATE
    }

    #[inline(always)]
    pub const fn is_pending(word: u64) -> bool {
        matches!(state(word), FLYING | LOOSE)
    }

    /// Whether a second reply, with the reflector's number `reflected`, was copied on its way back. Otherwise the probe was
    /// copied, and the reflector answered twice.
    #[inline(always)]
    pub const fn is_copy(done: u64, reflected: u32) -> bool {
        (done as u32) >> 2 == reflected & 0x3fff_ffff
    }
}

/// Number of bins of a histogram.
pub const BINS: usize = LINEAR + ((u32::BITS - LINEAR_BITS) as usize) * PER_OCTAVE;
const LINEAR_BITS: u32 = 7;
/// Smaller values have a bin each.
const LINEAR: usize = 1 << LINEAR_BITS;
/// Bins for each power of two of larger values: the middle of a bin is within 0.8 % of its values.
const PER_OCTAVE: usize = LINEAR / 2;

/// The bin of a value.
#[inline(always)]
pub const fn bin_of(value: u32) -> usize {
    if value < LINEAR as u32 {
        return value as usize;
    }
    // By comparison: the kernel's programs have no instruction for leading zeros, and its replacement is a long chain.
    let (mut octave, mut rest) = (1, value >> LINEAR_BITS);
    let mut step = 16;
    while step > 0 {
        if rest >> step != 0 {
            rest >>= step;
            octave += step;
        }
        step /= 2;
    }
    // The shifted value has PER_OCTAVE as its highest bit, so the bins of one octave follow those of the octave before.
    octave as usize * PER_OCTAVE + (value >> octave) as usize
}

/// The smallest value of a bin, and how many values it has.
pub const fn bin_range(bin: usize) -> (u32, u32) {
    if bin < LINEAR {
        return (bin as u32, 1);
    }
    let octave = (bin - PER_OCTAVE) / PER_OCTAVE;
    let first = bin - octave * PER_OCTAVE;
    ((first as u32) << octave, 1 << octave)
}

/// The histogram of one delay, in nanoseconds.
#[repr(C)]
#[derive(Debug)]
pub struct Spread {
    /// Modulo 2⁶⁴.
    pub sum: i64,
    pub min: i64,
    pub max: i64,
    pub bins: [u64; BINS],
}

macro_rules! counts {
    ($($(#[$doc:meta])* $count:ident),+ $(,)?) => {
        /// What each CPU counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Count {
            $($(#[$doc])* $count),+
        }

        /// How many kinds of [`Count`] there are.
        pub const COUNTS: usize = [$(Count::$count),+].len();
    };
}

counts! {
    /// Probes stamped with T1.
    Sent,
    /// Probes with a reply.
    Received,
    /// Probes lost because another probe took their slot while they waited.
    Overrun,
    /// Replies to probes that were already lost.
    Late,
    /// Second replies with the reflector's number of the first: copied on the way back.
    CopiedBackward,
    /// Second replies with another number: the probe was copied on the way to the reflector.
    CopiedForward,
    /// Replies to a probe that is older than one whose reply this CPU has already seen.
    Reordered,
    /// Balls that ended: their reply became no probe, or they were overrun.
    Landed,
    /// Samples for which the ring buffer had no room.
    SampleLost,
    /// Replies whose residence is longer than the round trip.
    Implausible,
    /// Packets with the ports of a reply, but from another address or to another one.
    NotFromPeer,
    /// Replies with a wrong checksum.
    BadChecksum,
    /// Packets with the ports of a reply, but with another length, a tag, options, or in fragments.
    Malformed,
    /// Replies with a sequence number that is not in the ring.
    Unknown,
    /// Replies with another T1 than the probe's.
    WrongT1,
    /// Probes that could not be built or stamped.
    Failed,
}

/// An entry of `TALLIES`: the counts of one CPU. Only the programs on that CPU write it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Tally {
    /// By [`Count`].
    pub counts: [u64; COUNTS],
    /// The newest sequence number that was answered.
    pub newest: u32,
    /// The newest reply counter of the reflector.
    pub newest_reflected: u32,
    /// 1 if the two fields above are set.
    pub has_newest: u32,
    pub reserved: u32,
    pub rtt: Spread,
    pub residence: Spread,
    /// With [`ONE_WAY`].
    pub forward: Spread,
    pub backward: Spread,
}

/// One record of `SAMPLES`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// `CLOCK_MONOTONIC`.
    pub t1_mono_ns: u64,
    pub t4_mono_ns: u64,
    /// As the reflector wrote them.
    pub t2_wire: u64,
    pub t3_wire: u64,
    pub sequence: u32,
    pub reflected: u32,
    /// The reflector's error estimate.
    pub reflector_error: u16,
    pub reserved: [u16; 3],
}

/// Size of the ring buffer of samples: some 16,000 of them.
pub const SAMPLES_BYTES: u32 = 1 << 20;

const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    assert!(size_of::<Settings>() == 80 && align_of::<Settings>() == 8);
    assert!(offset_of!(Settings, epoch) == 8 && offset_of!(Settings, peer) == 24);
    assert!(offset_of!(Settings, test_port) == 56 && offset_of!(Settings, flags) == 64);
    assert!(size_of::<Control>() == 192);
    assert!(offset_of!(Control, next) == 64 && offset_of!(Control, balls_in_flight) == 128);
    assert!(size_of::<Template>() == 120 && offset_of!(Template, length) == 106 && offset_of!(Template, sum) == 112);
    assert!(size_of::<Slot>() == 16 && align_of::<Slot>() == 8);
    assert!(size_of::<Spread>() == 24 + 8 * BINS);
    assert!(offset_of!(Tally, newest) == 8 * COUNTS && offset_of!(Tally, rtt) == 8 * COUNTS + 16);
    assert!(size_of::<Tally>().is_multiple_of(64));
    assert!(size_of::<Sample>() == 48 && align_of::<Sample>() == 8);
    assert!(bin_of(u32::MAX) == BINS - 1);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Sample, Settings, Template};

    // SAFETY: `repr(C)`, made of integers and byte arrays, valid for any bytes, and without implicit padding, as the
    // assertions above show.
    unsafe impl aya::Pod for Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Template {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Sample {}
}

#[cfg(test)]
mod tests;
