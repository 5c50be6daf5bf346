//! Cookies of kstamp's rules. They distinguish our rules from others, and allow deletion by class.
//!
//! The upper 32 bits mark kstamp's rules, the next 8 are the class, the lower 24 are free.

/// "kstp": the upper half of every cookie of ours.
pub const OURS: u64 = 0x6b73_7470_0000_0000;
/// Mask for [`OURS`]: rules of all classes.
pub const OURS_MASK: u64 = 0xffff_ffff_0000_0000;

/// Class of rules that measure: LLDP to the controller, bounces. The only ones that `--measure-only` touches.
pub const MEASURING: u64 = OURS | 0x0100_0000;
/// Class of rules that forward: the table miss, paths, broadcast.
pub const FORWARDING: u64 = OURS | 0x0200_0000;
/// Mask for [`MEASURING`] and [`FORWARDING`].
pub const CLASS_MASK: u64 = 0xffff_ffff_ff00_0000;

/// The rule that sends LLDP to the controller; the server installs it.
pub const LLDP: u64 = MEASURING | 1;
/// The table miss, which sends other packets to the controller; the server installs it unless `measure_only` is set.
pub const TABLE_MISS: u64 = FORWARDING | 1;

pub const fn is_measuring(cookie: u64) -> bool {
    cookie & CLASS_MASK == MEASURING
}

/// Cookie and mask of the rules of a run: all of ours, or with `measure_only` those that measure.
pub const fn own(measure_only: bool) -> (u64, u64) {
    if measure_only {
        (MEASURING, CLASS_MASK)
    } else {
        (OURS, OURS_MASK)
    }
}
