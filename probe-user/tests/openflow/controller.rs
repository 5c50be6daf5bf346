//! `kstamp controller` with a hundred switches: speed of discovery, and cost.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::address::free_address;
use crate::sim::{Network, Topology};
use crate::support::release_binary;

const SWITCHES: u64 = 100;
const PORTS: u32 = 8;
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// Time of the measurement of CPU time, after all links are found.
const OBSERVED: Duration = Duration::from_secs(10);
const MAX_CORE_SHARE: f64 = 0.30;
const MAX_MEMORY_KIB: u64 = 64 * 1024;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    /// Time on a processor of all threads, which live as long as it does. What `/proc/…/stat` says is counted in ticks.
    fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let ran_ns = threads.map(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            stat.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(ran_ns.sum())
    }

    /// The most memory it ever had.
    fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn a_hundred_switches_are_discovered_and_cost_little() {
    let Some(kstamp) = release_binary() else {
        return;
    };
    let address = free_address();
    let mut child = Command::new(kstamp)
        .args(["controller", "--format", "jsonl", "--report", "1s", "--listen"])
        .arg(address.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let at = Instant::now();
            if sender
                .send((at, serde_json::from_str::<Value>(&line).unwrap()))
                .is_err()
            {
                return;
            }
        }
    });
    let mut controller = Running(child);
    // It listens before switches are started.
    let until = Instant::now() + FOUND_WITHIN;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(
            Instant::now() < until && controller.0.try_wait().unwrap().is_none(),
            "it does not listen"
        );
        std::thread::sleep(Duration::from_millis(20));
    }

    let topology = Topology::ring(SWITCHES, PORTS);
    let expected = topology.links.len() / 2;
    let begin = Instant::now();
    let _network = Network::start(address, topology);
    let mut found = std::collections::HashSet::new();
    let took = loop {
        let left = FOUND_WITHIN.saturating_sub(begin.elapsed());
        let Ok((at, line)) = lines.recv_timeout(left) else {
            panic!("{} of {expected} links found in {FOUND_WITHIN:?}", found.len());
        };
        if line["type"] == "link" && line["state"] != "missing" {
            let mut ends = [line["from"].to_string(), line["to"].to_string()];
            ends.sort();
            found.insert(ends);
        }
        if found.len() == expected {
            break at - begin;
        }
    };

    let (cpu, since) = (controller.cpu(), Instant::now());
    std::thread::sleep(OBSERVED);
    let share = (controller.cpu() - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    let memory = controller.peak_memory_kib();
    println!(
        "{expected} links found in {took:?}; {:.1} % of a core; {memory} KiB at most",
        share * 100.0
    );
    assert!(share < MAX_CORE_SHARE, "{:.1} % of a core", share * 100.0);
    assert!(memory < MAX_MEMORY_KIB, "{memory} KiB");

    kill(controller.pid(), Signal::SIGINT).unwrap();
    let until = Instant::now() + FOUND_WITHIN;
    while controller.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let summary = lines
        .iter()
        .map(|(_, line)| line)
        .find(|line| line["type"] == "summary");
    println!("{}", summary.expect("no summary"));
}
