use super::*;

#[test]
fn losses_have_the_direction_that_the_reflectors_counter_shows() {
    // lost, received, copied, reflected; forward, backward, unknown
    let table = [
        (0, 10, 0, Reflected::Count(10), (0, 0, 0), "nothing lost"),
        (3, 7, 0, Reflected::Count(7), (3, 0, 0), "all forward"),
        (3, 7, 0, Reflected::Count(10), (0, 3, 0), "all backward"),
        (3, 7, 0, Reflected::Count(9), (1, 2, 0), "both"),
        (3, 7, 2, Reflected::Count(9), (3, 0, 0), "two were answered twice"),
        (
            1,
            7,
            0,
            Reflected::Count(12),
            (0, 1, 0),
            "answers that are still on their way",
        ),
        (3, 7, 0, Reflected::Count(5), (3, 0, 0), "the counter lags behind"),
        (3, 7, 0, Reflected::Unknown, (0, 0, 3), "no counter"),
    ];
    for (lost, received, copied, reflected, (forward, backward, unknown), what) in table {
        let want = Losses {
            forward,
            backward,
            unknown,
        };
        assert_eq!(Losses::new(lost, received, copied, reflected), want, "{what}");
        assert_eq!(forward + backward + unknown, lost, "{what}");
    }
}

#[test]
fn the_counter_is_followed_over_processors_and_beyond_32_bits() {
    let mut counter = ReflectorCounter::after(&[(1, 1 << 30, u32::MAX - 10), (0, 1 << 30, u32::MAX - 12)]);
    // Newest of processors 0 and 1, answers in all.
    for (newest, reflected) in [
        (vec![], 0),
        (vec![(0, 0, u32::MAX - 8)], 2),
        (vec![(0, 0, u32::MAX - 8), (1, 0, u32::MAX - 9)], 2),
        (vec![(0, 0, u32::MAX - 8), (1, 0, 4)], 15),
        (vec![(0, 0, 1 << 30), (1, 0, 4)], (1 << 30) + 11),
        (vec![(0, 0, 1 << 31), (1, 0, 4)], (1 << 31) + 11),
        // Processor 1 has seen nothing for so long that its number looks new.
        (vec![(0, 0, 0xc000_0000), (1, 0, 4)], 0xc000_0000 + 11),
        (vec![(0, 0, 0xfff0_0000), (1, 0, 4)], 0xfff0_0000 + 11),
    ] {
        assert_eq!(counter.follow(&newest, 0), Reflected::Count(reflected), "{newest:?}");
    }
}

#[test]
fn a_counter_that_repeats_ours_or_begins_anew_says_nothing() {
    let mut repeated = ReflectorCounter::after(&[(0, 77, 77)]);
    assert_eq!(repeated.follow(&[(0, 80, 80)], 3), Reflected::Unknown);

    let mut nothing = ReflectorCounter::after(&[]);
    assert_eq!(nothing.follow(&[(0, 80, 1)], 0), Reflected::Unknown);

    let mut anew = ReflectorCounter::after(&[(0, 77, 1_000)]);
    assert_eq!(anew.follow(&[(0, 90, 1_013)], 13), Reflected::Count(13));
    assert_eq!(anew.follow(&[(0, 95, 3)], 17), Reflected::Unknown);
    assert_eq!(
        anew.follow(&[(0, 99, 1_500)], 20),
        Reflected::Unknown,
        "it stays unknown"
    );
}
