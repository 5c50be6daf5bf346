//! `cargo xtask bench metrics`: size and time of a scrape, and whether scrapes delay probes.
//!
//! 2,000 peers on one path have as many series as 1,000 peers on two. A probe is late by the time between when it was due and
//! when it left the host (T1). Of each peer, the earliest probe counts as in time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bench::peers::{Behind, PEERS_OF_A_REFLECTOR, addresses, pause, reflectors, start};
use crate::bench::place::Place;
use crate::bench::session::cores_in_use;
use crate::{exec, run, signals};

const PEERS: usize = 2_000;
const INTERVAL: Duration = Duration::from_secs(1);

/// Names are exchanged, and histograms grow.
const WARM_UP: Duration = Duration::from_secs(20);

/// Rounds, each with a phase without scrapes and one with a scrape each second.
const ROUNDS: usize = 4;
const PHASE: Duration = Duration::from_secs(10);
const SCRAPES_OF_A_PHASE: u32 = 10;

/// How long kstamp may take to end, and to answer.
const END_TIMEOUT: Duration = Duration::from_secs(30);
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Goals: of the median, and of the compressed body.
const GOAL: Duration = Duration::from_millis(100);
const GOAL_BYTES: usize = 2_000_000;

const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// `bench metrics`.
#[derive(Clone, Debug, Args)]
pub struct MetricsArguments {
    /// Path of a built kstamp; set-up and building are skipped.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
}

/// One reply.
struct Scrape {
    took: Duration,
    bytes: usize,
}

pub(super) fn run(arguments: &MetricsArguments) -> Result<ExitCode> {
    let kstamp = run::built(arguments.built.as_deref())?;
    signals::catch()?;
    let place = Place::up(&kstamp)?;
    let _behind = Behind::up(&place)?;
    exec::run("ip", ["-n", &place.near.namespace, "link", "set", "lo", "up"])?;
    eprintln!("bench: veth pair, {}", cores_in_use()?);
    let _reflectors = reflectors(&place, &kstamp)?;
    let listen = format!("{}:9862", place.near.v4);
    let samples = place.file("samples");
    let mut agent = place.at_near(&kstamp, ["agent", "--iface", &place.near.interface]);
    agent.args("--no-group --family v4 --format jsonl --timeout 2s --report 10s".split(' '));
    agent.args([
        "--interval",
        &format!("{}ms", INTERVAL.as_millis()),
        "--listen",
        &listen,
        "--samples",
    ]);
    agent.arg(&samples);
    let all = [97, 98].map(|net| addresses(net, PEERS_OF_A_REFLECTOR)).concat();
    all.iter().take(PEERS).for_each(|peer| {
        agent.args(["--peer", peer]);
    });
    let mut agent = start(&place, agent, "agent")?;
    pause(WARM_UP)?;
    let (mut alone, mut scraped, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
    let mut cpu = Duration::ZERO;
    for _ in 0..ROUNDS {
        let begin = unix_ns();
        pause(PHASE)?;
        alone.push(begin..unix_ns());
        let (begin, cpu_before) = (unix_ns(), cpu_of_server(&agent)?);
        for _ in 0..SCRAPES_OF_A_PHASE {
            let next = Instant::now() + PHASE / SCRAPES_OF_A_PHASE;
            scrapes.push(scrape(&place, &listen, "gzip")?);
            pause(next.saturating_duration_since(Instant::now()))?;
        }
        scraped.push(begin..unix_ns());
        cpu += cpu_of_server(&agent)? - cpu_before;
    }
    let plain = scrape(&place, &listen, "identity")?;
    kill(Pid::from_raw(agent.id().cast_signed()), Signal::SIGINT).context("cannot end the agent")?;
    if exec::wait_within(&mut agent, END_TIMEOUT)?.is_none() {
        bail!("the agent did not end within {} s", END_TIMEOUT.as_secs());
    }
    let text = fs::read_to_string(&samples).context("cannot read the samples")?;
    let late = lateness(&text);
    println!("a scrape of {PEERS} peers and paths, protobuf with native histograms");
    let bytes = scrapes.iter().map(|scrape| scrape.bytes).max().unwrap_or_default();
    let mut times: Vec<_> = scrapes.iter().map(|scrape| scrape.took).collect();
    times.sort();
    println!(
        "  {:.2} MB with gzip (goal: {:.1}), {:.2} MB plain",
        bytes as f64 / 1e6,
        GOAL_BYTES as f64 / 1e6,
        plain.bytes as f64 / 1e6
    );
    println!(
        "  {:.0} ms to {:.0} ms, median {:.0} ms (goal: {}); plain {:.0} ms",
        millis(times.first()),
        millis(times.last()),
        millis(times.get(times.len() / 2)),
        GOAL.as_millis(),
        millis(Some(&plain.took)),
    );
    println!(
        "  {:.0} ms of CPU each, with the windows of that second",
        millis(Some(&(cpu / scrapes.len() as u32)))
    );
    println!("lateness of probes, p50 and p99 in µs, by round");
    for (name, phases) in [("without scrapes", &alone), ("a scrape each second", &scraped)] {
        let cells: Vec<_> = phases
            .iter()
            .map(|phase| {
                let mut of_phase: Vec<_> = late
                    .iter()
                    .filter(|(at, _)| phase.contains(at))
                    .map(|(_, ns)| *ns)
                    .collect();
                of_phase.sort_unstable();
                let quantile = |part: usize| {
                    of_phase
                        .get(of_phase.len() * part / 100)
                        .map_or(0.0, |&ns| ns as f64 / 1e3)
                };
                format!("{:>7.0} {:>7.0}", quantile(50), quantile(99))
            })
            .collect();
        println!("  {name:<22} {}", cells.join("  |"));
    }
    Ok(ExitCode::SUCCESS)
}

/// CPU time of the thread that serves: on a busy machine it says more than the time that a scrape takes.
fn cpu_of_server(agent: &Child) -> Result<Duration> {
    for task in fs::read_dir(format!("/proc/{}/task", agent.id()))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim_end() == "kstamp-http" {
            let used = fs::read_to_string(task.join("schedstat"))?;
            let ns = used.split(' ').next().and_then(|ns| ns.parse().ok());
            return Ok(Duration::from_nanos(ns.context("no time in schedstat")?));
        }
    }
    bail!("the agent has no thread kstamp-http")
}

fn millis(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// As Prometheus does it, over a connection of its own.
fn scrape(place: &Place, address: &str, encoding: &str) -> Result<Scrape> {
    let ask = || -> Result<Scrape> {
        place.enter_near()?;
        let begin = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: {PROTOBUF}\r\n\
             Accept-Encoding: {encoding}\r\n\r\n"
        )?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let took = begin.elapsed();
        let head = reply
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .context("no reply")?;
        if !reply.starts_with(b"HTTP/1.1 200 ") {
            bail!("{}", String::from_utf8_lossy(&reply[..head]));
        }
        Ok(Scrape {
            took,
            bytes: reply.len() - head - 4,
        })
    };
    let thread = thread::scope(|scope| scope.spawn(ask).join());
    thread
        .map_err(|_| anyhow::anyhow!("the client failed"))?
        .context("cannot scrape")
}

/// T1 of each probe, and how late it was, in nanoseconds.
fn lateness(text: &str) -> Vec<(u64, u64)> {
    let interval_ns = INTERVAL.as_nanos() as u64;
    let mut by_peer: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for sample in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let [t1_ns, seq] = ["t1_ns", "seq"].map(|field| sample[field].as_u64());
        if let (Some(t1_ns), Some(seq), Some(peer)) = (t1_ns, seq, sample["peer"].as_str()) {
            by_peer.entry(peer.to_owned()).or_default().push((t1_ns, seq));
        }
    }
    let of_peer = |probes: Vec<(u64, u64)>| {
        let phase = |(t1_ns, seq): (u64, u64)| t1_ns.saturating_sub(seq * interval_ns);
        let first = probes.iter().copied().map(phase).min().unwrap_or_default();
        probes
            .into_iter()
            .map(move |probe| (probe.0, phase(probe) - first))
            .collect::<Vec<_>>()
    };
    by_peer.into_values().flat_map(of_peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_late_against_the_earliest_of_its_peer() {
        let line = |peer: &str, seq: u64, late: u64| {
            let t1 = 5_000_000_000 + seq * 1_000_000_000 + late;
            format!("{{\"peer\":\"{peer}\",\"seq\":{seq},\"t1_ns\":{t1}}}\n")
        };
        let text = [
            line("a", 0, 70),
            line("b", 0, 500),
            line("a", 1, 50),
            line("b", 3, 900),
            "{}\n".to_owned(),
        ]
        .concat();
        let mut late: Vec<_> = lateness(&text).into_iter().map(|(_, ns)| ns).collect();
        late.sort_unstable();
        assert_eq!(late, [0, 0, 20, 400]);
    }
}
