//! `cargo xtask bench fleet`: a hub and a nats-server with very many ports, whose messages a third process sends.
//!
//! All three share this machine, and speak over loopback. `probe-hub/examples/simulated_fleet.rs` is the third.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::peers::cpu_s;
use crate::bench::session::cores_in_use;
use crate::exec::{self, KillOnDrop};
use crate::fleet::{PAGE, get};
use crate::lab::end_with_parent;
use crate::process::status_kib;
use crate::run::agent::Agent;
use crate::{run, setup, signals, workspace};

/// A hub takes 64 at most.
const PORTS_OF_A_HOST: u32 = 50;

const LISTEN: &str = "127.0.0.1:14222";

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Goals: cores of the hub, memory of server and hub, and age of the matrix.
const GOAL_CORES: f64 = 1.0;
const GOAL_MIB: f64 = 4096.0;
const GOAL_AGE_S: f64 = 10.0;

const DAY_S: f64 = 86_400.0;

/// `bench fleet`.
#[derive(Clone, Debug, Args)]
pub struct FleetArguments {
    /// Number of simulated ports.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    ports: u32,
    /// How long to measure, after all ports have their assignments.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    duration: humantime::Duration,
    /// Path of a built kstamp; its set-up and building are skipped.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
}

/// A hub with its server; both end when this is dropped.
struct Hub {
    agent: Agent,
    server: u32,
}

impl Hub {
    fn start(kstamp: &Path, state: &Path, log: &Path) -> Result<Self> {
        let nats_server = setup::ensure_nats_server()?;
        let mut command = hub_command(kstamp, state, &["hub"]);
        command.arg("--nats-server").arg(nats_server);
        command.args(["--nats-listen", LISTEN, "--listen", PAGE, "--neighbours", "32"]);
        let file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        end_with_parent(&mut command);
        let mut hub = Self {
            agent: Agent::start(command)?,
            server: 0,
        };
        let mut ended = false;
        let answers = exec::wait_until(START_TIMEOUT, || {
            ended = hub.agent.status().is_ok_and(|status| status.is_some());
            ended || get(PAGE, "/api/v1/hosts?limit=1").is_ok()
        });
        if ended || !answers {
            let printed = fs::read_to_string(log).unwrap_or_default();
            bail!(
                "the hub does not answer: {}",
                printed.lines().last().unwrap_or("it printed nothing")
            );
        }
        hub.server = child_of(hub.agent.id()).context("the hub has no nats-server")?;
        Ok(hub)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // A hub that is killed cannot end its server.
        let _ = self.agent.finish();
    }
}

fn hub_command(kstamp: &Path, state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(kstamp);
    command.args(arguments).arg("--state").arg(state);
    command.args(["--address", LISTEN]);
    command
}

/// CPU time and time, of the server, the hub and the simulator.
struct Reading {
    at: Instant,
    cpu_s: [f64; 3],
}

impl Reading {
    fn take(processes: [u32; 3]) -> Result<Self> {
        let mut reading = Self {
            at: Instant::now(),
            cpu_s: [0.0; 3],
        };
        for (cpu, pid) in reading.cpu_s.iter_mut().zip(processes) {
            let (user, system) = cpu_s(pid)?;
            *cpu = user + system;
        }
        Ok(reading)
    }

    /// Cores in use since then.
    fn cores_since(&self, before: &Self) -> [f64; 3] {
        let elapsed = (self.at - before.at).as_secs_f64();
        std::array::from_fn(|index| (self.cpu_s[index] - before.cpu_s[index]) / elapsed)
    }
}

pub(super) fn run(arguments: &FleetArguments) -> Result<ExitCode> {
    let kstamp = run::built(arguments.built.as_deref())?;
    let simulator = build_simulator()?;
    signals::catch()?;
    let directory = tempfile::tempdir_in(workspace::target_directory()).context("cannot make a directory")?;
    let state = directory.path().join("hub");
    let hosts = enroll(
        &kstamp,
        &state,
        directory.path(),
        arguments.ports.div_ceil(PORTS_OF_A_HOST).max(2),
    )?;
    eprintln!(
        "bench: {} ports of {} hosts, {}; the simulator shares them",
        arguments.ports,
        hosts.len(),
        cores_in_use()?
    );
    let hub = Hub::start(&kstamp, &state, &directory.path().join("log"))?;
    let seconds = Duration::from(arguments.duration).as_secs().max(1);
    let mut command = Command::new(&simulator);
    command
        .args([arguments.ports.to_string(), seconds.to_string()])
        .args(&hosts);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    end_with_parent(&mut command);
    let mut simulator = KillOnDrop(exec::spawn(&mut command)?);
    let processes = [hub.server, hub.agent.id(), simulator.id()];
    let stdout = simulator.stdout.take().context("the simulator has no output")?;
    let mut lines = BufReader::new(stdout);
    let begin = Reading::take(processes)?;
    let assigned = next(&mut lines)?;
    let (before, stored) = (Reading::take(processes)?, bytes_below(&state)?);
    let measured = next(&mut lines)?;
    let (after, stored_after) = (Reading::take(processes)?, bytes_below(&state)?);
    let ages = ages_s()?;
    let memory = processes.map(|pid| status_kib(pid, "VmHWM:").map_or(f64::NAN, |kib| kib as f64 / 1024.0));

    println!("{:<12} {:>14} {:>14} {:>9}", "", "cores at start", "cores", "MiB");
    let (start, steady) = (before.cores_since(&begin), after.cores_since(&before));
    for (index, name) in ["nats-server", "hub", "simulator"].into_iter().enumerate() {
        println!(
            "{name:<12} {:>14.2} {:>14.2} {:>9.0}",
            start[index], steady[index], memory[index]
        );
    }
    let figure = |record: &Value, name: &str| record[name].as_f64().unwrap_or(f64::NAN);
    let elapsed = (after.at - before.at).as_secs_f64();
    let day = DAY_S / elapsed;
    println!(
        "goals: hub {GOAL_CORES} core, server and hub {GOAL_MIB} MiB ({:.0})",
        memory[0] + memory[1]
    );
    println!(
        "assigned: all ports after {:.1} s, the last change after {:.1} s; {} assignments of {:.0} bytes",
        figure(&assigned, "all_assigned_s"),
        figure(&assigned, "last_assignment_s"),
        assigned["assignments"],
        figure(&assigned, "assignment_bytes") / figure(&assigned, "assignments"),
    );
    println!(
        "sent: {:.0} windows/s in {:.0} batches/s of {:.0} bytes, {:.0} bytes for a window; {} sent = {} acknowledged + {} \
         failed",
        figure(&measured, "windows") / elapsed,
        figure(&measured, "batches") / elapsed,
        figure(&measured, "bytes") / figure(&measured, "batches"),
        figure(&measured, "bytes") / figure(&measured, "windows"),
        measured["sent"],
        measured["acknowledged"],
        measured["failed"],
    );
    println!(
        "slowest acknowledgement {:.0} ms; {} assignments refused",
        figure(&measured, "slowest_ack_ns") / 1e6,
        measured["refused_assignments"]
    );
    println!(
        "a day: {:.1} GB sent, {:.1} GB on disk",
        figure(&measured, "bytes") * day / 1e9,
        stored_after.saturating_sub(stored) as f64 * day / 1e9
    );
    let [median, oldest] = [ages.len() / 2, ages.len() - 1].map(|index| ages[index]);
    println!(
        "matrix: the newest windows of {} pairs had ended {median:.2} s ago (median), the oldest {oldest:.2} s (goal: \
         {GOAL_AGE_S} s)",
        ages.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// Since the ends of the newest windows of many pairs, in ascending order.
fn ages_s() -> Result<Vec<f64>> {
    let reply = get(PAGE, "/api/v1/matrix?limit=20000")?;
    let pairs = reply["pairs"].as_array().context("the hub has no pairs")?;
    let now = SystemTime::now();
    let age_s = |pair: &Value| {
        let end = humantime::parse_rfc3339(pair["end"].as_str()?).ok()?;
        Some(now.duration_since(end).ok()?.as_secs_f64())
    };
    let mut ages: Vec<_> = pairs.iter().filter_map(age_s).collect();
    ages.sort_by(f64::total_cmp);
    anyhow::ensure!(!ages.is_empty(), "the hub has measured no pair");
    Ok(ages)
}

fn build_simulator() -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args("build --release --quiet -p probe-hub --example simulated_fleet".split(' '));
    let success = command.status().context("cannot start cargo")?.success();
    anyhow::ensure!(success, "`{}` failed", exec::line(&command));
    Ok(workspace::target_directory().join("release/examples/simulated_fleet"))
}

/// Returns the files of the hosts' credentials.
fn enroll(kstamp: &Path, state: &Path, directory: &Path, hosts: u32) -> Result<Vec<PathBuf>> {
    let enroll = |number| {
        signals::check()?;
        let name = format!("h{number}");
        let file = directory.join(format!("{name}.toml"));
        let mut command = hub_command(kstamp, state, &["hub", "enroll", &name, "--prefix", "10.0.0.0/8"]);
        exec::capture(command.arg("--output").arg(&file))?;
        Ok(file)
    };
    (0..hosts).map(enroll).collect()
}

/// The next line of the simulator.
fn next(lines: &mut BufReader<ChildStdout>) -> Result<Value> {
    let mut line = String::new();
    let read = lines.read_line(&mut line).context("cannot read from the simulator")?;
    signals::check()?;
    if read == 0 {
        bail!("the simulator has ended");
    }
    serde_json::from_str(&line).context("cannot read what the simulator says")
}

/// The first child of a process.
fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
        fields.and_then(|mut fields| fields.nth(1)) == Some(&*parent.to_string())
    })
}

/// The sizes of all files, as far as they take space.
fn bytes_below(directory: &Path) -> Result<u64> {
    let printed = exec::run("du", ["-s", "-B1", &directory.to_string_lossy()])?;
    let bytes = printed.split_whitespace().next().and_then(|bytes| bytes.parse().ok());
    bytes.with_context(|| format!("du printed {printed:?}"))
}
