mod model;

use super::*;
use crate::openflow::id::{Dpid, PortNumber};
use crate::topology::PortId;

const MS: u64 = 1_000_000;
const PERIOD: u64 = 500 * MS;

fn port(dpid: u64, port: u32) -> PortId {
    PortId {
        dpid: Dpid(dpid),
        port: PortNumber(port),
    }
}

fn echo() -> Probe {
    Probe::Echo(Dpid(1))
}

/// Sends the next probe when it is due.
fn send(delay: &mut LinkDelay) -> (Transmit, u64) {
    let due_ns = delay.next_deadline().unwrap();
    (delay.poll_transmit(due_ns).unwrap(), due_ns)
}

fn answer(transmit: Transmit, sent_ns: u64, took_ns: u64) -> ProbeAnswer {
    ProbeAnswer {
        seq: transmit.seq,
        probe: transmit.probe,
        sent_ns,
        received_ns: sent_ns + took_ns,
    }
}

#[test]
fn an_answer_counts_once_and_only_if_it_fits() {
    let mut delay = LinkDelay::new(PERIOD, 0);
    assert!(delay.start(echo(), 0));
    let (transmit, due_ns) = send(&mut delay);
    // Written to the socket a little later than it was handed over.
    let right = answer(transmit, due_ns + 7, 3 * MS);
    let table = [
        (
            ProbeAnswer {
                probe: Probe::Echo(Dpid(2)),
                ..right
            },
            Err(Refusal::Mismatched),
        ),
        (
            ProbeAnswer {
                probe: Probe::Baseline(Dpid(1)),
                ..right
            },
            Err(Refusal::Mismatched),
        ),
        (
            ProbeAnswer {
                seq: right.seq + 1,
                ..right
            },
            Err(Refusal::Mismatched),
        ),
        // Claims a send time before the send, or after the answer.
        (
            ProbeAnswer {
                sent_ns: due_ns.wrapping_sub(1),
                ..right
            },
            Err(Refusal::Mismatched),
        ),
        (
            ProbeAnswer {
                sent_ns: right.received_ns + 1,
                ..right
            },
            Err(Refusal::Mismatched),
        ),
        (right, Ok(3 * MS)),
        (right, Err(Refusal::Late)),
    ];
    for (answer, expected) in table {
        assert_eq!(delay.answer(&answer), expected, "{answer:?}");
    }
    let window = delay.window(echo()).unwrap();
    assert_eq!((window.count(), window.minimum()), (1, Some(3_000_000)));
    let ends = delay.ends();
    assert_eq!((ends.sent, ends.answered, ends.late, ends.mismatched), (1, 1, 1, 5));
}

#[test]
fn an_unanswered_probe_is_lost_and_a_late_answer_matches_no_probe() {
    let mut delay = LinkDelay::new(PERIOD, 0);
    delay.start(echo(), 0);
    let (first, sent_ns) = send(&mut delay);
    delay.expire(sent_ns + TIMEOUT_NS);
    assert_eq!(delay.ends().lost, 0);
    delay.expire(sent_ns + TIMEOUT_NS + 1);
    assert_eq!(delay.ends().lost, 1);
    let (_second, _) = send(&mut delay);
    assert_eq!(
        delay.answer(&answer(first, sent_ns, TIMEOUT_NS + 2)),
        Err(Refusal::Late)
    );
    assert_eq!(delay.window(echo()).map(Window::count), None);
}

#[test]
fn lldp_of_a_port_without_a_switch_is_not_lost() {
    let mut delay = LinkDelay::new(PERIOD, 0);
    delay.start(Probe::Lldp(port(1, 1)), 0);
    let (_, sent_ns) = send(&mut delay);
    delay.expire(sent_ns + TIMEOUT_NS + 1);
    assert_eq!((delay.ends().lost, delay.ends().unheard), (0, 1));
}

#[test]
fn answers_after_a_restart_are_late() {
    let mut delay = LinkDelay::new(PERIOD, 0);
    let lldp = Probe::Lldp(port(1, 1));
    delay.start(lldp, 0);
    let (transmit, sent_ns) = send(&mut delay);
    delay.restart(lldp);
    assert_eq!(delay.answer(&answer(transmit, sent_ns, MS)), Err(Refusal::Late));
    // A restarted probe is still sent, a stopped one is not.
    assert_eq!(send(&mut delay).0.probe, lldp);
    delay.stop(lldp);
    assert_eq!(delay.next_deadline(), None);
}

#[test]
fn old_samples_are_dropped() {
    let mut delay = LinkDelay::new(PERIOD, 0);
    delay.start(echo(), 0);
    let (transmit, sent_ns) = send(&mut delay);
    delay.answer(&answer(transmit, sent_ns, MS)).unwrap();
    delay.expire(sent_ns + MS + WINDOW_PERIODS * PERIOD);
    assert!(delay.window(echo()).is_some());
    delay.expire(sent_ns + MS + WINDOW_PERIODS * PERIOD + 1);
    assert!(delay.window(echo()).is_none());
}

fn window(samples: &[i64]) -> Window {
    let mut window = Window::default();
    for (at, sample) in samples.iter().enumerate() {
        window.record(at as u64, *sample);
    }
    window
}

#[test]
fn a_window_has_minimum_median_and_spread() {
    type Row = (&'static [i64], Option<i64>, Option<i64>, Option<u64>);
    let table: [Row; 4] = [
        (&[], None, None, None),
        (&[5], Some(5), Some(5), Some(0)),
        (&[9, 1], Some(1), Some(1), Some(0)),
        (&[9, -1, 4], Some(-1), Some(4), Some(5)),
    ];
    for (samples, minimum, median, spread) in table {
        let window = window(samples);
        assert_eq!(
            (window.minimum(), window.median(), window.spread()),
            (minimum, median, spread)
        );
    }
}

#[test]
fn a_window_is_bounded() {
    let mut window = window(&[-1]);
    (0..1_000).for_each(|at| window.record(at, 1));
    assert_eq!((window.count(), window.minimum()), (64, Some(1)));
}

/// A link whose terms have these samples each.
fn estimate(lldp: [&[i64]; 2], echo: [&[i64]; 2], baseline: [&[i64]; 2]) -> LinkEstimates {
    let [lldp, echo, baseline] = [lldp, echo, baseline].map(|samples| samples.map(window));
    link_estimates(&LinkTerms {
        lldp: lldp.each_ref().map(Some),
        echo: echo.each_ref().map(Some),
        baseline: baseline.each_ref().map(Some),
        ..LinkTerms::default()
    })
}

#[test]
fn the_estimate_is_the_two_way_sum_with_a_state() {
    const M: i64 = 1_000_000;
    // LLDP forward, LLDP backward, echo, echo, the noise of each term; the round trip, its error, the state.
    let table = [
        // Control channels of 40 and 0 ms: 10 up and 30 down.
        ([35 * M, 15 * M, 40 * M, 0], 0, 10 * M, 0, LinkState::Valid),
        ([5 * M, 5 * M, 0, 0], M, 10 * M, 4 * M, LinkState::Valid),
        ([M, M, 0, 0], M, 2 * M, 4 * M, LinkState::BelowResolution),
        ([M, M, M, M], M, 0, 4 * M, LinkState::BelowResolution),
        ([M, M, 2 * M, 2 * M], M, -2 * M, 4 * M, LinkState::BelowResolution),
        ([M, M, 4 * M, 4 * M], M, -6 * M, 4 * M, LinkState::Negative),
        ([0, 0, 0, 0], 0, 0, 0, LinkState::BelowResolution),
    ];
    for (terms, noise, rtt_ns, error_ns, state) in table {
        let samples = terms.map(|term| [term, term + noise, term + noise, term + noise, term + noise]);
        let [forward, backward, one, other] = samples.each_ref().map(<[i64; 5]>::as_slice);
        let found = estimate([forward, backward], [one, other], [&[], &[]])
            .lldp_echo
            .unwrap();
        assert_eq!(
            (found.rtt_ns, found.error_ns),
            (rtt_ns, error_ns.unsigned_abs()),
            "{terms:?}"
        );
        assert_eq!(found.by, Statistic::Minimum);
        assert_eq!(state_of(Some(&found)), state, "{terms:?}");
    }
    assert_eq!(state_of(None), LinkState::Missing);
}

#[test]
fn the_extra_cost_of_a_packet_out_is_part_of_the_error() {
    let found = estimate([&[7; 5], &[7; 5]], [&[2; 5], &[2; 5]], [&[3; 5], &[6; 5]]);
    assert_eq!(found.lldp_echo.unwrap().error_ns, 1 + 4);
    // A baseline below the echo is noise and reduces nothing.
    let found = estimate([&[7; 5], &[7; 5]], [&[2; 5], &[2; 5]], [&[1; 5], &[6; 5]]);
    assert_eq!(found.lldp_echo.unwrap().error_ns, 4);
}

#[test]
fn missing_samples_give_no_estimate_and_few_give_one_of_medians() {
    let five: &[i64] = &[3; 5];
    for missing in 0..4 {
        let with = |term: usize| if term == missing { &[3; 2] } else { five };
        let found = estimate([with(0), with(1)], [with(2), with(3)], [five, five]);
        assert_eq!(found.lldp_echo, None);
    }
    let found = estimate([&[9, 1, 8], five], [five, five], [five, five]);
    let found = found.lldp_echo.unwrap();
    assert_eq!((found.rtt_ns, found.by), (8 + 3 - 6, Statistic::Median));
}

#[test]
fn the_error_reaches_down_to_the_bounce_but_not_below_zero() {
    const US: i64 = 1_000;
    let [lldp, echo] = [950 * US, 450 * US].map(|term_ns| window(&[term_ns; 5]));
    // Bounce without its baseline, its noise; the error and the state of the estimate by LLDP and echoes, 1 ms.
    let table = [
        (900 * US, 0, 100 * US, LinkState::Valid),
        (300 * US, 50 * US, 750 * US, LinkState::Valid),
        (300 * US, 299 * US, 999 * US, LinkState::Valid),
        (300 * US, 300 * US, 1_000 * US, LinkState::BelowResolution),
        (300 * US, 900 * US, 1_000 * US, LinkState::BelowResolution),
        (1_200 * US, 0, 0, LinkState::Valid),
    ];
    for (rtt_ns, noise_ns, error_ns, state) in table {
        let bounce = window(&[
            rtt_ns,
            rtt_ns + noise_ns,
            rtt_ns + noise_ns,
            rtt_ns + noise_ns,
            rtt_ns + noise_ns,
        ]);
        let baseline = window(&[0; 5]);
        let estimates = link_estimates(&LinkTerms {
            lldp: [Some(&lldp), Some(&lldp)],
            echo: [Some(&echo), Some(&echo)],
            bounce: [Some(&bounce), None],
            baseline: [Some(&baseline), None],
            ..LinkTerms::default()
        });
        let found = estimates.lldp_echo.unwrap();
        assert_eq!(found.error_ns, error_ns.unsigned_abs(), "{rtt_ns} {noise_ns}");
        assert_eq!(state_of(Some(&found)), state, "{rtt_ns} {noise_ns}");
    }
}

#[test]
fn the_baseline_of_its_own_switch_is_subtracted_from_a_bounce() {
    let [noisy, bounce, baseline] = [&[90, 10, 90][..], &[52; 5], &[2; 5]].map(window);
    let estimates = link_estimates(&LinkTerms {
        bounce: [Some(&noisy), Some(&bounce)],
        baseline: [Some(&baseline); 2],
        ..LinkTerms::default()
    });
    let found = estimates.bounce.unwrap();
    assert_eq!((found.rtt_ns, found.error_ns), (50, 0));
    assert_eq!((estimates.lldp_echo, estimates.kernel), (None, None));
}

#[test]
fn kernel_stamps_of_one_frame_give_its_one_way_delay() {
    let mut kernel = Kernel::default();
    let origin = port(1, 1);
    let second = 1_000 * MS;
    for seq in 0..3 {
        let sent_ns = second + seq * second / 2;
        // Seen at two interfaces each: the outermost count.
        kernel.stamped(origin, seq, TapDirection::Ingress, sent_ns + 9 * MS);
        kernel.stamped(origin, seq, TapDirection::Egress, sent_ns);
        kernel.stamped(origin, seq, TapDirection::Egress, sent_ns + MS);
        kernel.stamped(origin, seq, TapDirection::Ingress, sent_ns + 10 * MS);
    }
    // One end only.
    kernel.stamped(origin, 3, TapDirection::Egress, second);
    kernel.expire(2 * second + TIMEOUT_NS + 20 * MS, 60 * second);
    let window = kernel.window(origin).unwrap();
    assert_eq!(
        (window.count(), window.median(), window.spread()),
        (3, Some(10_000_000), Some(0))
    );
    kernel.restart(origin);
    assert!(kernel.window(origin).is_none());
}
