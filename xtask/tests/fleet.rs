//! Ten agents on one switch discover each other, and notice when one ends.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::time::{Duration, Instant};

use support::{Agent, lab_with};
use xtask::lab::{Options, Topology};

#[test]
fn ten_agents_discover_each_other_and_notice_when_one_ends() {
    let options = Options {
        agents: 10,
        ..Options::default()
    };
    let Some(lab) = lab_with(Topology::Switch, &options) else {
        return;
    };
    let arguments = "--family v4 --peer-expiry 3s";
    support::kstamp();
    let begin = Instant::now();
    let start = |place| Agent::start(&lab, place, "agent", arguments);
    let mut agents: Vec<_> = lab.agents().iter().map(start).collect();

    let is_up = |record: &serde_json::Value| record["type"] == "peer" && record["event"] == "up";
    let ups = |agent: &Agent| agent.records().into_iter().filter(is_up).count();
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
    let mut ended = vec![gone];
    for (agent, place) in agents.into_iter().zip(lab.agents()) {
        let finished = agent.stop().assert_success();
        let peers = finished.of_type("peer").into_iter();
        let downs: Vec<_> = peers.filter(|record| record["event"] == "down").collect();
        assert!(downs.iter().any(|down| down["peer"] == ended[0].as_str()), "{downs:#?}");
        for down in downs {
            let is_known = ended.iter().any(|known| down["peer"] == known.as_str());
            assert!(is_known && down["reason"] == "ended", "{down:#?}");
        }
        ended.push(place.v4.to_string());
    }
    lab.down().unwrap();
}
