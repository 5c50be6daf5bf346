//! `cargo xtask bench peers`: memory and CPU time of an agent with very many peers.
//!
//! The peers are addresses of two reflectors: at the far end of the veth pair, and at the end of another pair behind it. One
//! interface can have fewer addresses than there are peers. All are reached by one next hop, because a kernel keeps 1,024
//! neighbours.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bench::place::Place;
use crate::bench::rate::figures::verdict;
use crate::bench::session::cores_in_use;
use crate::exec::{self, KillOnDrop};
use crate::lab::end_with_parent;
use crate::process::status_kib;
use crate::{run, signals};

/// Peers, interval, and goals: MiB, and per cent of a core in userspace if there is such a goal.
///
/// Kernels with `CONFIG_TICK_CPU_ACCOUNTING` split CPU time into user and system by what runs at each tick. 100 ms are 25 ticks of
/// 4 ms, which would always fall on the same moments of the interval; 99 ms are no whole number of them.
const ROWS: [(u32, Duration, u64, Option<f64>); 2] = [
    (1_000, Duration::from_millis(99), 64, Some(5.0)),
    (10_000, Duration::from_millis(999), 400, None),
];

/// Addresses of one reflector: an interface has at most 8,190.
pub(super) const PEERS_OF_A_REFLECTOR: u32 = 5_000;

/// The namespace behind the far end, its interface, and the interface of the far end towards it.
const BEHIND: &str = "bench-behind";
const BEHIND_PORT: &str = "behind1";
const TOWARDS_BEHIND: &str = "behind0";

/// How long kstamp may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Time before the measurement, in which names are exchanged and the first windows grow.
const WARM_UP: Duration = Duration::from_secs(12);

/// Length of the measurement: at least two report windows.
const MEASURED: Duration = Duration::from_secs(20);

/// How long kstamp may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// Clock ticks a second in `/proc/PID/stat` (`USER_HZ`).
const TICKS: f64 = 100.0;

/// `bench peers`.
#[derive(Clone, Debug, Args)]
pub struct PeersArguments {
    /// Also measure this kstamp, and print ratios to it.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Path of a built kstamp; set-up and building are skipped.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
}

/// Memory and CPU time of one run.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Peak memory until the start record, and after it.
    loading_kib: u64,
    running_kib: u64,
    /// CPU time during the measurement, its length, and the probes in that time.
    user_s: f64,
    system_s: f64,
    measured_s: f64,
    probes: f64,
    counts: Counts,
}

/// Counts of all peers in the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    sent: u64,
    received: u64,
    lost: u64,
    pending: u64,
    failed: u64,
    not_sent: u64,
}

pub(super) fn run(arguments: &PeersArguments) -> Result<ExitCode> {
    let kstamp = run::built(arguments.built.as_deref())?;
    signals::catch()?;
    let place = Place::up(&kstamp)?;
    let behind = Behind::up(&place)?;
    eprintln!("bench: veth pair, {}", cores_in_use()?);
    println!(
        "{:<22} {:>9} {:>9} {:>7} {:>7} {:>8} {:>8}  probes",
        "peers", "load MiB", "MiB", "user %", "sys. %", "user µs", "sys. µs"
    );
    for (peers, interval, goal_mib, goal_percent) in ROWS {
        let name = format!("{peers}, each {} ms", interval.as_millis());
        let taken = measure(&place, &behind, &kstamp, peers, interval)?;
        println!("{}", row(&name, &taken));
        if let Some(other) = &arguments.against {
            let before = measure(&place, &behind, other, peers, interval)?;
            println!("{}", row("  the other", &before));
            println!(
                "  ratio: memory {:.2}, CPU time per probe in userspace {:.2}",
                taken.running_kib as f64 / before.running_kib as f64,
                per_probe_us(taken.user_s, &taken) / per_probe_us(before.user_s, &before),
            );
        }
        println!("  {}", verdicts(&taken, goal_mib, goal_percent));
    }
    println!("\nload: peak memory until the start record, while programs are loaded. MiB: peak afterwards.");
    Ok(ExitCode::SUCCESS)
}

/// The goals of a row, and whether they are met.
fn verdicts(taken: &Taken, goal_mib: u64, goal_percent: Option<f64>) -> String {
    let memory = verdict(taken.running_kib <= goal_mib * 1024);
    let user = goal_percent.map_or_else(String::new, |goal| {
        let is_met = 100.0 * taken.user_s / taken.measured_s <= goal;
        format!("  user <= {goal} % of a core: {};", verdict(is_met))
    });
    let lost = verdict(taken.counts.lost == 0);
    format!("<= {goal_mib} MiB: {memory};{user}  0 lost: {lost}")
}

fn row(name: &str, taken: &Taken) -> String {
    let percent = |seconds: f64| 100.0 * seconds / taken.measured_s;
    let Counts {
        sent,
        received,
        lost,
        pending,
        failed,
        not_sent,
    } = taken.counts;
    format!(
        "{name:<22} {:>9.1} {:>9.1} {:>7.1} {:>7.1} {:>8.2} {:>8.2}  {sent} sent = {received} received + {lost} lost + \
         {pending} pending; {failed} failed, {not_sent} not sent",
        taken.loading_kib as f64 / 1024.0,
        taken.running_kib as f64 / 1024.0,
        percent(taken.user_s),
        percent(taken.system_s),
        per_probe_us(taken.user_s, taken),
        per_probe_us(taken.system_s, taken),
    )
}

fn per_probe_us(seconds: f64, taken: &Taken) -> f64 {
    seconds * 1e6 / taken.probes.max(1.0)
}

/// A namespace behind the far end; deleted when this is dropped.
pub(super) struct Behind;

impl Behind {
    pub(super) fn up(place: &Place) -> Result<Self> {
        let far = &place.far.namespace;
        exec::run("ip", ["netns", "add", BEHIND])?;
        let behind = Self;
        let ip = |namespace: &str, arguments: &str| {
            exec::run("ip", ["-n", namespace].into_iter().chain(arguments.split(' ')))
        };
        ip(
            far,
            &format!("link add {TOWARDS_BEHIND} type veth peer name {BEHIND_PORT} netns {BEHIND}"),
        )?;
        ip(far, &format!("addr add 10.99.0.1/30 dev {TOWARDS_BEHIND}"))?;
        ip(far, &format!("link set {TOWARDS_BEHIND} up"))?;
        ip(BEHIND, &format!("addr add 10.99.0.2/30 dev {BEHIND_PORT}"))?;
        ip(BEHIND, &format!("link set {BEHIND_PORT} up"))?;
        ip(BEHIND, "route add default via 10.99.0.1")?;
        ip(far, "route add 10.98.0.0/16 via 10.99.0.2")?;
        exec::run("ip", ["netns", "exec", far, "sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        ip(
            &place.near.namespace,
            &format!("route add 10.97.0.0/16 via {}", place.far.v4),
        )?;
        ip(
            &place.near.namespace,
            &format!("route add 10.98.0.0/16 via {}", place.far.v4),
        )?;
        let [near, behind_peers] = [97, 98].map(|net| addresses(net, PEERS_OF_A_REFLECTOR));
        add(place, far, &place.far.interface, &near)?;
        add(place, BEHIND, BEHIND_PORT, &behind_peers)?;
        Ok(behind)
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // The other end of the pair goes with it.
        let _ = exec::run("ip", ["netns", "delete", BEHIND]);
    }
}

pub(super) fn addresses(net: u8, count: u32) -> Vec<String> {
    (0..count)
        .map(|host| format!("10.{net}.{}.{}", host / 250, 1 + host % 250))
        .collect()
}

fn add(place: &Place, namespace: &str, interface: &str, addresses: &[String]) -> Result<()> {
    let batch = place.file("addresses");
    let lines = addresses.iter().fold(String::new(), |mut lines, address| {
        let _ = writeln!(lines, "addr add {address}/32 dev {interface}");
        lines
    });
    fs::write(&batch, lines).context("cannot write the list of addresses")?;
    exec::run("ip", ["-n", namespace, "-batch", &batch.to_string_lossy()]).map(drop)
}

/// The two reflectors that answer for all peers.
pub(super) fn reflectors(place: &Place, kstamp: &Path) -> Result<[KillOnDrop; 2]> {
    let allow = format!("{}/32", place.near.v4);
    let reflect = |name: &str, namespace: &str, interface: &str| {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(kstamp);
        command.args([
            "reflect", "--format", "jsonl", "--family", "v4", "--iface", interface, "--allow", &allow,
        ]);
        end_with_parent(&mut command);
        start(place, command, name)
    };
    Ok([
        reflect("far", &place.far.namespace, &place.far.interface)?,
        reflect("behind", BEHIND, BEHIND_PORT)?,
    ])
}

fn measure(place: &Place, _behind: &Behind, kstamp: &PathBuf, peers: u32, interval: Duration) -> Result<Taken> {
    signals::check()?;
    let _reflectors = reflectors(place, kstamp)?;
    let mut agent = place.at_near(kstamp, ["agent", "--iface", &place.near.interface]);
    agent.args("--no-group --family v4 --format jsonl --timeout 2s --report 10s".split(' '));
    agent.args(["--interval", &format!("{}ms", interval.as_millis())]);
    let all = [97, 98].map(|net| addresses(net, PEERS_OF_A_REFLECTOR)).concat();
    for peer in all.iter().take(peers as usize) {
        agent.args(["--peer", peer]);
    }
    let mut agent = start(place, agent, "agent")?;
    let pid = agent.id();
    let loading_kib = status_kib(pid, "VmHWM:")?;
    // Resets the peak that VmHWM shows (proc_pid_clear_refs(5)).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak of memory")?;
    pause(WARM_UP)?;
    let (begin, before) = (Instant::now(), cpu_s(pid)?);
    pause(MEASURED)?;
    let (measured_s, after) = (begin.elapsed().as_secs_f64(), cpu_s(pid)?);
    let running_kib = status_kib(pid, "VmHWM:")?;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).context("cannot end the agent")?;
    if exec::wait_within(&mut agent, END_TIMEOUT)?.is_none() {
        bail!("the agent did not end within {} s", END_TIMEOUT.as_secs());
    }
    let printed = fs::read_to_string(place.file("agent.out")).context("cannot read the results")?;
    Ok(Taken {
        loading_kib,
        running_kib,
        user_s: after.0 - before.0,
        system_s: after.1 - before.1,
        measured_s,
        probes: f64::from(peers) * measured_s / interval.as_secs_f64(),
        counts: counts(&printed),
    })
}

/// Starts kstamp, and waits for its start record.
pub(super) fn start(place: &Place, mut command: std::process::Command, name: &str) -> Result<KillOnDrop> {
    let (out, err) = (place.file(&format!("{name}.out")), place.file(&format!("{name}.err")));
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
    let mut child = KillOnDrop(exec::spawn(&mut command)?);
    let mut ended = false;
    let started = exec::wait_until(START_TIMEOUT, || {
        ended = matches!(child.try_wait(), Ok(Some(_)));
        ended || fs::read_to_string(&out).is_ok_and(|text| text.contains(r#""type":"start""#))
    });
    if ended || !started {
        let printed = fs::read_to_string(&err).unwrap_or_default();
        let last = printed.lines().last().unwrap_or("it printed nothing");
        bail!("kstamp ({name}) did not start: {last}");
    }
    Ok(child)
}

pub(super) fn pause(duration: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        signals::check()?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// CPU time of the process in userspace and in the kernel, in seconds.
pub(super) fn cpu_s(pid: u32) -> Result<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("kstamp has ended")?;
    cpu_of(&text).with_context(|| format!("no CPU time of process {pid}"))
}

fn cpu_of(stat: &str) -> Option<(f64, f64)> {
    // The name, in parentheses, may have spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
    Some((seconds()?, seconds()?))
}

fn counts(printed: &str) -> Counts {
    let records = printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records
        .filter(|record| record["type"] == "summary")
        .fold(Counts::default(), |all, record| {
            let field = |name: &str| record[name].as_u64().unwrap_or_default();
            Counts {
                sent: all.sent + field("sent"),
                received: all.received + field("received"),
                lost: all.lost + field("lost"),
                pending: all.pending + field("pending"),
                failed: all.failed + field("send_failed"),
                not_sent: all.not_sent + field("not_sent"),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_of_a_row_has_a_verdict() {
        let taken = |mib: u64, user_s, lost| Taken {
            loading_kib: 0,
            running_kib: mib * 1024,
            user_s,
            system_s: 0.0,
            measured_s: 20.0,
            probes: 1.0,
            counts: Counts {
                lost,
                ..Counts::default()
            },
        };
        for (taken, goal_percent, verdicts) in [
            (
                taken(64, 1.0, 0),
                Some(5.0),
                "<= 64 MiB: met;  user <= 5 % of a core: met;  0 lost: met",
            ),
            (
                taken(65, 1.1, 1),
                Some(5.0),
                "<= 64 MiB: not met;  user <= 5 % of a core: not met;  0 lost: not met",
            ),
            (taken(1, 20.0, 0), None, "<= 64 MiB: met;  0 lost: met"),
        ] {
            assert_eq!(super::verdicts(&taken, 64, goal_percent), verdicts);
        }
    }

    #[test]
    fn cpu_time_follows_the_name_in_parentheses() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_of(stat), Some((2.5, 0.75)));
        assert_eq!(cpu_of("7 (a"), None);
    }

    #[test]
    fn summaries_add_up() {
        let printed = "{\"type\":\"window\",\"sent\":9}\n{\"type\":\"summary\",\"sent\":3,\"received\":2,\"lost\":1}\n\
                       {\"type\":\"summary\",\"sent\":2,\"received\":1,\"pending\":1}\n";
        let want = Counts {
            sent: 5,
            received: 3,
            lost: 1,
            pending: 1,
            ..Counts::default()
        };
        assert_eq!(counts(printed), want);
    }

    #[test]
    fn addresses_differ_and_no_reflector_has_too_many() {
        let all = addresses(97, PEERS_OF_A_REFLECTOR);
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), PEERS_OF_A_REFLECTOR as usize);
        assert_eq!(all[250], "10.97.1.1");
        assert!(ROWS.iter().all(|row| row.0 <= 2 * PEERS_OF_A_REFLECTOR));
    }
}
