//! Sessions against a model network whose losses are known.

use proptest::prelude::*;

use super::*;

/// What the network does with one probe. Delays are in tenths of a millisecond.
#[derive(Debug, Clone, Copy)]
struct Plan {
    gap: u64,
    roll_before: bool,
    restart_before: bool,
    never_left: bool,
    ring_full: bool,
    forward: Option<u64>,
    /// A copy made in the forward direction, this much later.
    forward_copy: Option<u64>,
    backward: Option<u64>,
    /// A copy made in the backward direction, this much later.
    backward_copy: Option<u64>,
}

const TENTH: u64 = MS / 10;

/// A network that keeps the order: losses in both directions, a full ring buffer, failed sends.
fn in_order(restarts: bool) -> impl Strategy<Value = Plan> {
    let restart = if restarts { 0.05 } else { 0.0 };
    let odds = (0.1, restart, 0.05, 0.05, 0.2, 0.2);
    (odds_of(odds), 1u64..30).prop_map(|((roll, restart, never, ring, forward, backward), gap)| Plan {
        gap,
        roll_before: roll,
        restart_before: restart,
        never_left: never,
        ring_full: ring,
        forward: (!forward).then_some(20),
        forward_copy: None,
        backward: (!backward).then_some(30),
        backward_copy: None,
    })
}

type Odds<T> = (T, T, T, T, T, T);

fn odds_of(odds: Odds<f64>) -> impl Strategy<Value = Odds<bool>> {
    let weighted = proptest::bool::weighted;
    (
        weighted(odds.0),
        weighted(odds.1),
        weighted(odds.2),
        weighted(odds.3),
        weighted(odds.4),
        weighted(odds.5),
    )
}

/// A network with every kind of disorder, late replies included.
fn disorderly() -> impl Strategy<Value = Plan> {
    let rarely = |range| proptest::option::weighted(0.05, range);
    let back = prop_oneof![9 => 1u64..60, 1 => 900u64..3_000];
    (in_order(false), 1u64..60, back, rarely(0u64..40), rarely(0u64..40)).prop_map(
        |(plan, forward, backward, forward_copy, backward_copy)| Plan {
            forward: plan.forward.map(|_| forward),
            // The replies to both come back: `loss_direction` names the cases that it cannot recognise.
            forward_copy: plan
                .forward
                .and(plan.backward)
                .filter(|_| !plan.ring_full)
                .and(forward_copy),
            backward: plan.backward.map(|_| backward),
            backward_copy: plan.backward.and(backward_copy),
            ring_full: plan.ring_full && backward < 60,
            ..plan
        },
    )
}

/// After the disorder: probes that all come back, in order.
fn calm() -> Plan {
    Plan {
        gap: 10,
        roll_before: false,
        restart_before: false,
        never_left: false,
        ring_full: false,
        forward: Some(1),
        forward_copy: None,
        backward: Some(1),
        backward_copy: None,
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send(u32),
    Refused(u32),
    Roll,
    Reply(Reply),
    Expire,
}

/// What reaches the reflector.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    Probe {
        seq: u32,
        sent: u64,
        plan: Plan,
        copy: bool,
    },
    Restart,
}

/// The steps of a run, and the true losses.
#[derive(Debug, Default)]
struct Run {
    steps: Vec<(u64, Step)>,
    collected: Vec<u32>,
    lost_forward: u64,
    lost_backward: u64,
    first_counter: u32,
}

fn run(plans: &[Plan], first_seq: u32, first_counter: u32) -> Run {
    let mut run = Run {
        first_counter,
        ..Run::default()
    };
    let mut now = MS;
    let mut arrivals = Vec::new();
    for (seq, plan) in (0..).map(|step| first_seq.wrapping_add(step)).zip(plans) {
        now += plan.gap * TENTH;
        if plan.roll_before {
            run.steps.push((now, Step::Roll));
        }
        if plan.restart_before {
            arrivals.push((now, Arrival::Restart));
        }
        run.steps.push((now, Step::Send(seq)));
        if plan.never_left {
            run.steps.push((now, Step::Refused(seq)));
            continue;
        }
        match plan.forward {
            None => run.lost_forward += 1,
            Some(delay) => {
                let arrival = now + delay * TENTH;
                let probe = |copy| Arrival::Probe {
                    seq,
                    sent: now,
                    plan: *plan,
                    copy,
                };
                arrivals.push((arrival, probe(false)));
                if let Some(later) = plan.forward_copy {
                    arrivals.push((arrival + later * TENTH, probe(true)));
                }
            }
        }
    }
    run.reflect(arrivals);
    let end = now + 4 * EXPIRY;
    run.steps
        .extend((0..end / (5 * MS)).map(|tick| (tick * 5 * MS, Step::Expire)));
    run.steps.sort_by_key(|(time, _)| *time);
    run
}

impl Run {
    fn reflect(&mut self, mut arrivals: Vec<(u64, Arrival)>) {
        arrivals.sort_by_key(|(time, _)| *time);
        let mut counter = self.first_counter;
        for (arrival, what) in arrivals {
            let Arrival::Probe { seq, sent, plan, copy } = what else {
                counter = 0;
                continue;
            };
            let mut back = |delay: u64| {
                let received = arrival + delay * TENTH;
                self.steps
                    .push((received, Step::Reply(reply(seq, counter, sent, received))));
            };
            match (copy, plan.backward) {
                (true, _) => back(30),
                (false, None) => self.lost_backward += 1,
                (false, Some(_)) if plan.ring_full => self.collected.push(seq),
                (false, Some(delay)) => {
                    back(delay);
                    if let Some(later) = plan.backward_copy {
                        back(delay + later);
                    }
                }
            }
            counter = counter.wrapping_add(1);
        }
    }

    /// Drives a session, asserts the invariants at every step, and returns the final counts.
    fn drive(&self) -> Counts {
        let mut session = session();
        session.set_stateful(true);
        let mut windows = Counts::default();
        let mut now = 0;
        for &(time, step) in &self.steps {
            now = time;
            match step {
                Step::Send(seq) => session.sent(seq, time),
                Step::Refused(seq) => session.send_failed(seq, SendFailure::Unknown),
                Step::Roll => session.roll(time),
                Step::Reply(reply) => {
                    assert!(session.reply(&reply).is_some());
                }
                Step::Expire => session.expire(time, &mut |overdue| {
                    let collected = self.collected.contains(&overdue.seq);
                    if collected {
                        Fate::CollectorLost
                    } else {
                        Fate::Unanswered
                    }
                }),
            }
            assert_balanced(&session.windows.counts());
            while let Some(window) = session.take_finished() {
                assert_balanced(&window.counts);
                assert_eq!(window.counts.pending, 0);
                windows += window.counts;
            }
        }
        session.end(now);
        while let Some(window) = session.take_finished() {
            windows += window.counts;
        }
        let counts = session.summary(now).counts;
        // The direction of a loss may become known only after its window was handed out.
        let without_directions = |counts| Counts {
            lost_forward: 0,
            lost_backward: 0,
            lost_unknown: 0,
            ..counts
        };
        assert_eq!(without_directions(windows), without_directions(counts));
        assert_eq!(counts.pending, 0);
        counts
    }
}

fn starts() -> impl Strategy<Value = (u32, u32)> {
    let near_wrap = prop_oneof![Just(0u32), (u32::MAX - 60)..=u32::MAX, any::<u32>()];
    (near_wrap.clone(), near_wrap)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(16)))]

    #[test]
    fn in_order_every_loss_between_two_answers_is_placed(
        plans in proptest::collection::vec(in_order(false), 1..120),
        (seq, counter) in starts(),
    ) {
        // A younger reflector could have restarted as well.
        let counter = counter.max(64);
        let calm_ends: Vec<Plan> = [calm()].into_iter().chain(plans).chain([calm_after()]).collect();
        let run = run(&calm_ends, seq, counter);
        let counts = run.drive();
        prop_assert_eq!(counts.lost_forward, run.lost_forward);
        prop_assert_eq!(counts.lost_backward, run.lost_backward);
        prop_assert_eq!(counts.lost_unknown, 0);
        prop_assert_eq!(counts.collector_lost, run.collected.len() as u64);
    }

    #[test]
    fn across_restarts_and_open_ends_no_claim_is_wrong(
        plans in proptest::collection::vec(in_order(true), 1..120),
        // By the counter alone, a restart shortly before it wraps looks like the wrap.
        (seq, counter) in (any::<u32>(), prop_oneof![Just(0u32), 0u32..80, 0u32..1 << 31]),
    ) {
        let run = run(&plans, seq, counter);
        let counts = run.drive();
        prop_assert_eq!(counts.lost, run.lost_forward + run.lost_backward);
        prop_assert!(counts.lost_forward <= run.lost_forward, "{:?}", counts);
        prop_assert!(counts.lost_backward <= run.lost_backward, "{:?}", counts);
    }

    #[test]
    fn in_disorder_no_claim_is_wrong_once_it_is_over(
        plans in proptest::collection::vec(disorderly(), 1..120),
        (seq, counter) in starts(),
    ) {
        let plans: Vec<Plan> =
            [calm()].into_iter().chain(plans).chain([calm_after()]).chain([calm(); 8]).collect();
        let run = run(&plans, seq, counter);
        let counts = run.drive();
        prop_assert!(counts.lost_forward <= run.lost_forward, "{:?}", counts);
        prop_assert!(counts.lost_backward <= run.lost_backward, "{:?}", counts);
    }
}

/// A calm probe, once everything before it has arrived.
fn calm_after() -> Plan {
    Plan { gap: 4_000, ..calm() }
}

/// A probe that was copied in the forward direction, with its original reply long delayed, among probes that overtook it.
#[test]
fn a_copy_whose_original_is_late_is_no_loss() {
    for (second, copy) in [(1_227, 22), (1, 22), (1_227, 23), (1, 23), (1_227, 21)] {
        for gap in [10, 1] {
            let plan = |forward, forward_copy, backward| Plan {
                gap,
                forward,
                forward_copy,
                backward: Some(backward),
                ..calm()
            };
            let plans = [
                plan(None, None, 1),
                plan(Some(11), None, second),
                plan(Some(1), Some(copy), 1_227),
                plan(Some(9), None, 1),
            ];
            let plans: Vec<Plan> = [calm()]
                .into_iter()
                .chain(plans)
                .chain([calm_after()])
                .chain([calm(); 8])
                .collect();
            let run = run(&plans, 0, 0);
            let counts = run.drive();
            assert!(
                counts.lost_forward <= run.lost_forward,
                "{second} {copy} {gap} {counts:?}"
            );
            assert!(
                counts.lost_backward <= run.lost_backward,
                "{second} {copy} {gap} {counts:?}"
            );
        }
    }
}
