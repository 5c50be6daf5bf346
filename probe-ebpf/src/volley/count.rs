//! Counts and histograms of one processor. No other processor writes them, and a program does not interrupt itself.

use probe_common::volley::{Count, ONE_WAY, Settings, Spread, Tally, bin_of};

#[inline(always)]
pub fn count(tally: *mut Tally, count: Count) {
    // SAFETY: the tally is this processor's own, and the index is within the counts.
    unsafe { (*tally).counts[count as usize] += 1 };
}

/// The four stamps of a reply. T2 and T3 are converted to this host's monotonic clock as if both ends had one clock.
pub struct Stamps {
    pub t1_ns: u64,
    pub t2_ns: u64,
    pub t3_ns: u64,
    pub t4_ns: u64,
}

/// Adds the delays of a reply.
#[inline(always)]
pub fn delays(tally: *mut Tally, stamps: &Stamps, settings: &Settings) {
    let there_and_back = stamps.t4_ns.wrapping_sub(stamps.t1_ns);
    let residence = stamps.t3_ns.wrapping_sub(stamps.t2_ns);
    // A negative residence is a large unsigned number.
    if residence > there_and_back {
        count(tally, Count::Implausible);
        return;
    }
    // SAFETY: the tally is this processor's own.
    unsafe {
        add(&raw mut (*tally).rtt, (there_and_back - residence) as i64);
        add(&raw mut (*tally).residence, residence as i64);
        if settings.flags & ONE_WAY != 0 {
            add(
                &raw mut (*tally).forward,
                stamps.t2_ns.wrapping_sub(stamps.t1_ns) as i64,
            );
            add(
                &raw mut (*tally).backward,
                stamps.t4_ns.wrapping_sub(stamps.t3_ns) as i64,
            );
        }
    }
}

/// # Safety
///
/// `spread` must be valid, and this processor's own.
#[inline(always)]
unsafe fn add(spread: *mut Spread, value: i64) {
    let bin = bin_of(value.clamp(0, u32::MAX.into()) as u32);
    // SAFETY: the caller passes a valid pointer.
    let spread = unsafe { &mut *spread };
    spread.sum = spread.sum.wrapping_add(value);
    if value < spread.min {
        spread.min = value;
    }
    if value > spread.max {
        spread.max = value;
    }
    if let Some(values) = spread.bins.get_mut(bin) {
        *values += 1;
    }
}
