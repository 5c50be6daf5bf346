//! Networks of OpenFlow switches without a controller, with rules of the test: links have their delays, and can be cut
//! and repaired.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use support::{can_run, lab, ping_rtts, run};
use xtask::exec;
use xtask::lab::{ControlDelay, Lab, Options, SWITCHES, Topology};

/// Lets frames pass between the hosts at both ends of a path through `switches`, in both directions.
fn open(lab: &Lab, switches: &[&str]) {
    let network = lab.topology().network().unwrap();
    for (index, switch) in switches.iter().enumerate() {
        let port_to =
            |neighbour: Option<&&str>| neighbour.map_or(1, |other| network.port_number(switch, other).unwrap());
        let before = port_to(index.checked_sub(1).and_then(|before| switches.get(before)));
        let after = port_to(switches.get(index + 1));
        for (from, to) in [(before, after), (after, before)] {
            let rule = format!("in_port={from},actions=output:{to}");
            ofctl(lab, &["add-flow", switch, &rule]);
        }
    }
}

fn ofctl(lab: &Lab, arguments: &[&str]) -> String {
    let arguments = ["-O", "OpenFlow13"].iter().chain(arguments);
    let mut command = lab.command(SWITCHES, "ovs-ofctl", arguments);
    command.env("OVS_RUNDIR", lab.scratch().unwrap().with_file_name(SWITCHES));
    run(&mut command)
}

/// The round trips of pings between the hosts of two switches, in milliseconds, sorted.
fn ping(lab: &Lab, from: &str, to: &str, options: &[&str]) -> Vec<f64> {
    let to = lab.host(to).v4.to_string();
    let arguments = ["-n"].iter().chain(options).copied().chain([to.as_str()]);
    let mut command = lab.command(&lab.host(from).namespace, "ping", arguments);
    let output = exec::output(&mut command).unwrap();
    let mut rtts = ping_rtts(&String::from_utf8(output.stdout).unwrap());
    rtts.sort_by(f64::total_cmp);
    rtts
}

fn assert_unreachable(lab: &Lab, from: &str, to: &str) {
    let rtts = ping(lab, from, to, &["-c", "5", "-i", "0.05", "-W", "1"]);
    assert!(rtts.is_empty(), "{rtts:?}");
}

/// The median of ten round trips is `ms`, and the time of waking up the processes of switches and delay lines.
fn assert_rtt(lab: &Lab, from: &str, to: &str, ms: f64) {
    // Hosts ask for MAC addresses once a second.
    ping(lab, from, to, &["-c", "1", "-i", "0.1", "-w", "5"]);
    let rtts = ping(lab, from, to, &["-c", "10", "-i", "0.05", "-W", "1"]);
    let median = *rtts.get(rtts.len() / 2).expect("some answers");
    assert!((ms..ms + 12.0).contains(&median), "{ms} ms, not {median} of {rtts:?}");
}

#[test]
fn links_of_line_and_triangle_have_their_delays() {
    for topology in [Topology::Line, Topology::Triangle] {
        let Some(lab) = lab(topology) else { return };
        for link in topology.network().unwrap().links {
            let (left, right) = (link.left, link.right);
            assert_unreachable(&lab, left, right);
            open(&lab, &[left, right]);
            assert_rtt(&lab, left, right, 2.0 * link.delay.as_secs_f64() * 1e3);
            for switch in [left, right] {
                ofctl(&lab, &["del-flows", switch]);
            }
        }
        lab.down().unwrap();
    }
}

#[test]
fn arpanet_has_its_delays_and_its_links_can_be_cut() {
    let Some(lab) = lab(Topology::Arpanet) else { return };
    open(&lab, &["sdc", "rand", "bbn", "mit"]);
    assert_rtt(&lab, "sdc", "mit", 126.0);
    lab.cut("bbn", "mit").unwrap();
    assert_unreachable(&lab, "sdc", "mit");
    let mit = ofctl(&lab, &["show", "mit"]);
    assert_eq!(mit.matches("LINK_DOWN").count(), 2, "the cut link and LOCAL: {mit}");
    lab.repair("mit", "bbn").unwrap();
    assert_rtt(&lab, "sdc", "mit", 126.0);
    open(&lab, &["sdc", "utah", "mit"]);
    assert_rtt(&lab, "sdc", "mit", 144.0);
    lab.down().unwrap();
}

#[test]
fn unknown_switch_or_missing_control_channel_is_refused() {
    if !can_run() {
        return;
    }
    for (topology, delay, message) in [
        (Topology::Triangle, "s4:1ms:1ms", "no switch s4; there are s1, s2, s3"),
        (Topology::Veth, "s1:1ms:1ms", "topology veth has no control channels"),
    ] {
        let options = Options {
            control: vec![delay.parse::<ControlDelay>().unwrap()],
            ..Options::default()
        };
        assert_eq!(Lab::up(topology, &options).unwrap_err().to_string(), message);
    }
}
