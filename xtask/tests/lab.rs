//! The lab itself, for real: what it builds works, and what it made it removes, whatever happens.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is to end it where it happens")]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use xtask::{
    lab::{self, Lab, Options, Topology},
    privilege,
};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// How long something may take that is to happen at once.
const SOON: Duration = Duration::from_secs(10);

/// Every name that a lab gives.
const NAMES: [&str; 8] = [
    "agent1", "agent2", "agent3", "agent4", "host1", "host2", "switch1", "agent5",
];

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
fn delay_adds_20_and_30_milliseconds() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::up(Topology::Delay, &Options::default()).unwrap();
    assert!(lab.delay_line().is_some());
    for address in [lab.agents()[1].v4.to_string(), lab.agents()[1].v6.to_string()] {
        let rtts = rtts(&ping_times(&lab, "agent1", &address, 20));
        let median = rtts[rtts.len() / 2];
        assert!((50.0..54.0).contains(&median), "{median} ms, of {rtts:?}");
    }
    drop(lab);
    assert_nothing_left();
}

#[test]
fn the_line_loses_what_it_is_told_to() {
    let Some(_turn) = turn() else { return };
    let mut options = Options::default();
    options.delay.left_to_right.delay = Duration::from_millis(1);
    options.delay.right_to_left.delay = Duration::from_millis(1);
    options.delay.right_to_left.loss = 0.25;
    let lab = Lab::up(Topology::Delay, &options).unwrap();
    let received = rtts(&ping_times(&lab, "agent1", "10.1.1.6", 200)).len();
    assert!(
        (110..190).contains(&received),
        "{received} of 200 with a loss of a quarter"
    );
}

#[test]
fn multicast_crosses_every_switch() {
    let Some(_turn) = turn() else { return };
    for topology in [Topology::Patch, Topology::Vxlan, Topology::Delay] {
        let lab = Lab::up(topology, &Options::default()).unwrap();
        // Every host is in this group and answers.
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
fn a_panic_removes_the_lab() {
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
fn a_name_that_is_taken_is_refused_and_left_alone() {
    let Some(_turn) = turn() else { return };
    assert!(ip(&["netns", "add", "agent2"]));
    let refusal = Lab::up(Topology::Patch, &Options::default()).map(drop);
    let still_there = Path::new("/run/netns/agent2").exists();
    let others = ["agent1", "switch1"].map(|name| Path::new("/run/netns").join(name).exists());
    assert!(ip(&["netns", "delete", "agent2"]));
    let message = format!("{:#}", refusal.unwrap_err());
    assert!(message.starts_with("namespace agent2 exists; a lab is up"), "{message}");
    assert!(still_there);
    assert_eq!(others, [false, false]);
    assert_nothing_left();
}

#[test]
fn a_kept_lab_is_refused_and_then_removed_even_if_half_of_it_is_gone() {
    let Some(_turn) = turn() else { return };
    assert!(xtask(&["lab", "up", "--topology", "patch"]));
    assert!(Lab::up(Topology::Veth, &Options::default()).is_err());
    // Somebody did half the work by hand.
    assert!(ip(&["netns", "delete", "agent2"]));
    let pid = fs::read_to_string("/run/kstamp-lab/switch1/ovs-vswitchd.pid").unwrap();
    assert!(
        Command::new("kill")
            .args(["-KILL", pid.trim()])
            .status()
            .unwrap()
            .success()
    );
    assert!(lab::down().unwrap());
    assert_nothing_left();
    assert!(!lab::down().unwrap(), "there is nothing left to remove");
}

#[test]
fn a_killed_owner_leaves_nothing() {
    let Some(_turn) = turn() else { return };
    let mut owner = Owner::start("delay");
    owner.0.kill().unwrap();
    owner.0.wait().unwrap();
    assert!(eventually(|| left().is_empty()), "left: {:?}", left());
}

#[test]
fn a_terminated_owner_leaves_nothing() {
    let Some(_turn) = turn() else { return };
    let mut owner = Owner::start("vxlan");
    assert!(!xtask(&["lab", "down"]), "a lab in use is not to be removed");
    assert!(
        Command::new("kill")
            .arg(owner.0.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert!(owner.0.wait().unwrap().success());
    assert_nothing_left();
}

#[test]
fn down_removes_what_a_crash_of_owner_and_guard_left() {
    let Some(_turn) = turn() else { return };
    let mut owner = Owner::start("delay");
    let guards = Command::new("pgrep")
        .args(["-P", &owner.0.id().to_string(), "xtask"])
        .output()
        .unwrap();
    for guard in String::from_utf8_lossy(&guards.stdout).lines() {
        let command = fs::read(format!("/proc/{guard}/cmdline")).unwrap();
        if String::from_utf8_lossy(&command).contains("guard") {
            assert!(Command::new("kill").args(["-KILL", guard]).status().unwrap().success());
        }
    }
    owner.0.kill().unwrap();
    owner.0.wait().unwrap();
    assert!(!left().is_empty(), "nobody is there to remove it");
    assert!(lab::down().unwrap());
    assert_nothing_left();
}

#[test]
fn a_command_is_the_program_itself_and_ends_with_the_lab() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::up(Topology::Veth, &Options::default()).unwrap();
    let mut sleeper = lab.command("agent1", "sleep", ["60"]).spawn().unwrap();
    let name = || fs::read_to_string(format!("/proc/{}/comm", sleeper.id())).unwrap();
    assert!(eventually(|| name().trim() == "sleep"));
    let interfaces = lab.command("agent2", "ls", ["/sys/class/net"]).output().unwrap();
    assert!(String::from_utf8_lossy(&interfaces.stdout).contains("port2"));
    drop(lab);
    assert!(sleeper.try_wait().unwrap().is_some());
    let absent = Command::new(XTASK).args(["lab", "status"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&absent.stdout), "no lab is up\n");
}

/// A process that holds a lab, as `cargo xtask run` does.
struct Owner(Child);

impl Owner {
    fn start(topology: &str) -> Self {
        let arguments = ["lab", "up", "--hold", "--topology", topology];
        let child = Command::new(XTASK)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut owner = Self(child);
        let mut lines = std::io::BufReader::new(owner.0.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("Ctrl-C removes it") {
            let read = std::io::BufRead::read_line(&mut lines, &mut text).unwrap();
            assert!(read > 0, "it does not come up: {text}");
        }
        // Whatever it says later is of no interest, but it must be able to say it.
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        owner
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn check_topology(topology: Topology) {
    let Some(_turn) = turn() else { return };
    let started = Instant::now();
    let lab = Lab::up(topology, &Options::default()).unwrap();
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
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
    assert!(!rtts(&text).is_empty(), "{from} does not reach {to}:\n{text}");
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

/// The round trips in ping's output, in milliseconds, sorted.
fn rtts(text: &str) -> Vec<f64> {
    let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse().ok();
    let mut times: Vec<f64> = text.lines().filter_map(time).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// What stands of any lab: namespaces, interfaces, processes, files.
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

fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + SOON;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).status().unwrap().success()
}

fn xtask(arguments: &[&str]) -> bool {
    Command::new(XTASK)
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// The tests of this file look at the whole machine, so they take turns; `None` where they cannot run.
fn turn() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if let Some(reason) = privilege::why_no_root_tests() {
        println!("SKIPPED: {reason}");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}
