//! One probe in a hundred is lost on one way only: the losses are placed there, and none on the other way.
//!
//! What was truly lost where is told by the reflector's own count of probes answered, so that a switch that drops
//! packets on a busy machine does not fail the test.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::time::Duration;

use support::{Agent, can_run, count, pair};
use xtask::lab::{DelayLine, Direction, Lab, Options, Topology};

const PROBES: u64 = 10_000;

fn losing(forward: f64, backward: f64) -> Options {
    let way = |loss| Direction {
        delay: Duration::from_millis(5),
        loss,
    };
    Options {
        delay: DelayLine {
            left_to_right: way(forward),
            right_to_left: way(backward),
            seed: 7,
        },
        ..Options::default()
    }
}

fn one_way(forward: f64, backward: f64) {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Topology::Delay, &losing(forward, backward)).unwrap();
    let [_, far, ..] = lab.agents() else {
        panic!("two agents")
    };
    let peer = far.v4.to_string();
    support::kstamp();
    let reflector = Agent::start(&lab, far, "reflect", &["--family", "v4"]);
    reflector.await_record(Duration::from_secs(5), "start", |record| record["type"] == "start");
    // 10 s of probes and 2 s for the last of them; a machine without idle time takes longer.
    let near = pair::probe(&lab, "1ms", PROBES, &[], Duration::from_secs(40));
    let reflector = reflector.stop();

    let summary = near.summary(&peer, "unicast");
    let n = |field: &str| count(summary, field);
    let answered = reflector.counter("reflected");
    let (truly_forward, truly_backward) = (n("sent") - answered, answered - n("received"));
    assert_eq!(
        n("late") + n("duplicates"),
        0,
        "the truth is not so simple then: {summary:#}"
    );
    assert!(n("sent") > PROBES * 9 / 10, "{summary:#}");
    let lost = n("lost");
    assert!((50..=400).contains(&lost), "about 100 of {PROBES}: {summary:#}");
    assert!(n("lost_forward") <= truly_forward, "{truly_forward}: {summary:#}");
    assert!(n("lost_backward") <= truly_backward, "{truly_backward}: {summary:#}");
    let placed = n("lost_forward") + n("lost_backward");
    assert!(placed * 100 >= lost * 99, "{summary:#}");
    println!(
        "{lost} of {} lost, truly {truly_forward} there and {truly_backward} back; placed: {} there, {} back, {} unknown",
        n("sent"),
        n("lost_forward"),
        n("lost_backward"),
        n("lost_unknown")
    );
    let injected = if forward > 0.0 { "lost_forward" } else { "lost_backward" };
    assert!(n(injected) >= 50, "{summary:#}");
    let periods = &summary["loss_period"];
    assert!(
        periods["count"].as_u64().is_some_and(|count| count <= lost),
        "{summary:#}"
    );
    lab.down().unwrap();
}

#[test]
fn losses_forward_are_placed_forward() {
    one_way(0.01, 0.0);
}

#[test]
fn losses_backward_are_placed_backward() {
    one_way(0.0, 0.01);
}
