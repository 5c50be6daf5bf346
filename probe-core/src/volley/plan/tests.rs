use super::*;

fn able() -> Capabilities {
    Capabilities {
        volley: Ok(()),
        train: Ok(()),
        sendmmsg: Ok(()),
    }
}

fn burst(probes: u32, period_ns: u64) -> Burst {
    Burst { probes, period_ns }
}

#[test]
fn the_best_mode_that_the_device_has_is_taken_and_the_reason_given() {
    let no = |why: &str| Err(why.to_owned());
    let only_sockets = Capabilities {
        volley: no("a bridge"),
        train: no("a bridge"),
        sendmmsg: Ok(()),
    };
    let nothing = Capabilities {
        volley: no("down"),
        train: no("down"),
        sendmmsg: no("down, too"),
    };
    let want = |mode| PlanInputs {
        mode,
        ..PlanInputs::default()
    };
    let chosen = |mode, able: &Capabilities| plan(&want(mode), None, able).map(|plan| (plan.mode, plan.reason));
    assert_eq!(chosen(None, &able()).unwrap().0, Mode::Volley);
    assert_eq!(chosen(None, &only_sockets), Ok((Mode::Sendmmsg, "a bridge".to_owned())));
    assert_eq!(
        chosen(None, &nothing).unwrap_err().0,
        "no mode works here: down; down, too"
    );
    for mode in Mode::ALL {
        assert_eq!(chosen(Some(mode), &able()).unwrap().0, mode);
        assert!(chosen(Some(mode), &nothing).unwrap_err().0.contains("down"), "{mode}");
    }
    assert_eq!(
        chosen(Some(Mode::Train), &only_sockets).unwrap_err().0,
        "mode train does not work here: a bridge"
    );
}

#[test]
fn a_socket_that_sends_instead_has_a_rate() {
    // continuous, wanted, timeout in s, rate
    let table = [
        (false, Some(5_000), 1, 5_000),
        (true, Some(5_000), 1, 5_000),
        (true, None, 1, 1_024_000),
        (true, None, 4, 524_288),
    ];
    for (continuous, rate_per_s, timeout_s, want) in table {
        let inputs = PlanInputs {
            continuous,
            rate_per_s,
            timeout_ns: timeout_s * NS_PER_S,
            ..PlanInputs::default()
        };
        let mut plan = plan(&inputs, None, &able()).unwrap();
        assert_eq!(plan.rate_per_s, rate_per_s, "{inputs:?}");
        plan.send_by_socket("refused".to_owned());
        assert_eq!(
            (plan.mode, &*plan.reason, plan.continuous, plan.rate_per_s),
            (Mode::Sendmmsg, "refused", false, Some(want)),
            "{inputs:?}"
        );
    }
}

#[test]
fn the_peer_limits_the_rate() {
    // wanted, limit, rate
    let table = [
        (None, None, Some(1_024_000)),
        (None, Some(100_000), Some(100_000)),
        (Some(50_000), Some(100_000), Some(50_000)),
        (Some(100_000), Some(100_000), Some(100_000)),
        (Some(100_001), Some(100_000), None),
        (Some(100_001), None, Some(100_001)),
        (None, Some(0), None),
        (Some(1), Some(0), None),
    ];
    for (rate_per_s, limit, want) in table {
        let inputs = PlanInputs {
            rate_per_s,
            ..PlanInputs::default()
        };
        let rate = plan(&inputs, limit, &able()).ok().map(|plan| plan.rate_per_s.unwrap());
        assert_eq!(rate, want, "{rate_per_s:?} of {limit:?}");
    }
}

#[test]
fn as_many_as_the_peer_agrees_to_is_never_more_than_the_ring_holds() {
    // burst, limit, timeout in ms, rate
    let table = [
        (None, Some(5_000_000), 1_000, 2_097_152),
        (None, Some(5_000_000), 400, 5_000_000),
        (None, Some(u64::from(u32::MAX)), 1_000, 2_097_152),
        (None, Some(u64::from(u32::MAX)), 1, MAX_RATE_PER_S),
        (None, Some(100_000), 4_000, 100_000),
        (None, None, 4_000, 524_288),
        (Some(burst(65_536, 50_000)), None, 1_000, 2_097_152),
    ];
    for (burst, limit, timeout_ms, rate) in table {
        let inputs = PlanInputs {
            burst,
            timeout_ns: timeout_ms * 1_000_000,
            ..PlanInputs::default()
        };
        let plan = plan(&inputs, limit, &able());
        let planned = plan.as_ref().ok().map(|plan| plan.rate_per_s);
        assert_eq!(planned, Some(Some(rate)), "{limit:?}, {timeout_ms} ms: {plan:?}");
    }
}

#[test]
fn bursts_hold_the_rate() {
    // rate, wanted burst, burst
    let table = [
        (None, None, burst(256, 250_000)),
        (None, Some(burst(10, 1_000_000)), burst(10, 1_000_000)),
        (Some(100_000), None, burst(25, 250_000)),
        (Some(1_500_000), None, burst(375, 250_000)),
        (Some(1_000), None, burst(1, 1_000_000)),
        (Some(3), None, burst(1, 333_333_334)),
        (Some(100_000), Some(burst(256, 250_000)), burst(256, 2_560_000)),
        // Longer pauses than the rate needs lower it.
        (Some(100_000), Some(burst(5, 250_000)), burst(5, 250_000)),
    ];
    for (rate_per_s, wanted, want) in table {
        let inputs = PlanInputs {
            rate_per_s,
            burst: wanted,
            ..PlanInputs::default()
        };
        let plan = plan(&inputs, None, &able()).unwrap();
        assert_eq!(plan.burst, want, "{rate_per_s:?}, {wanted:?}");
        let by_bursts = (u64::from(want.probes) * NS_PER_S).div_ceil(want.period_ns);
        assert_eq!(
            plan.rate_per_s.unwrap(),
            rate_per_s.unwrap_or(u64::MAX).min(by_bursts),
            "{rate_per_s:?}, {wanted:?}"
        );
    }
}

#[test]
fn only_a_volley_is_continuous() {
    let inputs = |mode, rate_per_s| PlanInputs {
        mode: Some(mode),
        continuous: true,
        rate_per_s,
        ..PlanInputs::default()
    };
    assert_eq!(
        plan(&inputs(Mode::Volley, None), None, &able()).unwrap().rate_per_s,
        None
    );
    let limited = plan(&inputs(Mode::Volley, None), Some(5_000), &able()).unwrap();
    assert_eq!(limited.rate_per_s, Some(5_000));
    for mode in [Mode::Train, Mode::Sendmmsg] {
        let refusal = plan(&inputs(mode, None), None, &able()).unwrap_err().0;
        assert!(refusal.contains("continuous"), "{refusal}");
    }
}

#[test]
fn there_is_room_for_all_probes_that_may_wait() {
    // rate, timeout in ms, slots
    let table = [
        (1, 1_000, Some(4_096)),
        (100_000, 1_000, Some(262_144)),
        (1_500_000, 1_000, Some(4_194_304)),
        (2_097_152, 1_000, Some(4_194_304)),
        (2_097_153, 1_000, None),
        (4_194_304, 500, Some(4_194_304)),
    ];
    for (rate, timeout_ms, slots) in table {
        let inputs = PlanInputs {
            mode: Some(Mode::Train),
            rate_per_s: Some(rate),
            burst: Some(burst(65_536, 50_000)),
            timeout_ns: timeout_ms * 1_000_000,
            ..PlanInputs::default()
        };
        let plan = plan(&inputs, None, &able());
        assert_eq!(
            plan.as_ref().ok().map(|plan| plan.slots),
            slots,
            "{rate}, {timeout_ms} ms: {plan:?}"
        );
    }
}

#[test]
fn values_out_of_range_are_refused_in_one_line() {
    let default = PlanInputs::default();
    let table = [
        (
            PlanInputs {
                balls: 0,
                ..default.clone()
            },
            "balls",
        ),
        (
            PlanInputs {
                balls: MAX_BALLS + 1,
                ..default.clone()
            },
            "balls",
        ),
        (
            PlanInputs {
                rate_per_s: Some(0),
                ..default.clone()
            },
            "rate",
        ),
        (
            PlanInputs {
                rate_per_s: Some(MAX_RATE_PER_S + 1),
                ..default.clone()
            },
            "rate",
        ),
        (
            PlanInputs {
                batch: 0,
                ..default.clone()
            },
            "batch",
        ),
        (
            PlanInputs {
                batch: MAX_BATCH + 1,
                ..default.clone()
            },
            "batch",
        ),
        (
            PlanInputs {
                burst: Some(burst(0, 250_000)),
                ..default.clone()
            },
            "burst",
        ),
        (
            PlanInputs {
                burst: Some(burst(65_537, 250_000)),
                ..default.clone()
            },
            "burst",
        ),
        (
            PlanInputs {
                burst: Some(burst(1, 49_999)),
                ..default.clone()
            },
            "period of a burst",
        ),
        (
            PlanInputs {
                burst: Some(burst(1, 1_000_000_001)),
                ..default.clone()
            },
            "period of a burst",
        ),
        (
            PlanInputs {
                timeout_ns: 999_999,
                ..default.clone()
            },
            "timeout",
        ),
        (
            PlanInputs {
                timeout_ns: MAX_TIMEOUT_NS + 1,
                ..default.clone()
            },
            "timeout",
        ),
    ];
    for (inputs, what) in table {
        let refusal = plan(&inputs, None, &able()).unwrap_err().to_string();
        assert!(refusal.contains(what) && refusal.lines().count() == 1, "{refusal}");
    }
    for edge in [
        PlanInputs {
            balls: MAX_BALLS,
            batch: 1,
            timeout_ns: 1_000_000,
            ..default.clone()
        },
        PlanInputs {
            balls: 1,
            burst: Some(burst(1, 50_000)),
            ..default.clone()
        },
        PlanInputs {
            burst: Some(burst(65_536, 1_000_000_000)),
            ..default
        },
    ] {
        plan(&edge, None, &able()).unwrap();
    }
}
