//! One packet in a hundred is lost in one direction: losses are attributed to that direction and none to the other.
//!
//! The reflector's own count of replies is the truth, so a switch that drops packets on a busy machine does not fail the
//! test.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::time::Duration;

use support::{Agent, count, lab_with};
use xtask::forward::Impairment;
use xtask::lab::{DelayLine, Options, Topology};

const PROBES: u64 = 10_000;

fn assert_losses_are_attributed(forward_loss: f64, backward_loss: f64) {
    let direction = |loss| Impairment {
        delay: Duration::from_millis(5),
        loss,
    };
    let options = Options {
        delay: DelayLine {
            left_to_right: direction(forward_loss),
            right_to_left: direction(backward_loss),
            seed: 7,
        },
        ..Options::default()
    };
    let Some(lab) = lab_with(Topology::Delay, &options) else {
        return;
    };
    support::kstamp();
    let reflector = Agent::reflector(&lab, Duration::from_secs(5));
    // 10 s of probes and 2 s of timeout; a busy machine takes longer.
    let near = Agent::probe(&lab, "1ms", PROBES, "", Duration::from_secs(40));
    let reflector = reflector.stop();

    let summary = near.summary(&lab.pair()[1].v4.to_string(), "unicast");
    let n = |field: &str| count(summary, field);
    let answered = reflector.counter("reflected");
    let (truly_forward, truly_backward) = (n("sent") - answered, answered - n("received"));
    assert_eq!(
        n("late") + n("duplicates"),
        0,
        "late or duplicate replies, so the true direction is unknown: {summary:#}"
    );
    assert!(n("sent") > PROBES * 9 / 10, "{summary:#}");
    let lost = n("lost");
    assert!((50..=400).contains(&lost), "about 100 of {PROBES}: {summary:#}");
    assert!(n("lost_forward") <= truly_forward, "{truly_forward}: {summary:#}");
    assert!(n("lost_backward") <= truly_backward, "{truly_backward}: {summary:#}");
    let attributed = n("lost_forward") + n("lost_backward");
    // Before the first reply and after the last one the direction is unknown.
    assert!(attributed + 2 >= lost, "{summary:#}");
    println!(
        "{lost} of {} lost, truly {truly_forward} forward and {truly_backward} backward; attributed: {} forward, {} backward, {} unknown",
        n("sent"),
        n("lost_forward"),
        n("lost_backward"),
        n("lost_unknown")
    );
    let injected = if forward_loss > 0.0 {
        "lost_forward"
    } else {
        "lost_backward"
    };
    assert!(n(injected) >= 50, "{summary:#}");
    let periods = &summary["loss_period"];
    assert!(
        periods["count"].as_u64().is_some_and(|count| count <= lost),
        "{summary:#}"
    );
    lab.down().unwrap();
}

#[test]
fn forward_loss_is_reported_as_forward() {
    assert_losses_are_attributed(0.01, 0.0);
}

#[test]
fn backward_loss_is_reported_as_backward() {
    assert_losses_are_attributed(0.0, 0.01);
}
