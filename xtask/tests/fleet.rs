//! Ten agents on one switch: all find each other, and see one go.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::time::{Duration, Instant};

use support::{Agent, can_run};
use xtask::lab::{Lab, Options, Topology};

#[test]
fn ten_agents_find_each_other_and_see_one_go() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(
        Topology::Switch,
        &Options {
            agents: 10,
            ..Options::default()
        },
    )
    .unwrap();
    let arguments = ["--family", "v4", "--peer-expiry", "3s"];
    support::kstamp();
    let begin = Instant::now();
    let mut agents: Vec<_> = lab
        .agents()
        .iter()
        .map(|place| Agent::start(&lab, place, "agent", &arguments))
        .collect();

    let ups = |agent: &Agent| {
        let records = agent.records();
        records
            .iter()
            .filter(|record| record["type"] == "peer" && record["event"] == "up")
            .count()
    };
    loop {
        let relations: usize = agents.iter().map(ups).sum();
        if relations == 90 {
            break;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{relations} of 90 relations after {:?}",
            begin.elapsed()
        );
        std::thread::sleep(Duration::from_millis(20));
    }

    let gone = lab.agents()[9].v4.to_string();
    assert!(agents.remove(9).stop().status.success());
    for agent in &agents {
        agent.await_record(Duration::from_secs(8), "departure", |record| {
            record["type"] == "peer" && record["event"] == "down" && record["peer"] == gone.as_str()
        });
    }
    for agent in agents {
        let finished = agent.stop();
        finished.assert_consistent();
        let downs = finished
            .of_type("peer")
            .into_iter()
            .filter(|record| record["event"] == "down")
            .count();
        assert_eq!(downs, 1, "only one went: {finished:#?}");
    }
    lab.down().unwrap();
}
