use probe_common::family::Family;

use super::*;
use crate::agent::config::{Families, MAX_PEERS};
use crate::agent::event::Found;
use crate::observation::SendFailure;
use crate::stats::report::Path;

const INTERVAL_NS: u64 = 500_000_000;
const TIMEOUT_NS: u64 = 2_000_000_000;
const LEGACY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 7));
const UNIX_NS: u64 = 1_795_000_000_000_000_000;

fn at(mono_ns: u64) -> Moment {
    Moment {
        unix_ns: UNIX_NS + mono_ns,
        mono_ns,
    }
}

fn agent(count: Option<u64>) -> LegacyAgent {
    let config = ProbeConfig {
        interval_ns: INTERVAL_NS,
        timeout_ns: TIMEOUT_NS,
        report_ns: 0,
        peer_expiry_ns: 30_000_000_000,
        count,
        group: Families { v4: true, v6: false },
        unicast: true,
        static_peers: Vec::new(),
        first_ssid: 9,
        max_peers: MAX_PEERS,
        samples: false,
        delays: false,
    };
    let mut agent = LegacyAgent::new(config, 0);
    agent.set_policy(Policy::new(["10.1.1.0/24".parse().unwrap()]));
    agent
}

/// Runs for `turns` intervals. `answers` decides by the number, and by whether it went to the group.
fn run(agent: &mut LegacyAgent, turns: u64, answers: impl Fn(u64, bool) -> bool) -> Vec<u64> {
    let mut numbers = Vec::new();
    let step_ns = INTERVAL_NS / 10;
    for step in 0..turns * 10 {
        let now_ns = step * step_ns;
        agent.expire(now_ns);
        while let Some(LegacyTransmit { destination, number }) = agent.poll_transmit(at(now_ns)) {
            agent.transmitted(number, at(now_ns + 1_000));
            numbers.push(number);
            if answers(number, matches!(destination, Destination::Group(_))) {
                agent.answer(
                    LEGACY,
                    number.to_string().as_bytes(),
                    at(now_ns + 401_000),
                    now_ns + 401_000,
                );
            }
        }
    }
    numbers
}

#[test]
fn a_legacy_agent_is_found_and_measured_on_both_paths() {
    let mut agent = agent(None);
    let numbers = run(&mut agent, 10, |_, _| true);
    assert_eq!(
        numbers,
        (1..=numbers.len() as u64).collect::<Vec<_>>(),
        "one sequence for all"
    );
    let up = Event::PeerUp {
        peer: LEGACY,
        found: Found::Multicast,
    };
    assert_eq!(agent.poll_event(), Some(up));
    let summaries = agent.finish(10 * INTERVAL_NS);
    let paths: Vec<_> = summaries.iter().map(|report| report.path).collect();
    assert_eq!(paths, [Path::Unicast, Path::Group]);
    for report in &summaries {
        assert!(report.counts.received >= 7, "{report:?}");
        assert_eq!((report.counts.lost, report.counts.send_failed), (0, 0));
        assert_eq!(report.rtt_ns.unwrap().max, 400_000, "from stamp to stamp");
        let unknown = (report.residence_ns, report.forward_ns, report.backward_ns, report.clock);
        assert_eq!(unknown, (None, None, None, None), "a returned number carries no stamps");
    }
}

#[test]
fn an_unanswered_number_is_a_loss_of_unknown_direction() {
    let mut agent = agent(Some(10));
    run(&mut agent, 20, |number, group| number < 8 || group);
    let summaries = agent.finish(20 * INTERVAL_NS);
    let unicast = &summaries[0].counts;
    assert!(unicast.lost > 0 && unicast.lost == unicast.lost_unknown, "{unicast:?}");
    assert_eq!(summaries[1].counts.lost, 0);
}

#[test]
fn one_answer_makes_no_peer_and_strange_ones_change_nothing() {
    let mut agent = agent(None);
    let number = agent.poll_transmit(at(0)).unwrap();
    assert_eq!((number.number, number.destination), (1, Destination::Group(Family::V4)));
    for strange in [
        &b""[..],
        b"0",
        b"2",
        b"-1",
        b"+1",
        b"1 ",
        b"one",
        b"1\n",
        b"99999999999999999999999",
    ] {
        agent.answer(LEGACY, strange, at(5), 5);
    }
    assert_eq!(agent.unmatched(), 9);
    agent.answer(LEGACY, b"1", at(5), 5);
    agent.answer(LEGACY, b"1", at(6), 6);
    assert_eq!(
        agent.poll_event(),
        None,
        "a kstamp would have answered STAMP by the second"
    );
    let stranger = [203, 0, 113, 7].into();
    for (number, at_ns) in [(&b"1"[..], 7), (b"2", INTERVAL_NS + 5)] {
        agent.poll_transmit(at(at_ns));
        agent.answer(stranger, number, at(at_ns), at_ns);
    }
    assert_eq!(agent.unmatched(), 11, "from outside the prefixes");
    assert_eq!(agent.finish(10), []);
}

#[test]
fn an_agent_that_speaks_stamp_gets_no_more_numbers() {
    let mut agent = agent(None);
    run(&mut agent, 4, |_, _| true);
    agent.retire(LEGACY);
    let ups_and_downs: Vec<_> = std::iter::from_fn(|| agent.poll_event()).collect();
    assert!(
        matches!(ups_and_downs[..], [Event::PeerUp { .. }, Event::PeerDown { .. }]),
        "{ups_and_downs:?}"
    );
    while let Some(transmit) = agent.poll_transmit(at(10 * INTERVAL_NS)) {
        assert_eq!(transmit.destination, Destination::Group(Family::V4));
    }
    agent.expire(20 * INTERVAL_NS);
    for report in agent.finish(20 * INTERVAL_NS) {
        assert_eq!((report.counts.lost, report.counts.pending), (0, 0), "{report:?}");
    }
}

#[test]
fn a_number_that_never_left_is_no_loss() {
    let mut agent = agent(None);
    run(&mut agent, 4, |_, _| true);
    let mut now_ns = 4 * INTERVAL_NS;
    let transmits: Vec<_> = std::iter::from_fn(|| agent.poll_transmit(at(now_ns))).collect();
    agent.transmit_failed(transmits[0].number, SendFailure::NoRoute);
    now_ns += TIMEOUT_NS * 2;
    agent.expire(now_ns);
    let failed: u64 = agent
        .finish(now_ns)
        .iter()
        .map(|report| report.counts.send_failed)
        .sum();
    assert_eq!(
        failed,
        transmits.len() as u64,
        "refused by the socket, or never stamped"
    );
}

#[test]
fn memory_is_bounded() {
    let mut agent = agent(None);
    for turn in 0..MAX_PROBES as u64 + 10 {
        while agent.poll_transmit(at(turn * INTERVAL_NS)).is_some() {}
    }
    assert_eq!((agent.probes.len(), agent.numbers.len()), (MAX_PROBES, MAX_PROBES));
    agent.answer(LEGACY, b"1", at(5), 5);
    assert_eq!(agent.unmatched(), 1, "forgotten");
}
