//! The lab works, and is always removed completely.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{fs, thread};

use support::{can_run, ping_rtts, run};
use xtask::exec::{self, KillOnDrop};
use xtask::lab::{self, AgentNs, Families, Lab, Options, Topology};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

const LIMIT: Duration = Duration::from_secs(10);

/// Every namespace of these labs.
const NAMES: [&str; 12] = [
    "agent1", "agent2", "agent3", "agent4", "host1", "host2", "switch1", "agent5", "core", "hub", "router1", "lines",
];

#[test]
fn usage_errors_exit_with_2_and_failures_with_1() {
    let failure = |arguments: &str| {
        let output = Command::new(XTASK).args(arguments.split(' ')).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for case in [
        "lab up --topology nonsense => invalid value 'nonsense' for '--topology <TOPOLOGY>'",
        "lab up --topology patch --agents 5 => --agents: only with --topology switch or fleet",
        "lab up --left-to-right 5ms => delays and losses: only with --topology delay",
        "lab up --topology veth --control-delay s1:1ms:1ms => topology veth has no control channels",
        "run --topology triangle --interval 1s => --interval does not apply to topology triangle",
        "run --stress 4 => --compare",
        "run --hosts 4 => --hosts: only with --topology fleet, not vxlan",
        "run --topology fleet --compare => --compare: only with two agents",
        "run --topology patch --hops => --hops: only with --topology vxlan, not patch",
        "run --topology patch --hurt underlay:5ms => --hurt: only with --topology vxlan, not patch",
        "lab up --hurt cable:5ms => no segment cable; there are own-switch, own-encapsulation, underlay,",
        "lab up --hurt underlay:stall=5ms => only own-switch and far-switch can stall",
        "bench rate --tool nonsense => --tool nonsense: no such tool",
        "lab guard => <ID>",
    ] {
        let (arguments, message) = case.split_once(" => ").unwrap();
        let (code, stderr) = failure(arguments);
        assert_eq!(code, 2, "{arguments}: {stderr}");
        assert!(stderr.contains(message), "{arguments}: {stderr}");
    }
    let Some(_turn) = turn() else { return };
    let lab = Lab::up(Topology::Line, &Options::default()).unwrap();
    let no_link = "xtask: no link joins s1 and s9; links: s1-s2, s2-s3\n";
    assert_eq!(failure("lab cut s1 s9"), (2, no_link.to_owned()));
    let no_controller = "xtask: in topology line no agent reaches another without a controller: \
                         cargo xtask run --topology line\n";
    assert_eq!(failure("lab test"), (1, no_controller.to_owned()));
    drop(lab);
    let no_lab = "xtask: no lab is up: cargo xtask lab up builds one\n";
    assert_eq!(failure("lab cut s1 s2"), (1, no_lab.to_owned()));
    assert_nothing_left();
}

#[test]
fn agents_have_addresses_of_the_chosen_family_only() {
    let Some(_turn) = turn() else { return };
    for (families, has_v4, has_v6) in [(Families::V4, true, false), (Families::V6, false, true)] {
        let options = Options {
            families,
            ..Options::default()
        };
        let lab = Lab::up(Topology::Veth, &options).unwrap();
        let addresses = run(&mut lab.command("agent1", "ip", ["address", "show", "dev", "port1"]));
        assert_eq!(addresses.contains("10.1.1.5/24"), has_v4, "{addresses}");
        assert_eq!(addresses.contains("fd01:2345:6789:abc1::5/64"), has_v6, "{addresses}");
    }
    assert_nothing_left();
}

#[test]
fn patch_joins_two_bridges() {
    check_topology(Topology::Patch);
}

#[test]
fn vxlan_joins_two_hosts() {
    check_topology(Topology::Vxlan);
}

#[test]
fn veth_joins_without_a_switch() {
    check_topology(Topology::Veth);
}

#[test]
fn switch_joins_any_number_of_agents() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::up(
        Topology::Switch,
        &Options {
            agents: 5,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(lab.agents().len(), 5);
    for agent in &lab.agents()[1..] {
        ping(&lab, "agent1", &agent.v4.to_string());
        ping(&lab, &agent.namespace, &lab.agents()[0].v6.to_string());
    }
    drop(lab);
    assert_nothing_left();
}

#[test]
fn routers_join_the_subnets_of_a_fleet_and_can_be_black_holes() {
    let Some(_turn) = turn() else { return };
    let options = Options {
        agents: 5,
        ..Options::default()
    };
    let lab = Lab::up(Topology::Fleet, &options).unwrap();
    let hub = lab.hub();
    let agents = lab.agents();
    for agent in agents {
        ping(&lab, &agent.namespace, &hub.v4.to_string());
        ping(&lab, &hub.namespace, &agent.v6.to_string());
    }
    // Of its subnet only: this one, its neighbour, the router and the bridge.
    let ping_all = ["-c", "2", "-W", "1", "ff02::1%port1"];
    let answers = lab.command("agent1", "ping", ping_all).output().unwrap().stdout;
    let answers = String::from_utf8_lossy(&answers).into_owned();
    let others: BTreeSet<_> = answers
        .lines()
        .filter_map(|line| line.split("bytes from ").nth(1))
        .collect();
    let others: BTreeSet<_> = others.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(others.len(), 4, "{answers}");

    let [near, far] = [&agents[0], &agents[1]];
    let reaches =
        |from: &AgentNs, to: &AgentNs| !ping_rtts(&ping_times(&lab, &from.namespace, &to.v4.to_string(), 1)).is_empty();
    lab.black_hole(near, far).unwrap();
    assert!(
        !reaches(near, far) && !reaches(far, near),
        "a ping needs both directions"
    );
    assert!(reaches(near, &agents[2]) && reaches(&agents[3], far));
    lab.fill_black_hole(near, far).unwrap();
    assert!(reaches(near, far) && reaches(far, near));
    let error = lab.black_hole(near, &agents[4]).unwrap_err().to_string();
    assert_eq!(error, "no router is between agent1 and agent5");
    drop(lab);
    assert_nothing_left();
}

#[test]
fn delay_adds_20_and_30_milliseconds() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::up(Topology::Delay, &Options::default()).unwrap();
    assert!(lab.delayed_by().is_some());
    for address in [lab.agents()[1].v4.to_string(), lab.agents()[1].v6.to_string()] {
        let mut rtts = ping_rtts(&ping_times(&lab, "agent1", &address, 20));
        rtts.sort_by(f64::total_cmp);
        let median = rtts[rtts.len() / 2];
        assert!((50.0..54.0).contains(&median), "{median} ms, of {rtts:?}");
    }
    drop(lab);
    assert_nothing_left();
}

#[test]
fn delay_line_drops_the_given_share() {
    let Some(_turn) = turn() else { return };
    let mut options = Options::default();
    options.delay.left_to_right.delay = Duration::from_millis(1);
    options.delay.right_to_left.delay = Duration::from_millis(1);
    options.delay.right_to_left.loss = 0.25;
    let lab = Lab::up(Topology::Delay, &options).unwrap();
    let received = ping_rtts(&ping_times(&lab, "agent1", "10.1.1.6", 200)).len();
    assert!(
        (110..190).contains(&received),
        "{received} of 200 with a loss of a quarter"
    );
}

#[test]
fn hurts_delay_drop_and_stall() {
    let Some(_turn) = turn() else { return };
    let hurt = |hurts: &str| {
        let options = Options {
            hurts: hurts.split(' ').map(|hurt| hurt.parse().unwrap()).collect(),
            ..Options::default()
        };
        let lab = Lab::up(Topology::Vxlan, &options).unwrap();
        let mut rtts = ping_rtts(&ping_times(&lab, "agent1", "10.1.1.6", 100));
        rtts.sort_by(f64::total_cmp);
        rtts
    };
    for segment in ["underlay", "own-switch", "far-switch"] {
        let rtts = hurt(&format!("{segment}:5ms"));
        let median = rtts[rtts.len() / 2];
        assert!((5.0..9.0).contains(&median), "{segment}: {median} ms, of {rtts:?}");
    }
    let received = hurt("far-switch:loss=25% underlay:1ms").len();
    assert!(
        (55..95).contains(&received),
        "{received} of 100 with a loss of a quarter"
    );
    let rtts = hurt("own-switch:stall=100ms");
    let slow = rtts.iter().filter(|&&rtt| rtt > 10.0).count();
    assert!((1..30).contains(&slow), "{slow} of 100, a tenth of the time: {rtts:?}");
    assert_nothing_left();
}

#[test]
fn multicast_crosses_every_switch() {
    let Some(_turn) = turn() else { return };
    for topology in [Topology::Patch, Topology::Vxlan, Topology::Delay] {
        let lab = Lab::up(topology, &Options::default()).unwrap();
        // Every host joins this group and answers.
        let answer = lab
            .command("agent1", "ping", ["-c", "2", "-W", "2", "ff02::1%port1"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&answer.stdout);
        let others = text.lines().filter(|line| line.contains("bytes from fe80::")).count();
        assert!(others >= 3, "{topology:?}: no answer from the other side:\n{text}");
    }
}

#[test]
fn lab_is_removed_after_a_panic() {
    let Some(_turn) = turn() else { return };
    let outcome = thread::spawn(|| {
        let _lab = Lab::up(Topology::Patch, &Options::default()).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    assert_nothing_left();
}

#[test]
fn existing_namespace_is_refused_and_left_alone() {
    let Some(_turn) = turn() else { return };
    ip(&["netns", "add", "agent2"]);
    let refusal = Lab::up(Topology::Patch, &Options::default()).map(drop);
    let still_there = Path::new("/run/netns/agent2").exists();
    let others = ["agent1", "switch1"].map(|name| Path::new("/run/netns").join(name).exists());
    ip(&["netns", "delete", "agent2"]);
    let message = format!("{:#}", refusal.unwrap_err());
    assert!(message.starts_with("namespace agent2 exists; a lab is up"), "{message}");
    assert!(still_there);
    assert_eq!(others, [false, false]);
    assert_nothing_left();
}

#[test]
fn kept_lab_blocks_the_next_and_is_removed_even_if_half_of_it_is_gone() {
    let Some(_turn) = turn() else { return };
    assert!(xtask(&["lab", "up", "--topology", "patch"]));
    assert!(Lab::up(Topology::Veth, &Options::default()).is_err());
    ip(&["netns", "delete", "agent2"]);
    let pid = fs::read_to_string("/run/kstamp-lab/switch1/ovs-vswitchd.pid").unwrap();
    kill(&["-KILL", pid.trim()]);
    assert!(lab::down().unwrap());
    assert_nothing_left();
    assert!(!lab::down().unwrap(), "there is nothing left to remove");
}

#[test]
fn lab_is_removed_when_its_owner_is_killed() {
    let Some(_turn) = turn() else { return };
    let mut owner = Owner::start("delay");
    owner.0.kill().unwrap();
    owner.0.wait().unwrap();
    assert!(exec::wait_until(LIMIT, || left().is_empty()), "left: {:?}", left());
}

#[test]
fn lab_is_removed_when_its_owner_is_terminated() {
    let Some(_turn) = turn() else { return };
    let mut owner = Owner::start("vxlan");
    assert!(!xtask(&["lab", "down"]), "a lab in use is not removed");
    kill(&[&owner.0.id().to_string()]);
    assert!(owner.0.wait().unwrap().success());
    assert_nothing_left();
}

#[test]
fn down_removes_the_lab_after_a_crash_of_owner_and_guard() {
    let Some(_turn) = turn() else { return };
    let mut owner = Owner::start("delay");
    let guards = Command::new("pgrep")
        .args(["-P", &owner.0.id().to_string(), "xtask"])
        .output()
        .unwrap();
    for guard in String::from_utf8_lossy(&guards.stdout).lines() {
        let command = fs::read(format!("/proc/{guard}/cmdline")).unwrap();
        if String::from_utf8_lossy(&command).contains("guard") {
            kill(&["-KILL", guard]);
        }
    }
    owner.0.kill().unwrap();
    owner.0.wait().unwrap();
    assert!(!left().is_empty(), "no process removes it");
    assert!(lab::down().unwrap());
    assert_nothing_left();
}

#[test]
fn command_has_the_process_id_of_its_program_and_ends_with_the_lab() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::up(Topology::Veth, &Options::default()).unwrap();
    let mut sleeper = lab.command("agent1", "sleep", ["60"]).spawn().unwrap();
    let name = || fs::read_to_string(format!("/proc/{}/comm", sleeper.id())).unwrap();
    assert!(exec::wait_until(LIMIT, || name().trim() == "sleep"));
    let interfaces = lab.command("agent2", "ls", ["/sys/class/net"]).output().unwrap();
    assert!(String::from_utf8_lossy(&interfaces.stdout).contains("port2"));
    drop(lab);
    assert!(sleeper.try_wait().unwrap().is_some());
    let absent = Command::new(XTASK).args(["lab", "status"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&absent.stdout), "no lab is up\n");
}

/// A process that holds a lab, as `cargo xtask run` does.
struct Owner(KillOnDrop);

impl Owner {
    fn start(topology: &str) -> Self {
        let arguments = ["lab", "up", "--hold", "--topology", topology];
        let mut owner = Self(support::start(
            Command::new(XTASK).args(arguments).stderr(Stdio::piped()),
        ));
        let mut lines = std::io::BufReader::new(owner.0.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("Ctrl-C removes it") {
            let read = std::io::BufRead::read_line(&mut lines, &mut text).unwrap();
            assert!(read > 0, "it does not come up: {text}");
        }
        // It must be able to print more.
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        owner
    }
}

fn check_topology(topology: Topology) {
    let Some(_turn) = turn() else { return };
    let started = Instant::now();
    let lab = Lab::up(topology, &Options::default()).unwrap();
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    let names: Vec<_> = lab
        .agents()
        .iter()
        .map(|agent| format!("{} {}", agent.namespace, agent.interface))
        .collect();
    assert_eq!(names, ["agent1 port1", "agent2 port2"]);
    ping(&lab, "agent1", "10.1.1.6");
    ping(&lab, "agent2", "10.1.1.5");
    ping(&lab, "agent1", "fd01:2345:6789:abc1::6");
    ping(&lab, "agent2", "fd01:2345:6789:abc1::5");
    drop(lab);
    assert_nothing_left();
}

fn ping(lab: &Lab, from: &str, to: &str) {
    let text = ping_times(lab, from, to, 3);
    assert!(!ping_rtts(&text).is_empty(), "{from} does not reach {to}:\n{text}");
}

fn ping_times(lab: &Lab, from: &str, to: &str, count: u32) -> String {
    let output = lab
        .command(
            from,
            "ping",
            ["-n", "-i", "0.02", "-W", "1", "-c", &count.to_string(), to],
        )
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What exists of any lab: namespaces, interfaces, processes, files.
fn left() -> Vec<String> {
    let namespaces = NAMES.iter().map(|name| format!("/run/netns/{name}"));
    let links = ["port1", "port2", "u1", "u2", "ovs1", "ovs2"].map(|name| format!("/sys/class/net/{name}"));
    let files = ["/run/kstamp-lab".to_owned()];
    let mut left: Vec<_> = namespaces
        .chain(links)
        .chain(files)
        .filter(|path| Path::new(path).exists())
        .collect();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains("/run/kstamp-lab/") || command.contains("xtask forward") || command.contains("lab guard") {
            left.push(command);
        }
    }
    left
}

fn assert_nothing_left() {
    assert_eq!(left(), Vec::<String>::new());
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn kill(arguments: &[&str]) {
    run(Command::new("kill").args(arguments));
}

fn xtask(arguments: &[&str]) -> bool {
    Command::new(XTASK)
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// The tests of this file check the whole machine, so they take turns; `None` where they cannot run.
fn turn() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    can_run().then(|| TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}
