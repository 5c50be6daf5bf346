//! `cargo xtask soak`: two agents run for long, and are scraped and have their files rotated meanwhile. Their memory must not
//! grow, no descriptor may leak, and each probe must be in exactly one of the files.

mod records;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::lab::{AgentNs, Lab, Options, Topology};
use crate::soak::subject::{Look, Subject};
use crate::{privilege, run, signals};

/// Planned parts of a run. In the shortest run each is a fraction of a second.
const HOURS: u32 = 24;

/// How many parts a run may have: on a busy machine probes are left out, and it takes longer.
const MAX_HOURS: u32 = 3 * HOURS;

/// How often memory and descriptors are read, and the metrics scraped: so many times an hour, and in this time.
const LOOKS_PER_HOUR: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Memory is compared with that of the first hour, but at least of this time: probes are remembered for ten seconds
/// (`probe-core/src/session.rs`).
const WARM_UP: Duration = Duration::from_secs(15);

/// How much more memory an agent may take then. The page keeps the windows of an hour and the minutes of a day
/// (`probe-user/src/output/history.rs`): up to 640 and 320 KiB for the one peer of this run, in buffers of 1,024 and 512 KiB.
/// The buffer of remembered probes grows by 512 KiB once there are more than 8,192, which on a busy machine comes late.
const MAX_GROWTH_KIB: u64 = 2048;

/// kstamp's default interval in milliseconds, and probes in an hour.
const USUAL_INTERVAL_MS: u64 = 500;
const PROBES_PER_HOUR: u64 = 3_600_000 / USUAL_INTERVAL_MS;

/// `soak`.
#[derive(Clone, Debug, Args)]
pub struct SoakArguments {
    /// Send this many probes, one in a millisecond: a day of 24 "hours", however short.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, conflicts_with = "hours",
          value_parser = clap::value_parser!(u64).range(20_000..))]
    count: u64,
    /// Run for this many hours at kstamp's own interval, timeout and report instead.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=24 * 365))]
    hours: Option<u64>,
    /// Path of a built kstamp; set-up and building are skipped.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
}

/// How the agents are run.
struct Plan {
    count: u64,
    length: Duration,
    /// Flags of both agents.
    flags: String,
}

impl SoakArguments {
    /// Fails if an agent does; exit code 1 if one leaks or loses records.
    pub fn run(&self) -> Result<ExitCode> {
        let kstamp = run::built(self.built.as_deref())?;
        if !privilege::is_root() {
            return privilege::rerun_as_root("soak", &["--built".as_ref(), kstamp.as_os_str()]);
        }
        signals::catch()?;
        let plan = self.plan();
        let lab = Lab::up(Topology::Veth, &Options::default())?;
        let start = |place: &AgentNs, peer: &AgentNs, more: &str| {
            Subject::start(&lab, &kstamp, place, peer, &format!("{} {more}", plan.flags))
        };
        let [near, far] = lab.pair();
        let far = start(far, near, "")?;
        let near = start(near, far.place(), &format!("--count {}", plan.count))?;
        let failures = soak(&plan, near, far)?;
        lab.down()?;
        failures.iter().for_each(|failure| println!("failed: {failure}"));
        Ok(ExitCode::from(u8::from(!failures.is_empty())))
    }

    fn plan(&self) -> Plan {
        match self.hours {
            Some(hours) => Plan {
                count: hours * PROBES_PER_HOUR,
                length: Duration::from_secs(hours * 3600),
                flags: format!("--interval {USUAL_INTERVAL_MS}ms"),
            },
            // A day's windows of 10 s, and no reply that is late by much more than an interval.
            None => Plan {
                count: self.count,
                length: Duration::from_millis(self.count),
                flags: format!(
                    "--interval 1ms --timeout 100ms --report {}ms",
                    (self.count / 8_640).max(100)
                ),
            },
        }
    }
}

/// Runs both agents to the end of the near one, prints a row for each hour, and returns what is wrong.
fn soak(plan: &Plan, mut near: Subject, mut far: Subject) -> Result<Vec<String>> {
    let hour = plan.length / HOURS;
    println!("soak: {} probes in {:?}, an hour is {hour:?}", plan.count, plan.length);
    println!("hour  near: MiB  descriptors  samples  far: MiB  descriptors  samples");
    let begin = Instant::now();
    let mut hours = Vec::new();
    'run: for number in 0..MAX_HOURS {
        let mut looks: [Vec<Look>; 2] = Default::default();
        for half in 1..=2 {
            let end = hour * number + hour * half / 2;
            while begin.elapsed() < end {
                let pause = LONGEST_PAUSE.min(hour / LOOKS_PER_HOUR);
                wait(pause.min(end.saturating_sub(begin.elapsed())))?;
                for (subject, looks) in [&mut near, &mut far].into_iter().zip(&mut looks) {
                    match subject.look() {
                        Ok(look) => looks.push(look),
                        Err(_) if subject.has_ended()? => break 'run,
                        Err(error) => return Err(error),
                    }
                }
            }
            if half == 1 {
                near.rotate()?;
                far.rotate()?;
            }
        }
        let [near_hour, far_hour] = looks.map(Hour::of);
        println!(
            "{:>4}  {}  {}",
            number + 1,
            near_hour.row(near.samples()),
            far_hour.row(far.samples())
        );
        hours.push([near_hour, far_hour]);
    }
    if !near.has_ended()? {
        bail!("the agent has not sent {} probes in {:?}", plan.count, begin.elapsed());
    }
    let warm_up = WARM_UP.div_duration_f64(hour).ceil().max(1.0) as usize;
    let mut failures = Vec::new();
    for (number, subject) in [near, far].into_iter().enumerate() {
        let name = subject.place().namespace.clone();
        let of_subject: Vec<_> = hours.iter().map(|hour| hour[number]).collect();
        println!(
            "{name}: memory grew by {} KiB after hour {warm_up} of {}",
            growth(&of_subject, warm_up),
            hours.len()
        );
        let wrong = [leaks(&of_subject, warm_up), subject.finish()?].concat();
        failures.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
    }
    Ok(failures)
}

fn wait(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        signals::check()?;
        thread::sleep(left.min(Duration::from_millis(100)));
    }
    Ok(())
}

/// One agent in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hour {
    /// The most memory, and the fewest descriptors: the connection of a scrape may be open still.
    kib: u64,
    descriptors: usize,
}

impl Hour {
    fn of(looks: Vec<Look>) -> Self {
        Self {
            kib: looks.iter().map(|look| look.kib).max().unwrap_or_default(),
            descriptors: looks.iter().map(|look| look.descriptors).min().unwrap_or_default(),
        }
    }

    fn row(self, samples: u64) -> String {
        format!(
            "{:>9.1}  {:>11}  {samples:>7}",
            self.kib as f64 / 1024.0,
            self.descriptors
        )
    }
}

/// Whether memory has grown after so many hours, or descriptors were left open.
fn leaks(hours: &[Hour], warm_up: usize) -> Vec<String> {
    let (Some(first), Some(last), true) = (hours.first(), hours.last(), hours.len() > warm_up) else {
        return vec![format!("it ended after {} hours", hours.len())];
    };
    let mut wrong = Vec::new();
    let growth = growth(hours, warm_up);
    if growth > MAX_GROWTH_KIB {
        wrong.push(format!("memory grew by {growth} KiB, more than {MAX_GROWTH_KIB} KiB"));
    }
    if last.descriptors > first.descriptors {
        wrong.push(format!(
            "{} descriptors in the first hour, {} in the last",
            first.descriptors, last.descriptors
        ));
    }
    wrong
}

/// How much more memory it took than in the first hours, in KiB.
fn growth(hours: &[Hour], warm_up: usize) -> u64 {
    let most = |hours: &[Hour]| hours.iter().map(|hour| hour.kib).max().unwrap_or_default();
    let (first, later) = hours.split_at(warm_up.min(hours.len()));
    most(later).saturating_sub(most(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_open_descriptors_are_leaks() {
        let hour = |kib, descriptors| Hour { kib, descriptors };
        let flat = [hour(5_000, 30), hour(9_000, 31), hour(9_900, 30)];
        assert!(leaks(&flat, 2).is_empty());
        assert_eq!(leaks(&flat, 1).len(), 1, "memory");
        assert_eq!(leaks(&[hour(9_000, 30), hour(9_000, 31)], 1).len(), 1, "descriptors");
        assert_eq!(leaks(&flat, 3).len(), 1, "too short");
    }

    #[test]
    fn an_hour_has_its_most_memory_and_fewest_descriptors() {
        let look = |kib, descriptors| Look { kib, descriptors };
        let of = Hour::of(vec![look(10, 31), look(12, 30), look(11, 32)]);
        assert_eq!(
            of,
            Hour {
                kib: 12,
                descriptors: 30
            }
        );
    }
}
