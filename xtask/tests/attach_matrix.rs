//! The attach matrix: whether replies arrive, in every attach mode on every kind of device. `auto` must always choose a
//! mode in which they do. Each test prints its row of the table in the documentation.
//!
//! A reflector is attached to the device; the agent that probes it receives by TC, which does not help native XDP.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Agent, can_run, count, lab_with, run};
use xtask::lab::{AgentNs, Datapath, Lab, Options, Topology};
use xtask::vm::table::{Cell, MODES};

/// Replies in each of two windows of 15 probes that prove that a mode works. The process itself answers probes that came before
/// the programs were attached.
const MIN_REPLIES: u64 = 5;

const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// `auto` takes a few seconds to leave a mode that drops replies.
const AUTO_TIMEOUT: Duration = Duration::from_secs(20);

/// A device in a lab, and the agent that probes it.
struct Subject {
    lab: Lab,
    prober: AgentNs,
    device: AgentNs,
}

impl Subject {
    /// The second port of a lab.
    fn of(lab: Lab) -> Self {
        let [prober, device] = lab.pair().map(Clone::clone);
        Self { lab, prober, device }
    }

    /// Runs `setup`: lines of a namespace and a command. Then `prober` and `device` are the interfaces, and get addresses.
    fn with(mut self, setup: &str, prober: &str, device: &str) -> Self {
        for line in setup.lines() {
            self.run(line.trim());
        }
        for (host, interface) in [(1, prober), (2, device)] {
            let place = if host == 1 { &mut self.prober } else { &mut self.device };
            place.interface = interface.to_owned();
            place.v4 = [10, 9, 9, host].into();
            let (namespace, address) = (place.namespace.clone(), place.v4);
            self.run(&format!("{namespace} ip address add {address}/24 dev {interface}"));
            self.run(&format!("{namespace} ip link set {interface} up"));
        }
        self
    }

    /// Runs a command after the name of its namespace.
    fn run(&self, line: &str) {
        let [namespace, program, arguments @ ..] = &line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        run(&mut self.lab.command(namespace, program, arguments));
    }

    fn start_prober(&self) -> Agent {
        let probing = "--no-group --interval 20ms --timeout 300ms --report 300ms";
        let arguments = format!("--family v4 --attach tc {probing} --peer {}", self.device.v4);
        Agent::start(&self.lab, &self.prober, "agent", &arguments)
    }

    /// The outcome of a mode: `works`, why it was refused, or `no replies`; of `auto` the chosen mode.
    fn try_mode(&self, mode: &str, prober: &Agent) -> String {
        assert!(within(AUTO_TIMEOUT, || is_silent(prober)), "{}", prober.stderr());
        let before = prober.records().len();
        let arguments = format!("--family v4 --attach {mode}");
        let reflector = Agent::start(&self.lab, &self.device, "reflect", &arguments);
        let started = || !reflector.records().is_empty();
        assert!(within(AUTO_TIMEOUT, || started() || refusal(&reflector.stderr()).is_some()));
        if let Some(refusal) = refusal(&reflector.stderr()) {
            return refusal;
        }
        let limit = if mode == "auto" { AUTO_TIMEOUT } else { REPLY_TIMEOUT };
        let works = within(limit, || {
            received_since(prober, before).is_some_and(|received| received >= MIN_REPLIES)
        });
        let reflector = reflector.stop();
        assert!(reflector.status.success(), "{reflector:#?}");
        let change = reflector.of_type("attach").last().map(|record| &record["receive"]);
        let used = change
            .unwrap_or(&reflector.start()["attach"]["receive"])
            .as_str()
            .unwrap();
        match (mode, works) {
            ("auto", true) => used.to_owned(),
            ("auto", false) => format!("{used}: no replies"),
            (_, true) => "works".to_owned(),
            (_, false) => "no replies".to_owned(),
        }
    }

    /// Tries all modes and prints the outcomes.
    fn row(self, device: &str) {
        let prober = self.start_prober();
        let mut outcomes = BTreeMap::new();
        for mode in MODES {
            let outcome = self.try_mode(mode, &prober);
            let cell = Cell {
                device: device.to_owned(),
                mode: mode.to_owned(),
                outcome: outcome.clone(),
            };
            println!("{}", cell.line());
            outcomes.insert(mode, outcome);
        }
        let chosen = &outcomes["auto"];
        assert_eq!(
            outcomes.get(chosen.as_str()).map(String::as_str),
            Some("works"),
            "the mode that auto chose does not work when it is requested: {outcomes:?}"
        );
        assert_eq!(outcomes["tc"], "works", "TC works everywhere");
        prober.stop().assert_consistent();
        self.lab.down().unwrap();
    }
}

/// Whether nobody answers: the reflector has said that it ends, or the last window has no reply.
fn is_silent(prober: &Agent) -> bool {
    let records = prober.records();
    let last_of = |kind: &str| records.iter().rfind(|record| record["type"] == kind);
    last_of("peer").is_some_and(|peer| peer["event"] == "down")
        || last_of("window").is_some_and(|window| count(window, "received") == 0)
}

/// The lesser number of replies of the last two windows after the first `before` records, and after the peer has come up, since
/// the window that was open when it ended has replies of the reflector before.
fn received_since(prober: &Agent, before: usize) -> Option<u64> {
    let records = prober.records();
    let was_down = records[..before].iter().rfind(|record| record["type"] == "peer");
    let was_down = was_down.is_some_and(|peer| peer["event"] == "down");
    let after = &records[before..];
    let from = match after.iter().position(|record| record["event"] == "up") {
        Some(up) => up,
        None if was_down => return None,
        None => 0,
    };
    let mut windows = after[from..].iter().rev().filter(|record| record["type"] == "window");
    let [last, before] = [windows.next()?, windows.next()?].map(|window| count(window, "received"));
    Some(last.min(before))
}

fn within(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    xtask::exec::wait_until(limit, condition)
}

/// Why an agent did not start, in the kernel's own words.
fn refusal(stderr: &str) -> Option<String> {
    let line = stderr.lines().find(|line| line.contains("cannot attach"))?;
    let (message, _) = line.split_once(" (os error").unwrap_or((line, ""));
    let reason = message.rsplit(": ").next().unwrap_or(message);
    Some(format!("refused: {reason}"))
}

/// A lab for a row, if this kernel can have all rows.
fn lab(topology: Topology, datapath: Datapath) -> Option<Lab> {
    if can_run() && Datapath::detect() != Datapath::Kernel {
        println!("SKIPPED: this kernel has no openvswitch module, and the matrix has rows for it");
        return None;
    }
    let options = Options {
        datapath: Some(datapath),
        ..Options::default()
    };
    lab_with(topology, &options)
}

#[test]
fn attach_matrix_1_ovs_kernel_port() {
    let Some(lab) = lab(Topology::Patch, Datapath::Kernel) else {
        return;
    };
    Subject::of(lab).row("Open vSwitch port, kernel datapath");
}

#[test]
fn attach_matrix_2_ovs_userspace_port() {
    let Some(lab) = lab(Topology::Patch, Datapath::Userspace) else {
        return;
    };
    Subject::of(lab).row("Open vSwitch port, userspace datapath (tap)");
}

#[test]
fn attach_matrix_3_veth() {
    let Some(lab) = lab(Topology::Veth, Datapath::Kernel) else {
        return;
    };
    Subject::of(lab).row("veth");
}

#[test]
fn attach_matrix_4_veth_to_ovs() {
    let Some(lab) = lab(Topology::Patch, Datapath::Kernel) else {
        return;
    };
    let setup = "switch1 ip link add vethA type veth peer name vethB netns agent2\n\
                 switch1 ip link set vethA up\n\
                 switch1 ovs-vsctl --db=unix:/run/kstamp-lab/switch1/db.sock add-port ovs1 vethA";
    Subject::of(lab)
        .with(setup, "port1", "vethB")
        .row("veth, other end an Open vSwitch port");
}

#[test]
fn attach_matrix_5_veth_to_bridge() {
    let Some(lab) = lab(Topology::Veth, Datapath::Kernel) else {
        return;
    };
    let setup = "agent1 ip link add br0 type bridge\n\
                 agent1 ip link add vethA type veth peer name vethB netns agent2\n\
                 agent1 ip link set vethA master br0 up";
    Subject::of(lab)
        .with(setup, "br0", "vethB")
        .row("veth, other end a Linux bridge port");
}

#[test]
fn attach_matrix_6_bridge() {
    let Some(lab) = lab(Topology::Veth, Datapath::Kernel) else {
        return;
    };
    let setup = "agent2 ip link add br0 type bridge\n\
                 agent2 ip link set port2 master br0 up";
    Subject::of(lab)
        .with(setup, "port1", "br0")
        .row("Linux bridge, its own port");
}

#[test]
fn attach_matrix_7_vxlan() {
    let Some(lab) = lab(Topology::Veth, Datapath::Kernel) else {
        return;
    };
    let setup = "agent1 ip link add vx0 type vxlan id 42 remote 10.1.1.6 dstport 4789 dev port1\n\
                 agent2 ip link add vx0 type vxlan id 42 remote 10.1.1.5 dstport 4789 dev port2";
    Subject::of(lab).with(setup, "vx0", "vx0").row("VXLAN device");
}

#[test]
fn attach_matrix_8_vlan() {
    let Some(lab) = lab(Topology::Veth, Datapath::Kernel) else {
        return;
    };
    let setup = "agent1 ip link add link port1 name vlan7 type vlan id 7\n\
                 agent2 ip link add link port2 name vlan7 type vlan id 7";
    Subject::of(lab).with(setup, "vlan7", "vlan7").row("VLAN device");
}
