//! Two agents that probe each other.

use std::time::Duration;

use xtask::lab::Lab;

use super::{Agent, Finished, ms};

/// Runs two agents, the first for `seconds`, the second until that has ended, so that its end is not taken for loss.
pub fn run_both(lab: &Lab, seconds: u64, arguments: &[&str]) -> [Finished; 2] {
    let [near, far, ..] = lab.agents() else {
        panic!("two agents")
    };
    let (short, long) = (format!("{seconds}s"), format!("{}s", seconds + 20));
    let far = Agent::start(lab, far, "agent", &[arguments, &["--duration", &long]].concat());
    let near = Agent::start(lab, near, "agent", &[arguments, &["--duration", &short]].concat());
    let near = near.wait(Duration::from_secs(seconds + 12));
    let far = far.stop();
    for agent in [&near, &far] {
        assert!(agent.status.success(), "{agent:#?}");
        agent.assert_consistent();
    }
    [near, far]
}

/// Both have found 20 ms there and 30 ms back, as the topology `delay` has them, on both paths to both addresses.
pub fn assert_delay(lab: &Lab, agents: &[Finished; 2]) {
    let [first, second, ..] = lab.agents() else {
        panic!("two agents")
    };
    let sides = [(&agents[0], second, 20.0, 30.0), (&agents[1], first, 30.0, 20.0)];
    for (agent, peer, forward, backward) in sides {
        for peer in [peer.v4.to_string(), peer.v6.to_string()] {
            for path in ["unicast", "group"] {
                let summary = agent.summary(&peer, path);
                let within = |field: &str, low: f64, width: f64| {
                    let p50 = ms(summary, field, "p50");
                    assert!((low..=low + width).contains(&p50), "{field} {p50} ms: {summary:#}");
                };
                within("rtt_ns", 50.0, 2.0);
                within("forward_ns", forward, 1.0);
                within("backward_ns", backward, 1.0);
            }
        }
    }
}

/// Runs an agent at the first end that probes the second by unicast, `count` times; it must end well within `limit`.
pub fn probe(lab: &Lab, interval: &str, count: u64, options: &[&str], limit: Duration) -> Finished {
    let [near, far, ..] = lab.agents() else {
        panic!("two agents")
    };
    let (peer, count) = (far.v4.to_string(), count.to_string());
    let fixed = [
        "--family",
        "v4",
        "--no-group",
        "--peer",
        &peer,
        "--interval",
        interval,
        "--count",
        &count,
    ];
    let agent = Agent::start(lab, near, "agent", &[&fixed, options].concat()).wait(limit);
    assert!(agent.status.success(), "{agent:#?}");
    agent.assert_consistent();
    agent
}
