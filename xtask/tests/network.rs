//! Networks of OpenFlow switches without a controller, by rules of our own: each link takes the time that it is to take,
//! and can be cut and repaired.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use support::can_run;
use xtask::exec;
use xtask::lab::{AgentNs, ControlDelay, Lab, Network, Options, SWITCHES, Topology};

fn host<'a>(lab: &'a Lab, network: &Network, switch: &str) -> &'a AgentNs {
    let at = network.switches.iter().position(|name| *name == switch).unwrap();
    &lab.agents()[at]
}

/// Lets frames pass between the hosts at both ends of a way through `switches`, both ways.
fn open(lab: &Lab, network: &Network, switches: &[&str]) {
    for (at, switch) in switches.iter().enumerate() {
        let port_to =
            |neighbour: Option<&&str>| neighbour.map_or(1, |other| network.port_number(switch, other).unwrap());
        let before = port_to(at.checked_sub(1).and_then(|before| switches.get(before)));
        let after = port_to(switches.get(at + 1));
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
    exec::capture(&mut command).unwrap()
}

/// The round trips of pings between the hosts of two switches, in milliseconds, shortest first.
fn ping(lab: &Lab, network: &Network, from: &str, to: &str, options: &[&str]) -> Vec<f64> {
    let [from, to] = [from, to].map(|switch| host(lab, network, switch));
    let to = to.v4.to_string();
    let arguments = ["-n"].iter().chain(options).copied().chain([to.as_str()]);
    let output = exec::output(&mut lab.command(&from.namespace, "ping", arguments)).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let times = text.lines().filter_map(|line| line.split("time=").nth(1));
    let mut times: Vec<f64> = times
        .map(|time| time.split(' ').next().unwrap().parse().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Ten of them, once the hosts know each other's MAC addresses, which they ask for once a second.
fn pings(lab: &Lab, network: &Network, from: &str, to: &str) -> Vec<f64> {
    ping(lab, network, from, to, &["-c", "1", "-i", "0.1", "-w", "5"]);
    ping(lab, network, from, to, &["-c", "10", "-i", "0.05", "-W", "1"])
}

/// Nothing comes through.
fn assert_cut_off(lab: &Lab, network: &Network, from: &str, to: &str) {
    let rtts = ping(lab, network, from, to, &["-c", "5", "-i", "0.05", "-W", "1"]);
    assert!(rtts.is_empty(), "{rtts:?}");
}

/// The median round trip is `ms` and what switches and delay lines cost: each is a process that has to be woken up.
fn assert_takes(rtts: &[f64], ms: f64) {
    let median = *rtts.get(rtts.len() / 2).expect("some answers");
    assert!((ms..ms + 12.0).contains(&median), "{ms} ms, not {median} of {rtts:?}");
}

#[test]
fn every_link_of_a_triangle_and_a_line_takes_its_time() {
    if !can_run() {
        return;
    }
    for topology in [Topology::Line, Topology::Triangle] {
        let network = topology.network().unwrap();
        let lab = Lab::up(topology, &Options::default()).unwrap();
        for link in network.links {
            let (left, right) = (link.left, link.right);
            // No rules, no way.
            assert_cut_off(&lab, network, left, right);
            open(&lab, network, &[left, right]);
            let rtts = pings(&lab, network, left, right);
            assert_takes(&rtts, 2.0 * link.delay.as_secs_f64() * 1e3);
            for switch in [left, right] {
                ofctl(&lab, &["del-flows", switch]);
            }
        }
        lab.down().unwrap();
    }
}

#[test]
fn the_arpanet_has_its_delays_and_its_links_can_be_cut() {
    if !can_run() {
        return;
    }
    let network = Topology::Arpanet.network().unwrap();
    let lab = Lab::up(Topology::Arpanet, &Options::default()).unwrap();
    open(&lab, network, &["sdc", "rand", "bbn", "mit"]);
    assert_takes(&pings(&lab, network, "sdc", "mit"), 126.0);
    lab.cut("bbn", "mit").unwrap();
    assert_cut_off(&lab, network, "sdc", "mit");
    let mit = ofctl(&lab, &["show", "mit"]);
    assert_eq!(mit.matches("LINK_DOWN").count(), 2, "the cut link and LOCAL: {mit}");
    lab.repair("mit", "bbn").unwrap();
    assert_takes(&pings(&lab, network, "sdc", "mit"), 126.0);
    open(&lab, network, &["sdc", "utah", "mit"]);
    assert_takes(&pings(&lab, network, "sdc", "mit"), 144.0);
    lab.down().unwrap();
}

#[test]
fn what_is_not_there_is_refused_before_anything_is_made() {
    let control = |text: &str| Options {
        control: vec![text.parse::<ControlDelay>().unwrap()],
        ..Options::default()
    };
    if !can_run() {
        return;
    }
    let error = Lab::up(Topology::Triangle, &control("s4:1ms:1ms")).unwrap_err();
    assert_eq!(error.to_string(), "no switch s4; there are s1, s2, s3");
    let error = Lab::up(Topology::Veth, &control("s1:1ms:1ms")).unwrap_err();
    assert_eq!(error.to_string(), "topology veth has no control channels");
}
