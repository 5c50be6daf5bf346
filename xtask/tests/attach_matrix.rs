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

/// Replies that prove a mode.
const ENOUGH: u64 = 10;

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

    /// What comes of one mode: `works`, why it was refused, or that replies do not come; for `auto` what was chosen.
    fn try_mode(&self, mode: &str) -> String {
        let family = ["--family", "v4"];
        let reflector = Agent::start(
            &self.lab,
            &self.device,
            "reflect",
            &[&family[..], &["--attach", mode]].concat(),
        );
        let peer = self.device.v4.to_string();
        // To leave a mode that swallows replies takes `auto` a few seconds.
        let probes = if mode == "auto" { "150" } else { "50" };
        let arguments = [
            "--attach",
            "tc",
            "--no-group",
            "--peer",
            &peer,
            "--interval",
            "20ms",
            "--timeout",
            "400ms",
            "--count",
            probes,
        ];
        let prober = Agent::start(&self.lab, &self.prober, "agent", &[&family[..], &arguments].concat());
        let prober = prober.wait(Duration::from_secs(20));
        assert!(prober.status.success(), "{prober:#?}");
        let answered = prober
            .of_type("summary")
            .iter()
            .map(|summary| count(summary, "received"))
            .sum::<u64>();
        if let Some(refusal) = refusal(&reflector.stderr()) {
            assert_eq!(answered, 0, "{refusal}");
            return refusal;
        }
        let reflector = reflector.stop();
        assert!(reflector.status.success(), "{reflector:#?}");
        let last = |kind: &str, field: &str| reflector.of_type(kind).last().map(|record| record[field].clone());
        let mode = last("attach", "receive").unwrap_or_else(|| reflector.start()["attach"]["receive"].clone());
        let works = answered >= ENOUGH;
        match (
            reflector.start()["attach_reason"].as_str() == Some("as asked for"),
            works,
        ) {
            (true, true) => "works".to_owned(),
            (true, false) => "no replies".to_owned(),
            (false, true) => mode.as_str().unwrap().to_owned(),
            (false, false) => format!("{}: no replies", mode.as_str().unwrap()),
        }
    }

    /// Tries all modes, and prints what came of them.
    fn row(self, device: &str) {
        let mut outcomes = Vec::new();
        for mode in MODES {
            let outcome = self.try_mode(mode);
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
        self.lab.down().unwrap();
    }
}

/// Why an agent did not start: the kernel's own words, at the end of its one line.
fn refusal(stderr: &str) -> Option<String> {
    let line = stderr.lines().find(|line| line.contains("cannot attach"))?;
    let reason = line.rsplit(": ").next().unwrap_or(line);
    Some(format!(
        "refused: {}",
        reason.split(" (os error").next().unwrap_or(reason)
    ))
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
