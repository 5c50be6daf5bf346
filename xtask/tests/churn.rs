//! What comes and goes while it is measured: ports, links, Open vSwitch itself, agents. Measured again within 3 s, with
//! the books in order and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Agent, can_run};
use xtask::lab::{AgentNs, Datapath, Lab, Options, Topology};

/// The longest time until there are results again.
const AGAIN_NS: u64 = 3_000_000_000;

/// Where the lab keeps the files of the switch.
const SWITCH: &str = "/run/kstamp-lab/switch1";

/// How the measuring agent probes: often.
const OFTEN: [&str; 6] = ["--interval", "10ms", "--timeout", "500ms", "--report", "1s"];

/// Two agents on a bridge; the second is `subject`, to whom things happen.
struct Scene {
    lab: Lab,
    near: Agent,
    samples: PathBuf,
    /// Since when it should have been possible to measure, after each event.
    events: Vec<(&'static str, u64)>,
}

impl Scene {
    fn new() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let lab = Lab::up(Topology::Patch, &Options::default()).unwrap();
        let samples = lab.scratch().unwrap().join("samples");
        let [place, far, ..] = lab.agents() else {
            panic!("two agents")
        };
        let (peer, file) = (far.v4.to_string(), samples.display().to_string());
        let fixed = ["--family", "v4", "--no-group", "--peer", &peer, "--samples", &file];
        let near = Agent::start(&lab, place, "agent", &[&fixed[..], &OFTEN].concat());
        let events = Vec::new();
        Some(Self {
            lab,
            near,
            samples,
            events,
        })
    }

    fn subject(&self) -> &AgentNs {
        &self.lab.agents()[1]
    }

    /// Starts the agent to whom things happen, and waits until it reflects.
    fn start_subject(&self) -> Agent {
        let agent = Agent::start(&self.lab, self.subject(), "agent", &["--family", "v4"]);
        agent.await_record(Duration::from_secs(10), "start", |record| record["type"] == "start");
        agent
    }

    fn ip(&self, namespace: &str, words: &str) {
        let output = self.lab.command(namespace, "ip", words.split(' ')).output().unwrap();
        assert!(
            output.status.success(),
            "ip {words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn switch(&self, program: &str, arguments: &[&str]) {
        let mut command = self.lab.command("switch1", program, arguments);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, SWITCH);
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn vsctl(&self, words: &str) {
        let database = format!("--db=unix:{SWITCH}/db.sock");
        let words = [database.as_str(), "--timeout=10"].into_iter().chain(words.split(' '));
        self.switch("ovs-vsctl", &words.collect::<Vec<_>>());
    }

    /// From now on it should be possible to measure, after `what`; waits for as long as that may take.
    fn restored(&mut self, what: &'static str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.events.push((what, u64::try_from(now.as_nanos()).unwrap()));
        sleep(Duration::from_nanos(AGAIN_NS) + Duration::from_millis(500));
    }

    /// Ends all, and judges.
    fn end(self, subject: Agent) {
        let near = self.near.stop();
        assert!(near.status.success(), "{near:#?}");
        near.assert_consistent();
        let subject = subject.stop();
        assert!(subject.status.success(), "{subject:#?}");
        subject.assert_consistent();
        let text = fs::read_to_string(&self.samples).unwrap();
        let answered: Vec<u64> = text.lines().filter_map(sent_and_answered).collect();
        for (what, since) in self.events {
            let again = answered.iter().find(|&&sent| sent > since);
            let taken = again.map(|sent| sent - since);
            println!(
                "after {what}: measured again in {:.2?}",
                taken.map(Duration::from_nanos)
            );
            assert!(
                taken.is_some_and(|taken| taken <= AGAIN_NS),
                "{what}: {taken:?} ns; {near:#?}"
            );
        }
        for agent in self.lab.agents() {
            assert_eq!(attached(&self.lab, agent), "", "{}: something is left", agent.interface);
        }
        self.lab.down().unwrap();
    }
}

/// When the probe of a sample was sent, if it was answered.
fn sent_and_answered(line: &str) -> Option<u64> {
    let sample: Value = serde_json::from_str(line).ok()?;
    (sample["state"] == "ok").then(|| sample["t1_ns"].as_u64())?
}

/// What of kstamp is attached to a port.
fn attached(lab: &Lab, agent: &AgentNs) -> String {
    let interface = &agent.interface;
    let show = |program: &str, words: &str| {
        let output = lab
            .command(&agent.namespace, program, words.split(' '))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = [
        show("ip", &format!("-d link show dev {interface}")),
        show("tc", &format!("qdisc show dev {interface}")),
        show("tc", &format!("filter show dev {interface} egress")),
    ];
    let all = all.concat();
    let ours = all
        .lines()
        .filter(|line| ["xdp", "clsact", "kstamp"].iter().any(|word| line.contains(word)));
    ours.collect()
}

#[test]
fn a_port_is_deleted_and_added_again() {
    let Some(mut scene) = Scene::new() else { return };
    let subject = scene.start_subject();
    scene.restored("the start");
    for _ in 0..2 {
        scene.vsctl("del-port port2");
        subject.await_record(Duration::from_secs(5), "deletion", |record| {
            record["event"] == "deleted"
        });
        scene.vsctl("add-port ovs2 port2 -- set interface port2 type=internal");
        scene.ip("switch1", "link set port2 netns agent2");
        let address = format!("address add {}/24 dev port2", scene.subject().v4);
        scene.ip("agent2", &address);
        scene.ip("agent2", "link set port2 up");
        scene.restored("the port's return");
    }
    scene.end(subject);
}

#[test]
fn a_link_flaps() {
    let Some(mut scene) = Scene::new() else { return };
    let subject = scene.start_subject();
    scene.restored("the start");
    for pause in [0, 50, 300, 700] {
        scene.ip("agent2", "link set port2 down");
        sleep(Duration::from_millis(pause));
        scene.ip("agent2", "link set port2 up");
    }
    scene.restored("flaps");
    scene.end(subject);
}

#[test]
fn open_vswitch_is_restarted() {
    if can_run() && Datapath::detect() != Datapath::Kernel {
        println!("SKIPPED: the ports of the userspace datapath go with its process");
        return;
    }
    let Some(mut scene) = Scene::new() else { return };
    let subject = scene.start_subject();
    scene.restored("the start");
    let pid = fs::read_to_string(Path::new(SWITCH).join("ovs-vswitchd.pid")).unwrap();
    assert!(
        Command::new("kill")
            .args(["-KILL", pid.trim()])
            .status()
            .unwrap()
            .success()
    );
    let [database, pid, log] = [
        format!("unix:{SWITCH}/db.sock"),
        format!("--pidfile={SWITCH}/ovs-vswitchd.pid"),
        format!("--log-file={SWITCH}/ovs-vswitchd.log"),
    ];
    scene.switch("ovs-vswitchd", &[&database, &pid, &log, "--detach"]);
    scene.restored("Open vSwitch's restart");
    scene.end(subject);
}

#[test]
fn an_agent_is_killed() {
    let Some(mut scene) = Scene::new() else { return };
    let killed = scene.start_subject();
    scene.restored("the start");
    killed.signal(Signal::SIGKILL);
    drop(killed);
    sleep(Duration::from_millis(500));
    let again = scene.start_subject();
    scene.restored("the next agent's start");
    scene.end(again);
}
