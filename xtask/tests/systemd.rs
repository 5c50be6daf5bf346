//! The package of kstamp in a Debian whose first process is systemd: see `xtask/src/vm/debian.rs`. Elsewhere these tests
//! are skipped, because they install and remove the package.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Agent, count, run};
use tempfile::TempDir;
use xtask::exec;
use xtask::vm::guest::PACKAGES;

const AGENT: &str = "kstamp-agent@svc0.service";
const REFLECTOR: &str = "kstamp-reflect@svc0.service";

/// The interface of the services.
const PORT: &str = "svc0";
const ADDRESS: &str = "192.0.2.1";

/// The other end of its cable, in a namespace.
const NAMESPACE: &str = "peer";
const PEER_PORT: &str = "peer0";
const PEER: &str = "192.0.2.2";

/// What systemd, dpkg or kstamp may take for one step.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the peer probes before and after a change.
const CALM: Duration = Duration::from_secs(3);

/// The fewest probes in a typical second of a peer that would send one each millisecond, were its processor not emulated.
const MIN_RATE: u64 = 200;

#[test]
fn the_first_table_is_there_within_a_minute_of_the_package() {
    let Some(cable) = Cable::new() else { return };
    install(Version::Old);
    let peer = cable.peer("reflect", "");
    peer.await_start(LIMIT);
    purge();
    let begin = Instant::now();
    install(Version::Old);
    let service = Service::enable(AGENT, cable);
    let has_table = || {
        service
            .journal()
            .lines()
            .any(|line| line.trim_start().starts_with(PEER))
    };
    let found = exec::wait_until(Duration::from_secs(60), has_table);
    let taken = begin.elapsed();
    assert!(
        found && taken < Duration::from_secs(60),
        "{taken:?}: {}",
        service.journal()
    );
    println!("from the package to the first table: {taken:.1?}");

    systemctl(&format!("stop {AGENT}"));
    let journal = service.journal();
    assert!(journal.contains("Summary of "), "{journal}");
    // Before TCX, filters of a killed process would stay.
    peer.stop();
    assert_nothing_is_attached();
}

#[test]
fn reload_and_restart_lose_no_probe() {
    for unit in [REFLECTOR, AGENT] {
        let Some(service) = Service::start(unit) else { return };
        let load = service.load();
        systemctl(&format!("reload {unit}"));
        let before = service.process();
        systemctl(&format!("restart {unit}"));
        assert_ne!(service.process(), before);
        load.end_without_loss();
    }
}

#[test]
fn a_killed_service_is_started_again_and_loses_no_probe() {
    let Some(service) = Service::start(REFLECTOR) else {
        return;
    };
    let load = service.load();
    service.await_restart(Signal::SIGKILL);
    load.end_without_loss();
}

#[test]
fn a_service_that_hangs_is_started_again_and_loses_no_probe() {
    let drop_in = DropIn::new(REFLECTOR, "[Service]\nWatchdogSec=2\n");
    let Some(service) = Service::start(REFLECTOR) else {
        return;
    };
    let load = service.load();
    service.await_restart(Signal::SIGSTOP);
    let journal = service.journal();
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    load.end_without_loss();
    drop(drop_in);
}

#[test]
fn an_upgrade_loses_no_probe() {
    let Some(service) = Service::start(REFLECTOR) else {
        return;
    };
    let before = service.process();
    let load = service.load();
    install(Version::New);
    let is_replaced = || is_active(REFLECTOR) && service.process() != before;
    assert!(exec::wait_until(LIMIT, is_replaced), "{}", service.journal());
    load.end_without_loss();
}

#[test]
fn a_service_follows_its_interface() {
    let Some(cable) = Cable::new() else { return };
    install(Version::Old);
    let service = Service::enable(REFLECTOR, cable);
    run(Command::new("ip").args(["link", "delete", PORT]));
    assert!(exec::wait_until(LIMIT, || !is_active(REFLECTOR)), "it still runs");
    let again = Cable::new();
    assert!(
        exec::wait_until(LIMIT, || is_active(REFLECTOR)),
        "{}",
        service.journal()
    );
    drop(again);
}

#[test]
fn units_are_free_of_mistakes() {
    if !can_run() {
        return;
    }
    install(Version::Old);
    let units = [AGENT, REFLECTOR, "kstamp-controller.service", "kstamp-hub.service"];
    let output = exec::output(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units)).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn a_purge_leaves_nothing() {
    let Some(service) = Service::start(REFLECTOR) else {
        return;
    };
    systemctl(&format!("enable {REFLECTOR}"));
    purge();
    assert!(!is_active(REFLECTOR));
    assert_nothing_is_attached();
    let places = ["/etc", "/usr", "/var", "/run", "/sys/fs/bpf"];
    let left = run(Command::new("find").args(places).args(["-name", "*kstamp*"]));
    assert_eq!(left, "");
    drop(service);
}

/// Whether this is a guest with the packages and systemd; prints why not.
fn can_run() -> bool {
    let can = env::var_os(PACKAGES).is_some() && Path::new("/run/systemd/system").exists();
    if !can {
        println!("SKIPPED: this is no guest with systemd");
    }
    can
}

fn systemctl(arguments: &str) -> String {
    run(Command::new("systemctl").args(arguments.split(' ')))
}

fn is_active(unit: &str) -> bool {
    systemctl(&format!("show -P ActiveState {unit}")).trim() == "active"
}

/// Of the two packages that the guest has.
#[derive(Clone, Copy)]
enum Version {
    Old,
    New,
}

/// Installs this version, unless it is installed.
fn install(version: Version) {
    let directory = PathBuf::from(env::var_os(PACKAGES).unwrap());
    let mut packages: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    packages.sort();
    let package = &packages[version as usize];
    let field = |command: &mut Command| exec::capture(command).unwrap_or_default();
    let wanted = field(Command::new("dpkg-deb").arg("-f").arg(package).arg("Version"));
    let installed = field(Command::new("dpkg-query").args(["-W", "-f", "${Version}\n", "kstamp"]));
    if installed != wanted {
        run(Command::new("dpkg").arg("--install").arg(package));
    }
}

fn purge() {
    run(Command::new("dpkg").args(["--purge", "kstamp"]));
}

/// No program is on the port, nor anywhere else.
fn assert_nothing_is_attached() {
    let link = run(Command::new("ip").args(["-details", "link", "show", PORT]));
    assert!(!link.contains("xdp"), "{link}");
    let qdiscs = run(Command::new("tc").args(["qdisc", "show", "dev", PORT]));
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
    let programs = || run(Command::new("bpftool").args(["prog", "show"]));
    let is_ours = |line: &str| [": xdp ", ": sched_cls "].iter().any(|kind| line.contains(kind));
    let are_gone = || !programs().lines().any(is_ours);
    assert!(exec::wait_until(LIMIT, are_gone), "{}", programs());
}

/// A drop-in of a unit, for the length of a test.
struct DropIn(PathBuf);

impl DropIn {
    fn new(unit: &str, text: &str) -> Option<Self> {
        can_run().then(|| {
            let directory = PathBuf::from(format!("/run/systemd/system/{unit}.d"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("test.conf"), text).unwrap();
            systemctl("daemon-reload");
            Self(directory)
        })
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
        systemctl("daemon-reload");
    }
}

/// The port, and its peer in a namespace.
struct Cable {
    scratch: TempDir,
}

impl Cable {
    fn new() -> Option<Self> {
        can_run().then(|| {
            let ip = |arguments: String| run(Command::new("ip").args(arguments.split(' ')));
            // Neither is there at first.
            let _ = exec::run("ip", ["netns", "delete", NAMESPACE]);
            ip(format!("netns add {NAMESPACE}"));
            ip(format!(
                "link add {PORT} type veth peer name {PEER_PORT} netns {NAMESPACE}"
            ));
            for (place, port, address) in [("", PORT, ADDRESS), ("-n peer ", PEER_PORT, PEER)] {
                ip(format!("{place}address add {address}/24 dev {port}"));
                ip(format!("{place}link set {port} up"));
            }
            let scratch = tempfile::tempdir().unwrap();
            Self { scratch }
        })
    }

    /// A kstamp at the other end.
    fn peer(&self, command: &str, arguments: &str) -> Agent {
        let mut process = Command::new("ip");
        process.args(["netns", "exec", NAMESPACE, "kstamp", command, "--iface", PEER_PORT]);
        Agent::spawn(self.scratch.path(), NAMESPACE, process, arguments)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = exec::run("ip", ["netns", "delete", NAMESPACE]);
    }
}

/// A service of the package at the port.
struct Service {
    unit: &'static str,
    cable: Cable,
    begin: SystemTime,
}

impl Service {
    /// Starts it, of the older version, if it can run.
    fn start(unit: &'static str) -> Option<Self> {
        let cable = Cable::new()?;
        install(Version::Old);
        Some(Self::run(unit, cable, "start"))
    }

    /// Starts it now and whenever the port appears.
    fn enable(unit: &'static str, cable: Cable) -> Self {
        Self::run(unit, cable, "enable --now")
    }

    fn run(unit: &'static str, cable: Cable, how: &str) -> Self {
        let begin = SystemTime::now();
        systemctl(&format!("{how} {unit}"));
        Self { unit, cable, begin }
    }

    /// What the service, and systemd about it, have written.
    fn journal(&self) -> String {
        let begin = self.begin.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let since = format!("--since=@{begin:.3}");
        run(Command::new("journalctl").args(["--output=cat", &since, "--unit", self.unit]))
    }

    fn property(&self, name: &str) -> u32 {
        systemctl(&format!("show -P {name} {}", self.unit))
            .trim()
            .parse()
            .unwrap()
    }

    fn process(&self) -> u32 {
        self.property("MainPID")
    }

    /// Sends a signal, upon which systemd starts it again.
    fn await_restart(&self, signal: Signal) {
        let before: u32 = self.property("NRestarts");
        kill(Pid::from_raw(self.process().cast_signed()), signal).unwrap();
        let is_back = || self.property("NRestarts") == before + 1 && is_active(self.unit);
        assert!(exec::wait_until(LIMIT, is_back), "{}", self.journal());
    }

    /// Has the peer send a probe each millisecond.
    fn load(&self) -> Load {
        let arguments = format!("--family v4 --no-group --peer {ADDRESS} --interval 1ms --report 1s");
        let peer = self.cable.peer("agent", &arguments);
        peer.await_record(LIMIT, "replies", |record| {
            record["type"] == "window" && record["received"].as_u64() > Some(0)
        });
        sleep(CALM);
        Load(peer)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The test may have purged the package.
        let _ = exec::run("systemctl", ["disable", "--now", self.unit]);
    }
}

/// A peer that sends a probe each millisecond.
struct Load(Agent);

impl Load {
    fn end_without_loss(self) {
        sleep(CALM);
        let finished = self.0.stop().assert_success();
        let summary = finished.summary(ADDRESS, "unicast");
        for field in ["lost", "late", "collector_lost", "send_failed"] {
            assert_eq!(count(summary, field), 0, "{field}: {summary:#}\n{}", finished.stderr);
        }
        let mut rates: Vec<_> = finished
            .of_type("window")
            .into_iter()
            .map(|window| count(window, "sent"))
            .collect();
        rates.sort_unstable();
        let rate = rates[rates.len() / 2];
        println!("{} probes without loss, {rate} in a second", count(summary, "sent"));
        assert!(rate >= MIN_RATE, "{rates:?}");
    }
}
