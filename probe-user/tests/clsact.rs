//! TC before TCX (Linux 6.6): our clsact qdisc is added and removed; foreign filters stay.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use nix::sys::signal::Signal;
use support::{Pair, Running, command, has_tcx, run};

const AGENT: &str = "agent --iface port1 --family v4 --attach tc";

fn tc(pair: &Pair, arguments: &str) -> String {
    run(&format!("tc -n {} {arguments}", pair.near))
}

fn has_clsact(pair: &Pair) -> bool {
    tc(pair, "qdisc show dev port1").contains("clsact")
}

/// The filters at both hooks.
fn filters(pair: &Pair) -> String {
    ["ingress", "egress"]
        .map(|hook| tc(pair, &format!("filter show dev port1 {hook}")))
        .concat()
}

/// Number of our egress filters.
fn ours(pair: &Pair) -> usize {
    let shown = filters(pair);
    shown.lines().filter(|line| line.contains("kstamp_egress")).count()
}

/// Adds foreign filters at both hooks.
fn add_others(pair: &Pair) {
    for hook in ["ingress", "egress"] {
        tc(pair, &format!("filter add dev port1 {hook} matchall action ok"));
    }
}

fn start(pair: &Pair) -> Running {
    pair.started(&pair.near, AGENT)
}

/// A pair, if this kernel needs the qdisc.
fn pair() -> Option<Pair> {
    if has_tcx() {
        println!("SKIPPED: this kernel has TCX and needs no qdisc");
        return None;
    }
    Pair::new()
}

#[test]
fn the_qdisc_comes_and_goes_with_the_agent() {
    let Some(pair) = pair() else { return };
    assert!(!has_clsact(&pair));
    let agent = start(&pair);
    assert!(has_clsact(&pair));
    let shown = filters(&pair);
    assert!(
        shown.contains("kstamp_ingress") && shown.contains("kstamp_egress"),
        "{shown}"
    );
    assert!(agent.stop().0.success());
    assert!(!has_clsact(&pair));
}

#[test]
fn a_qdisc_that_existed_before_stays() {
    let Some(pair) = pair() else { return };
    tc(&pair, "qdisc add dev port1 clsact");
    assert!(start(&pair).stop().0.success());
    assert!(has_clsact(&pair));
    assert_eq!(filters(&pair), "");
}

#[test]
fn our_qdisc_stays_if_foreign_filters_use_it() {
    let Some(pair) = pair() else { return };
    let agent = start(&pair);
    add_others(&pair);
    assert!(agent.stop().0.success());
    let shown = filters(&pair);
    assert_eq!(shown.matches("matchall").count() / 2, 2, "{shown}");
    assert!(!shown.contains("kstamp"), "{shown}");
}

#[test]
fn filters_of_a_killed_agent_are_removed_by_the_next_one() {
    let Some(pair) = pair() else { return };
    let killed = start(&pair);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    assert_eq!(ours(&pair), 1, "without links a filter stays");
    let next = start(&pair);
    assert_eq!(ours(&pair), 1);
    assert!(
        next.stderr().contains("that a killed kstamp had left"),
        "{}",
        next.stderr()
    );
    assert!(next.stop().0.success());
    assert!(!has_clsact(&pair), "the killed agent had added the qdisc");
}

#[test]
fn an_agent_on_another_port_keeps_its_filters() {
    let Some(pair) = pair() else { return };
    let first = start(&pair);
    let second = pair.started(&pair.near, &format!("{AGENT} --port 1911"));
    assert_eq!(ours(&pair), 2);
    assert!(first.stop().0.success());
    assert_eq!(ours(&pair), 1);
    assert!(second.stop().0.success());
    assert_eq!(filters(&pair), "");
}

#[test]
fn foreign_filters_are_left_alone_with_and_without_tcx() {
    let Some(pair) = Pair::new() else { return };
    if !succeeds(&pair, "qdisc add dev port1 clsact") {
        println!("SKIPPED: this kernel has no clsact");
        return;
    }
    if !succeeds(&pair, "filter add dev port1 egress matchall action ok") {
        println!("SKIPPED: this kernel has no matchall");
        return;
    }
    let before = filters(&pair);
    let agent = start(&pair);
    assert!(filters(&pair).contains("matchall"));
    assert!(agent.stop().0.success());
    assert_eq!(filters(&pair), before);
}

fn succeeds(pair: &Pair, arguments: &str) -> bool {
    let output = command(&format!("tc -n {} {arguments}", pair.near)).output();
    output.unwrap().status.success()
}
