//! Volleys and trains at the rates of their goals: loss, CPU time, and the delay that they add to other traffic.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::bench::place::Place;
use crate::bench::rate::figures::{START_AND_END, per_million, verdict};
use crate::bench::session::Session;
use crate::bench::tool::{Detail, Pace, Tool as _};
use crate::bench::tools::Json;
use crate::bench::tools::icmp::Ping;
use crate::bench::tools::volley::{TRAIN, VOLLEY, Volley};

/// The length of each run.
const LENGTH: Duration = Duration::from_secs(10);

/// The other traffic: pings over the same veth pair, for a part of the run.
const OTHERS: Pace = Pace {
    interval: Duration::from_millis(2),
    count: 2_000,
};

/// From the start of a run to the first ping: by then, programs are loaded.
const LEAD: Duration = Duration::from_secs(2);

/// A mode and its goals.
struct Goals {
    volley: &'static Volley,
    rate: u32,
    machine_cpu_s_per_million: f64,
    lost: Option<u64>,
    added_us: Option<f64>,
}

const GOALS: [Goals; 2] = [
    Goals {
        volley: &TRAIN,
        rate: 1_500_000,
        machine_cpu_s_per_million: 0.6,
        lost: Some(0),
        added_us: None,
    },
    Goals {
        volley: &VOLLEY,
        rate: 1_000_000,
        machine_cpu_s_per_million: 0.5,
        lost: None,
        added_us: Some(10.0),
    },
];

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    paced: &'a str,
    rate: f64,
    sent: u64,
    lost: u64,
    machine_cpu_s_per_million: f64,
    added_us: f64,
}

pub(super) fn run(place: &Place, json: &mut Json) -> Result<()> {
    println!(
        "\nat the rates of their goals, {} s each; added: how much longer pings take beside them, on average",
        LENGTH.as_secs()
    );
    println!(
        "{:<8} {:>9} {:>10} {:>8} {:>8} {:>9}",
        "mode", "probes/s", "sent", "lost", "machine", "added µs"
    );
    for goals in &GOALS {
        let line = measure(place, goals)?;
        println!("{}", line.text());
        println!("{}", goals.verdicts(&line));
        json.write(&line)?;
    }
    Ok(())
}

fn measure(place: &Place, goals: &Goals) -> Result<Line<'static>> {
    // A little more than the goal: probes that are not sent in time are left out.
    let rate = goals.rate + goals.rate / 50;
    let pace = Pace {
        interval: Duration::from_secs(1) / rate,
        count: rate * LENGTH.as_secs() as u32,
    };
    let session = Session::start(place, goals.volley)?;
    let ping = Session::start(place, &Ping)?;
    let mean_us = || -> Result<f64> {
        let rtts_ns = ping.run(OTHERS, Detail::Each)?.answers.rtts_ns;
        Ok(rtts_ns.iter().sum::<u64>() as f64 / rtts_ns.len() as f64 / 1e3)
    };
    let start = session.run(START_AND_END, Detail::Counts)?.cpu;
    let alone = session.run(pace, Detail::Counts)?;
    let quiet_us = mean_us()?;
    let beside_us = thread::scope(|scope| {
        let run = scope.spawn(|| session.run(pace, Detail::Counts));
        thread::sleep(LEAD);
        let beside_us = mean_us();
        match run.join() {
            Ok(run) => run.and(beside_us),
            Err(_) => bail!("a panic while pings were beside {}", goals.volley.name()),
        }
    })?;
    let sent = alone.answers.sent;
    Ok(Line {
        paced: goals.volley.name(),
        rate: alone.rate,
        sent,
        lost: sent.saturating_sub(alone.answers.received),
        machine_cpu_s_per_million: per_million(alone.cpu.without(start).machine, sent),
        added_us: beside_us - quiet_us,
    })
}

impl Line<'_> {
    fn text(&self) -> String {
        format!(
            "{:<8} {:>9.0} {:>10} {:>8} {:>8.2} {:>+9.1}",
            self.paced, self.rate, self.sent, self.lost, self.machine_cpu_s_per_million, self.added_us
        )
    }
}

impl Goals {
    fn verdicts(&self, line: &Line<'_>) -> String {
        let rate = (f64::from(self.rate) <= line.rate, format!(">= {} probes/s", self.rate));
        let cpu = self.machine_cpu_s_per_million;
        let cpu = (
            line.machine_cpu_s_per_million <= cpu,
            format!("<= {cpu} CPU s per million"),
        );
        let lost = self.lost.map(|lost| (line.lost <= lost, format!("{lost} lost")));
        let added = self
            .added_us
            .map(|us| (line.added_us <= us, format!("added <= {us} µs")));
        let goals = [Some(rate), lost, Some(cpu), added].into_iter().flatten();
        let verdicts = goals.map(|(is_met, goal)| format!("  {goal}: {}", verdict(is_met)));
        verdicts.collect::<Vec<_>>().join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_has_its_verdict() {
        let line = Line {
            paced: "train",
            rate: 1_499_000.0,
            sent: 15_000_000,
            lost: 0,
            machine_cpu_s_per_million: 0.61,
            added_us: 3.0,
        };
        assert_eq!(
            GOALS[0].verdicts(&line),
            "  >= 1500000 probes/s: not met;  0 lost: met;  <= 0.6 CPU s per million: not met"
        );
        assert_eq!(
            GOALS[1].verdicts(&line),
            "  >= 1000000 probes/s: met;  <= 0.5 CPU s per million: not met;  added <= 10 µs: met"
        );
    }
}
