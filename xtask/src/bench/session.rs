//! Runs of one tool: the reflector stays ready, the sender runs to its end, and CPU time is counted.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::bench::place::{Place, cores};
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool};
use crate::exec::{self, KillOnDrop};
use crate::signals;

/// How long a reflector may take to start, and to end.
const REFLECTOR_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a sender may run after its last probe: some wait for seconds.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// Interval at which a sender is polled, and resolution of the time for [`Run::rate`].
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Run {
    pub(super) answers: Answers,
    /// Packets per second sent by the near end's interface.
    pub(super) rate: f64,
    pub(super) cpu: Cpu,
}

/// CPU time of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    pub(super) sender: Duration,
    /// The part of `sender` that is not in the kernel.
    pub(super) sender_user: Duration,
    /// Zero where the kernel answers.
    pub(super) reflector: Duration,
    /// All processes and the kernel, until the sender ended.
    pub(super) machine: Duration,
}

impl Cpu {
    pub(super) fn without(self, other: Cpu) -> Cpu {
        Cpu {
            sender: self.sender.saturating_sub(other.sender),
            sender_user: self.sender_user.saturating_sub(other.sender_user),
            reflector: self.reflector.saturating_sub(other.reflector),
            machine: self.machine.saturating_sub(other.machine),
        }
    }
}

/// A tool whose reflector, if it has one, runs until this is dropped.
pub(super) struct Session<'a> {
    place: &'a Place,
    tool: &'a dyn Tool,
    reflector: Option<KillOnDrop>,
}

impl<'a> Session<'a> {
    /// Starts the reflector and waits until it answers.
    pub(super) fn start(place: &'a Place, tool: &'a dyn Tool) -> Result<Self> {
        let mut session = Self {
            place,
            tool,
            reflector: None,
        };
        if let Some((mut command, ready)) = tool.reflector(place) {
            let out = place.file(&format!("{}.reflector", tool.name()));
            session.reflector = Some(KillOnDrop(spawn(&mut command, &out)?));
            let is_ready = || match ready {
                Ready::Port(port) => session.has_bound(port),
                Ready::Line(line) => fs::read_to_string(&out).is_ok_and(|text| text.contains(line)),
            };
            if !exec::wait_until(REFLECTOR_TIMEOUT, is_ready) {
                let printed = fs::read_to_string(&out).unwrap_or_default();
                let last = printed.lines().last().unwrap_or("nothing was printed");
                bail!("{}'s reflector does not answer: {last}", tool.name());
            }
        }
        Ok(session)
    }

    /// Runs the sender to its end.
    pub(super) fn run(&self, pace: Pace, detail: Detail) -> Result<Run> {
        signals::check()?;
        // In a thread of its own, which enters the near end's namespace. It stays until the sender has ended: the kernel
        // kills the sender when the thread that started it ends.
        thread::scope(|scope| scope.spawn(|| self.send(pace, detail)).join())
            .unwrap_or_else(|_| bail!("a panic while {} ran", self.tool.name()))
    }

    fn send(&self, pace: Pace, detail: Detail) -> Result<Run> {
        self.place.enter_near()?;
        let out = self.place.file(&format!("{}.sender", self.tool.name()));
        let mut command = self.tool.sender(self.place, pace, detail);
        let (machine, reflector) = (machine_cpu()?, self.reflector_cpu());
        let child = spawn(&mut command, &out)?;
        let (ended, rate) = self.watch(&child, pace.duration() + END_TIMEOUT)?;
        let cpu = Cpu {
            sender: ended.user + ended.system,
            sender_user: ended.user,
            reflector: self.reflector_cpu().saturating_sub(reflector),
            machine: machine_cpu()?.saturating_sub(machine),
        };
        let printed = fs::read_to_string(&out).unwrap_or_default();
        let answers = self.tool.answers(&self.place.scratch, &printed, detail);
        let answers = answers.with_context(|| {
            let last = printed.lines().last().unwrap_or("nothing was printed");
            format!("{} ended with {}: {last}", exec::line(&command), ended.status)
        })?;
        Ok(Run { answers, rate, cpu })
    }

    /// Waits for the end of the sender for at most `limit`, and measures its rate.
    fn watch(&self, child: &Child, limit: Duration) -> Result<(Ended, f64)> {
        let begin = Instant::now();
        let mut counts = Vec::new();
        loop {
            counts.push((begin.elapsed(), self.sent_packets()?));
            if let Some(ended) = ended(child)? {
                return Ok((ended, rate_of(&counts)));
            }
            if begin.elapsed() > limit || signals::received().is_some() {
                send_signal(child, Signal::SIGKILL);
                while ended(child)?.is_none() {
                    thread::sleep(POLL);
                }
                signals::check()?;
                bail!("{} did not end within {} s", self.tool.name(), limit.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// Packets sent by the near end's interface; only for a thread in its namespace.
    fn sent_packets(&self) -> Result<u64> {
        let table = fs::read_to_string("/proc/thread-self/net/dev").context("cannot read the interface's counters")?;
        let name = format!("{}:", self.place.near.interface);
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&name));
        let packets = line.and_then(|line| line.split_whitespace().nth(9)?.parse().ok());
        packets.with_context(|| format!("no counters of {}", self.place.near.interface))
    }

    fn reflector_cpu(&self) -> Duration {
        let pid = self
            .reflector
            .as_ref()
            .map(|child| Pid::from_raw(child.id().cast_signed()));
        let clock = pid.and_then(|pid| clock_getcpuclockid(pid).ok());
        let time = clock.and_then(|clock| clock.now().ok());
        time.map_or(Duration::ZERO, Duration::from)
    }

    /// Whether this UDP port is bound in the reflector's namespace.
    fn has_bound(&self, port: u16) -> bool {
        let Some(child) = &self.reflector else {
            return false;
        };
        let wanted = format!(":{port:04X} ");
        ["udp", "udp6"].iter().any(|table| {
            let path = format!("/proc/{}/net/{table}", child.id());
            fs::read_to_string(path).is_ok_and(|table| {
                table
                    .lines()
                    .skip(1)
                    .any(|line| line.split_once(": ").is_some_and(|(_, rest)| rest.contains(&wanted)))
            })
        })
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Some(mut child) = self.reflector.take() else {
            return;
        };
        send_signal(&child, Signal::SIGTERM);
        // A reflector that does not end is killed.
        let _ = exec::wait_within(&mut child, REFLECTOR_TIMEOUT);
    }
}

/// Packets per second in the middle nine tenths, without packets before and after the probes of a tool.
fn rate_of(counts: &[(Duration, u64)]) -> f64 {
    let (Some((_, first)), Some((_, last))) = (counts.first(), counts.last()) else {
        return 0.0;
    };
    let reached = |share: f64| {
        let packets = *first + ((last - first) as f64 * share) as u64;
        counts.iter().find(|(_, count)| *count >= packets)
    };
    match reached(0.05).zip(reached(0.95)) {
        Some((from, to)) if to.0 > from.0 => (to.1 - from.1) as f64 / (to.0 - from.0).as_secs_f64(),
        _ => 0.0,
    }
}

/// Starts `command` with both streams in `out`.
fn spawn(command: &mut Command, out: &Path) -> Result<Child> {
    let open = || -> io::Result<(File, File)> {
        let file = File::create(out)?;
        Ok((file.try_clone()?, file))
    };
    let (stdout, stderr) = open().with_context(|| format!("cannot write {}", out.display()))?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    exec::spawn(command)
}

fn send_signal(child: &Child, signal: Signal) {
    // It fails if the child has ended.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
}

struct Ended {
    status: std::process::ExitStatus,
    user: Duration,
    system: Duration,
}

/// Reaps `child` if it has ended. `Child::wait` does not return the CPU time.
fn ended(child: &Child) -> Result<Option<Ended>> {
    use std::os::unix::process::ExitStatusExt as _;
    let mut status = 0;
    // SAFETY: all zeroes are a valid `rusage`, and both pointers are to locals that outlive the call.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let pid = libc::wait4(child.id().cast_signed(), &mut status, libc::WNOHANG, &mut usage);
        (pid, usage)
    };
    if pid < 0 {
        return Err(io::Error::last_os_error()).context("cannot wait for a child");
    }
    let time = |time: libc::timeval| Duration::new(time.tv_sec.cast_unsigned(), time.tv_usec as u32 * 1000);
    Ok((pid > 0).then(|| Ended {
        status: std::process::ExitStatus::from_raw(status),
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
    }))
}

/// The number of cores and their use before the bench begins, which distorts its figures, in words.
pub(super) fn cores_in_use() -> Result<String> {
    const SAMPLE: Duration = Duration::from_millis(500);
    let before = machine_cpu()?;
    thread::sleep(SAMPLE);
    let used = machine_cpu()?.saturating_sub(before);
    let share = used.as_secs_f64() / (SAMPLE.as_secs_f64() * cores() as f64);
    Ok(format!(
        "{} cores, {:.0} % of them used by others",
        cores(),
        share * 100.0
    ))
}

/// CPU time of the machine without idle time (`/proc/stat`: user, nice, system, irq, softirq).
fn machine_cpu() -> Result<Duration> {
    let table = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks: Vec<u64> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else {
        bail!("/proc/stat does not begin with CPU times");
    };
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    let busy = user + nice + system + irq + softirq;
    Ok(Duration::from_secs_f64(busy as f64 / per_second as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_before_and_after_the_probes_do_not_change_the_rate() {
        let at = |ms, packets| (Duration::from_millis(ms), packets);
        let mut counts = vec![at(0, 100), at(10, 101), at(20, 101)];
        counts.extend((0..=100).map(|i| at(500 + 10 * i, 101 + 10 * i)));
        counts.push(at(3_000, 1_102));
        assert!((rate_of(&counts) - 1_000.0).abs() < 20.0, "{}", rate_of(&counts));
        assert_eq!(rate_of(&[]), 0.0);
        assert_eq!(rate_of(&[at(0, 5), at(10, 5)]), 0.0);
    }
}
