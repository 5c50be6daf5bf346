//! Ports, links, Open vSwitch and agents that fail and return during a measurement: there are results again within 3 s,
//! counts are consistent, and nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Agent, can_run, lab, run};
use xtask::lab::{AgentNs, Datapath, Lab, Topology};

/// The longest time until there are results again.
const MAX_OUTAGE_NS: u64 = 3_000_000_000;

/// The directory of the switch's files.
const SWITCH: &str = "/run/kstamp-lab/switch1";

const OFTEN: &str = "--interval 10ms --timeout 500ms --report 1s";

/// Two agents on a switch; the second is the `subject` that fails.
struct Fixture {
    lab: Lab,
    near: Agent,
    samples: PathBuf,
    /// Each event, and the time from which measuring should have been possible again.
    events: Vec<(&'static str, u64)>,
}

impl Fixture {
    fn new() -> Option<Self> {
        let lab = lab(Topology::Patch)?;
        let samples = lab.scratch().unwrap().join("samples");
        let [place, far] = lab.pair();
        let fixed = format!(
            "--family v4 --no-group --peer {} --samples {}",
            far.v4,
            samples.display()
        );
        let near = Agent::start(&lab, place, "agent", &format!("{fixed} {OFTEN}"));
        Some(Self {
            lab,
            near,
            samples,
            events: Vec::new(),
        })
    }

    fn subject(&self) -> &AgentNs {
        self.lab.pair()[1]
    }

    /// Starts the subject and waits until it reflects.
    fn start_subject(&self) -> Agent {
        let agent = Agent::start(&self.lab, self.subject(), "agent", "--family v4");
        agent.await_start(Duration::from_secs(10));
        agent
    }

    fn ip(&self, namespace: &str, arguments: &str) {
        run(&mut self.lab.command(namespace, "ip", arguments.split(' ')));
    }

    fn run_at_switch(&self, program: &str, arguments: &[&str]) {
        let mut command = self.lab.command("switch1", program, arguments);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, SWITCH);
        }
        run(&mut command);
    }

    fn vsctl(&self, commands: &str) {
        let database = format!("--db=unix:{SWITCH}/db.sock");
        let options = [database.as_str(), "--timeout=10"].into_iter();
        self.run_at_switch("ovs-vsctl", &options.chain(commands.split(' ')).collect::<Vec<_>>());
    }

    /// Records that measuring should be possible again after `event`, and waits for as long as that may take.
    fn restored(&mut self, event: &'static str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.events.push((event, u64::try_from(now.as_nanos()).unwrap()));
        sleep(Duration::from_nanos(MAX_OUTAGE_NS) + Duration::from_millis(500));
    }

    /// Ends both agents and checks their results.
    fn end(self, subject: Agent) {
        let near = self.near.stop().assert_success();
        subject.stop().assert_success();
        let text = fs::read_to_string(&self.samples).unwrap();
        let answered: Vec<u64> = text.lines().filter_map(sent_and_answered).collect();
        for (event, since) in self.events {
            let next = answered.iter().find(|&&sent| sent > since);
            let outage = next.map(|sent| sent - since);
            println!("after {event}: results in {:.2?}", outage.map(Duration::from_nanos));
            assert!(
                outage.is_some_and(|outage| outage <= MAX_OUTAGE_NS),
                "{event}: {outage:?} ns; {near:#?}"
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

/// kstamp's attachments to a port.
fn attached(lab: &Lab, agent: &AgentNs) -> String {
    let interface = &agent.interface;
    let show = |program: &str, arguments: &str| run(&mut lab.command(&agent.namespace, program, arguments.split(' ')));
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
fn results_resume_after_a_port_is_deleted_and_added() {
    let Some(mut fixture) = Fixture::new() else { return };
    let subject = fixture.start_subject();
    fixture.restored("the start");
    for _ in 0..2 {
        fixture.vsctl("del-port port2");
        subject.await_record(Duration::from_secs(5), "deletion", |record| {
            record["event"] == "deleted"
        });
        fixture.vsctl("add-port ovs2 port2 -- set interface port2 type=internal");
        fixture.ip("switch1", "link set port2 netns agent2");
        let address = format!("address add {}/24 dev port2", fixture.subject().v4);
        fixture.ip("agent2", &address);
        fixture.ip("agent2", "link set port2 up");
        fixture.restored("the port's return");
    }
    fixture.end(subject);
}

#[test]
fn results_resume_after_a_link_flaps() {
    let Some(mut fixture) = Fixture::new() else { return };
    let subject = fixture.start_subject();
    fixture.restored("the start");
    for pause in [0, 50, 300, 700] {
        fixture.ip("agent2", "link set port2 down");
        sleep(Duration::from_millis(pause));
        fixture.ip("agent2", "link set port2 up");
    }
    fixture.restored("flaps");
    fixture.end(subject);
}

#[test]
fn results_resume_after_open_vswitch_restarts() {
    if can_run() && Datapath::detect() != Datapath::Kernel {
        println!("SKIPPED: the ports of the userspace datapath end with its process");
        return;
    }
    let Some(mut fixture) = Fixture::new() else { return };
    let subject = fixture.start_subject();
    fixture.restored("the start");
    let pid = fs::read_to_string(Path::new(SWITCH).join("ovs-vswitchd.pid")).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    let [database, pid, log] = [
        format!("unix:{SWITCH}/db.sock"),
        format!("--pidfile={SWITCH}/ovs-vswitchd.pid"),
        format!("--log-file={SWITCH}/ovs-vswitchd.log"),
    ];
    fixture.run_at_switch("ovs-vswitchd", &[&database, &pid, &log, "--detach"]);
    fixture.restored("Open vSwitch's restart");
    fixture.end(subject);
}

#[test]
fn results_resume_after_an_agent_is_killed_and_restarted() {
    let Some(mut fixture) = Fixture::new() else { return };
    let killed = fixture.start_subject();
    fixture.restored("the start");
    killed.signal(Signal::SIGKILL);
    drop(killed);
    sleep(Duration::from_millis(500));
    let again = fixture.start_subject();
    fixture.restored("the next agent's start");
    fixture.end(again);
}
