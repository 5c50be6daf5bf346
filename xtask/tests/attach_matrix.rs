//! The attach matrix: every mode on every kind of device, by whether replies come back. `auto` must always end in a
//! mode in which they do. Each test prints its row; `docs/kernel-support.md` is made of them.
//!
//! A reflector is attached to the device; an agent behind it, which receives by TC and so helps no driver, probes it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::time::Duration;

use support::{Agent, can_run, count};
use xtask::lab::{AgentNs, Datapath, Lab, Options, Topology};
use xtask::vm::table::{Cell, MODES};

/// Replies within one window, of 15 probes, that prove a mode.
const ENOUGH: u64 = 5;

/// How long replies are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// As long, for `auto`: to leave a mode that swallows replies takes it a few seconds.
const PATIENCE_WITH_AUTO: Duration = Duration::from_secs(8);

/// A device in a lab, and from where it is probed.
struct Subject {
    lab: Lab,
    prober: AgentNs,
    device: AgentNs,
}

impl Subject {
    /// A lab with nothing added: its second port is the device.
    fn of(lab: Lab) -> Self {
        let [prober, device, ..] = lab.agents() else {
            panic!("two agents")
        };
        let (prober, device) = (prober.clone(), device.clone());
        Self { lab, prober, device }
    }

    /// Carries out `setup`, one command a line, the first word being the namespace; then `interfaces` are what is
    /// probed from and the device, with addresses of their own.
    fn with(mut self, setup: &str, interfaces: [&str; 2]) -> Self {
        for line in setup.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            if let [namespace, program, arguments @ ..] = words.as_slice() {
                let output = self.lab.command(namespace, program, arguments).output().unwrap();
                assert!(
                    output.status.success(),
                    "{line}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
        for (place, (interface, host)) in [&mut self.prober, &mut self.device]
            .into_iter()
            .zip(interfaces.into_iter().zip(1..))
        {
            place.interface = interface.to_owned();
            place.v4 = [10, 9, 9, host].into();
            for line in [
                format!("address add {}/24 dev {interface}", place.v4),
                format!("link set {interface} up"),
            ] {
                let output = self
                    .lab
                    .command(&place.namespace, "ip", line.split(' '))
                    .output()
                    .unwrap();
                assert!(
                    output.status.success(),
                    "{line}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
        self
    }

    /// Probes the device from the other end, all the time.
    fn start_prober(&self) -> Agent {
        let peer = self.device.v4.to_string();
        let arguments = [
            "--family",
            "v4",
            "--attach",
            "tc",
            "--no-group",
            "--peer",
            &peer,
            "--interval",
            "20ms",
            "--timeout",
            "300ms",
            "--report",
            "300ms",
        ];
        Agent::start(&self.lab, &self.prober, "agent", &arguments)
    }

    /// What comes of one mode: `works`, why it was refused, or that replies do not come; for `auto` what was chosen.
    fn try_mode(&self, mode: &str, prober: &Agent) -> String {
        assert!(
            within(PATIENCE_WITH_AUTO, || received(prober) == Some(0)),
            "{}",
            prober.stderr()
        );
        let arguments = ["--family", "v4", "--attach", mode];
        let reflector = Agent::start(&self.lab, &self.device, "reflect", &arguments);
        let started = || !reflector.records().is_empty();
        assert!(within(PATIENCE_WITH_AUTO, || started()
            || refusal(&reflector.stderr()).is_some()));
        if let Some(refusal) = refusal(&reflector.stderr()) {
            return refusal;
        }
        let patience = if mode == "auto" { PATIENCE_WITH_AUTO } else { PATIENCE };
        let works = within(patience, || received(prober).is_some_and(|received| received >= ENOUGH));
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

    /// Tries all modes, and prints what came of them.
    fn row(self, device: &str) {
        let prober = self.start_prober();
        let mut outcomes = Vec::new();
        for mode in MODES {
            let outcome = self.try_mode(mode, &prober);
            let [device, mode] = [device, mode].map(str::to_owned);
            println!(
                "{}",
                Cell {
                    device,
                    mode,
                    outcome: outcome.clone()
                }
                .line()
            );
            outcomes.push(outcome);
        }
        let [native, generic, tc, auto] = outcomes.as_slice() else {
            panic!("as many outcomes as modes")
        };
        let chosen = match auto.as_str() {
            "xdp-native" => native,
            "xdp-generic" => generic,
            "tc" => tc,
            other => panic!("auto ends in {other}"),
        };
        assert_eq!(
            chosen, "works",
            "what auto chose does not work when it is asked for: {outcomes:?}"
        );
        assert_eq!(tc, "works", "TC works everywhere");
        prober.stop().assert_consistent();
        self.lab.down().unwrap();
    }
}

/// How many probes of the last window were answered.
fn received(prober: &Agent) -> Option<u64> {
    let records = prober.records();
    let last = records.iter().rfind(|record| record["type"] == "window")?;
    Some(count(last, "received"))
}

fn within(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    xtask::exec::wait_until(limit, condition)
}

/// Why an agent did not start, in the kernel's own words.
fn refusal(stderr: &str) -> Option<String> {
    let line = stderr.lines().find(|line| line.contains("cannot attach"))?;
    let (told, _) = line.split_once(" (os error").unwrap_or((line, ""));
    let reason = told.rsplit(": ").next().unwrap_or(told);
    Some(format!("refused: {reason}"))
}

/// A lab for a row; `None`, said so, where this kernel cannot have all of the rows.
fn lab(topology: Topology) -> Option<Lab> {
    if !can_run() {
        return None;
    }
    if Datapath::detect() != Datapath::Kernel {
        println!("SKIPPED: this kernel has no openvswitch module, and the matrix has rows for it");
        return None;
    }
    Some(Lab::up(topology, &Options::default()).unwrap())
}

#[test]
fn attach_matrix_1_ovs_kernel_port() {
    let Some(lab) = lab(Topology::Patch) else { return };
    Subject::of(lab).row("Open vSwitch port, kernel datapath");
}

#[test]
fn attach_matrix_2_ovs_userspace_port() {
    if lab(Topology::Veth).is_none() {
        return;
    }
    let options = Options {
        datapath: Some(Datapath::Userspace),
        ..Options::default()
    };
    let lab = Lab::up(Topology::Patch, &options).unwrap();
    Subject::of(lab).row("Open vSwitch port, userspace datapath (tap)");
}

#[test]
fn attach_matrix_3_veth() {
    let Some(lab) = lab(Topology::Veth) else { return };
    Subject::of(lab).row("veth");
}

#[test]
fn attach_matrix_4_veth_to_ovs() {
    let Some(lab) = lab(Topology::Patch) else { return };
    let setup = "switch1 ip link add vethA type veth peer name vethB netns agent2\n\
                 switch1 ip link set vethA up\n\
                 switch1 ovs-vsctl --db=unix:/run/kstamp-lab/switch1/db.sock add-port ovs1 vethA";
    Subject::of(lab)
        .with(setup, ["port1", "vethB"])
        .row("veth, other end an Open vSwitch port");
}

#[test]
fn attach_matrix_5_veth_to_bridge() {
    let Some(lab) = lab(Topology::Veth) else { return };
    let setup = "agent1 ip link add br0 type bridge\n\
                 agent1 ip link add vethA type veth peer name vethB netns agent2\n\
                 agent1 ip link set vethA master br0 up";
    Subject::of(lab)
        .with(setup, ["br0", "vethB"])
        .row("veth, other end a Linux bridge port");
}

#[test]
fn attach_matrix_6_bridge() {
    let Some(lab) = lab(Topology::Veth) else { return };
    let setup = "agent2 ip link add br0 type bridge\n\
                 agent2 ip link set port2 master br0 up";
    Subject::of(lab)
        .with(setup, ["port1", "br0"])
        .row("Linux bridge, its own port");
}

#[test]
fn attach_matrix_7_vxlan() {
    let Some(lab) = lab(Topology::Veth) else { return };
    let setup = "agent1 ip link add vx0 type vxlan id 42 remote 10.1.1.6 dstport 4789 dev port1\n\
                 agent2 ip link add vx0 type vxlan id 42 remote 10.1.1.5 dstport 4789 dev port2";
    Subject::of(lab).with(setup, ["vx0", "vx0"]).row("VXLAN device");
}

#[test]
fn attach_matrix_8_vlan() {
    let Some(lab) = lab(Topology::Veth) else { return };
    let setup = "agent1 ip link add link port1 name vlan7 type vlan id 7\n\
                 agent2 ip link add link port2 name vlan7 type vlan id 7";
    Subject::of(lab).with(setup, ["vlan7", "vlan7"]).row("VLAN device");
}
