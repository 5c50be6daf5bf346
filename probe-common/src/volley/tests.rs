use proptest::prelude::*;

use super::*;

#[test]
fn every_bin_begins_where_the_one_before_ends() {
    let mut next = 0u64;
    for bin in 0..BINS {
        let (low, width) = bin_range(bin);
        assert_eq!(u64::from(low), next, "bin {bin}");
        assert_eq!(bin_of(low), bin);
        assert_eq!(bin_of(low + (width - 1)), bin);
        // The middle is within 1 % of both ends.
        assert!(width == 1 || u64::from(width) * 50 < u64::from(low), "bin {bin}");
        next += u64::from(width);
    }
    assert_eq!(next, 1 << 32);
}

#[test]
fn a_word_holds_the_sequence_the_state_and_the_reflectors_number() {
    for state in [word::LOST, word::FLYING, word::LOOSE] {
        let word = word::of(0xfedc_ba98, state);
        assert_eq!((word::sequence(word), word::state(word)), (0xfedc_ba98, state));
        assert_eq!(word::is_pending(word), state != word::LOST);
    }
    let done = word::done(u32::MAX, 0xffff_fffe);
    assert_eq!((word::sequence(done), word::state(done)), (u32::MAX, word::DONE));
    assert!(!word::is_pending(done));
    assert!(word::is_copy(done, 0xffff_fffe) && word::is_copy(done, 0x3fff_fffe));
    assert!(!word::is_copy(done, 0xffff_ffff) && !word::is_copy(done, 0x3fff_fffc));
}

proptest! {
    #[test]
    fn wire_time_and_back_is_the_same_nanosecond(
        unix_s in 1_600_000_000u64..4_000_000_000, mono_ns in 0..1u64 << 55, since in 0..100_000 * NS_PER_S,
    ) {
        let epoch = Epoch { unix_s, mono_ns };
        let wire = epoch.wire(mono_ns + since);
        prop_assert_eq!(wire, NtpTime::from_unix_ns(unix_s * NS_PER_S + since));
        prop_assert_eq!(epoch.mono(wire.0, false), mono_ns + since);
    }

    #[test]
    fn ptp_stamps_are_read_too(unix_s in 1_600_000_000u64..4_000_000_000, mono_ns in 0..1u64 << 55, s in 0..5u64, ns in 0..NS_PER_S) {
        let epoch = Epoch { unix_s, mono_ns };
        prop_assert_eq!(epoch.mono((unix_s + s) << 32 | ns, true), mono_ns + s * NS_PER_S + ns);
    }
}
