//! `ping` and `fping`: ICMP echo, answered by the far kernel.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Tool, milliseconds, missing_program, number_after};

const HOW: &str = "ICMP echo: the far kernel answers, a process waits for it";

/// Of iputils.
#[derive(Debug)]
pub(in crate::bench) struct Ping;

impl Tool for Ping {
    fn name(&self) -> &'static str {
        "ping"
    }

    fn how(&self) -> &'static str {
        HOW
    }

    fn missing(&self) -> Option<String> {
        missing_program("ping", "iputils-ping")
    }

    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command {
        let mut command = place.at_near("ping", ["-n", "-W", "1"]);
        if detail == Detail::Counts {
            command.arg("-q");
        }
        command.args(["-i", &format!("{:.6}", pace.interval.as_secs_f64())]);
        command.args(["-c", &pace.count.to_string()]).arg(place.target());
        command
    }

    fn answers(&self, _: &Path, printed: &str, _: Detail) -> Result<Answers> {
        let (before, _) = printed
            .split_once(" packets transmitted")
            .context("ping printed no summary")?;
        let sent = before.rsplit('\n').next().and_then(|number| number.parse().ok());
        let times = printed.split("time=").skip(1);
        Ok(Answers {
            sent: sent.context("ping printed no count of packets")?,
            received: number_after(printed, "transmitted, ")?,
            rtts_ns: times
                .filter_map(|time| milliseconds(time.split_once(" ms")?.0))
                .collect(),
        })
    }
}

#[derive(Debug)]
pub(super) struct Fping;

impl Tool for Fping {
    fn name(&self) -> &'static str {
        "fping"
    }

    fn how(&self) -> &'static str {
        HOW
    }

    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command {
        let count = if detail == Detail::Each { "-C" } else { "-c" };
        let mut command = place.at_near("fping", ["-q", "-t", "1000", "-i", "0.001", "-p"]);
        command.arg(format!("{:.3}", pace.interval.as_secs_f64() * 1e3));
        command.args([count, &pace.count.to_string()]).arg(place.target());
        command
    }

    fn answers(&self, _: &Path, printed: &str, detail: Detail) -> Result<Answers> {
        let (_, report) = printed.trim().rsplit_once(" : ").context("fping printed no report")?;
        if detail == Detail::Each {
            let probes: Vec<_> = report.split_whitespace().map(milliseconds).collect();
            return Ok(Answers {
                sent: probes.len() as u64,
                received: probes.iter().flatten().count() as u64,
                rtts_ns: probes.into_iter().flatten().collect(),
            });
        }
        let (_, counts) = report.split_once("= ").context("fping printed no counts")?;
        let mut counts = counts.split('/').map(|number| number.parse::<u64>().ok());
        let mut next = || counts.next().flatten().context("fping printed no counts");
        Ok(Answers {
            sent: next()?,
            received: next()?,
            rtts_ns: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_report_is_read() {
        let printed = "64 bytes from 10.1.1.6: icmp_seq=1 ttl=64 time=0.033 ms\n64 bytes from 10.1.1.6: icmp_seq=2 ttl=64 time=1.5 ms\n\n--- 10.1.1.6 ping statistics ---\n3 packets transmitted, 2 received, 33% packet loss, time 20ms\n";
        let answers = Ping.answers(Path::new(""), printed, Detail::Each).unwrap();
        assert_eq!((answers.sent, answers.received), (3, 2));
        assert_eq!(answers.rtts_ns, [33_000, 1_500_000]);
    }

    #[test]
    fn fping_report_is_read() {
        let answers = Fping
            .answers(Path::new(""), "10.1.1.6 : 0.183 - 0.057\n", Detail::Each)
            .unwrap();
        assert_eq!((answers.sent, answers.received), (3, 2));
        assert_eq!(answers.rtts_ns, [183_000, 57_000]);
        let counts = "10.1.1.6 : xmt/rcv/%loss = 100/98/2%, min/avg/max = 0.03/0.04/0.1\n";
        let answers = Fping.answers(Path::new(""), counts, Detail::Counts).unwrap();
        assert_eq!((answers.sent, answers.received), (100, 98));
    }
}
