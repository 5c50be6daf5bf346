//! `cargo xtask run` in a network of switches: a controller, and a tour of what it does when a link is cut and repaired.

use std::{
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;

use super::{Agent, POLL, RunArguments, name_of};
use crate::{
    exec,
    lab::{CONTROLLER, Lab, Network, SWITCHES, Tour},
    signals,
};

/// How long the controller may take until hosts reach each other, and again after a cut or a repair.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pause between pings.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the controller for as long as was asked for, at least until the tour is over; its status.
pub(super) fn run(arguments: &RunArguments, lab: &Lab, network: &Network, kstamp: &Path) -> Result<ExitStatus> {
    let mut controller = Agent::start(command(arguments, lab, network, kstamp))?;
    let begin = Instant::now();
    let mut visit = Visit {
        lab,
        network,
        controller: &mut controller,
    };
    match visit.make() {
        Ok(()) => {}
        // Interrupted, or it ended by itself: its own status and words tell why.
        Err(Obstacle::Ended) => {}
        Err(Obstacle::Failed(error)) => {
            controller.finish()?;
            return Err(error);
        }
    }
    while begin.elapsed() < arguments.duration() && signals::received().is_none() {
        if let Some(status) = controller.ended()? {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
    controller.finish()
}

fn command(arguments: &RunArguments, lab: &Lab, network: &Network, kstamp: &Path) -> Command {
    let mut command = lab.command(SWITCHES, kstamp, ["controller", "--listen", CONTROLLER]);
    for port in network.ports() {
        command.arg("--tap").arg(port);
    }
    command.arg("--format").arg(name_of(arguments.format));
    command.args(&arguments.extra);
    command
}

/// Why a tour is not made to its end.
enum Obstacle {
    /// The controller has ended, or is to end.
    Ended,
    /// What was to happen did not.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Obstacle {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// A tour while it is made.
struct Visit<'a> {
    lab: &'a Lab,
    network: &'a Network,
    controller: &'a mut Agent,
}

impl Visit<'_> {
    /// Pings, cuts, pings, repairs, pings.
    fn make(&mut self) -> Result<(), Obstacle> {
        let Tour { from, to, cut } = self.network.tour;
        let link = self.network.link(cut.0, cut.1)?.name();
        let (took, _) = self
            .reach(|_| true)?
            .ok_or_else(|| anyhow!("{from} does not reach {to} within {PATIENCE:?}"))?;
        say(&format!("{from} reaches {to} after {} s", seconds(took)));
        let whole = self.typical()?;
        say(&format!("{from} reaches {to} in {} ms", millis(whole)));

        self.lab.cut(cut.0, cut.1)?;
        say(&format!("{link} is cut"));
        let detour = match self.reach(|_| true)? {
            Some((took, _)) => {
                let detour = self.typical()?;
                let (took, detour_ms) = (seconds(took), millis(detour));
                say(&format!("{from} reaches {to} again after {took} s, in {detour_ms} ms"));
                detour
            }
            None => {
                say(&format!("{from} does not reach {to}: there is no other way"));
                Duration::MAX
            }
        };
        self.lab.repair(cut.0, cut.1)?;
        say(&format!("{link} is repaired"));
        // Half-way between is neither way's own time.
        let nearer_whole = whole + detour.saturating_sub(whole) / 2;
        let (took, rtt) = self.reach(|rtt| rtt < nearer_whole)?.ok_or_else(|| {
            anyhow!("{from} does not reach {to} by the way of before within {PATIENCE:?} of the repair")
        })?;
        let (took, rtt) = (seconds(took), millis(rtt));
        say(&format!(
            "{from} reaches {to} by the way of before after {took} s, in {rtt} ms"
        ));
        Ok(())
    }

    /// Pings until an answer pleases: how long that took, and the answer's round trip. `None` if none does.
    fn reach(&mut self, pleases: impl Fn(Duration) -> bool) -> Result<Option<(Duration, Duration)>, Obstacle> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            self.check()?;
            if let Some(rtt) = self.ping()?.filter(|rtt| pleases(*rtt)) {
                return Ok(Some((begin.elapsed(), rtt)));
            }
            thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// The median of five pings.
    fn typical(&mut self) -> Result<Duration, Obstacle> {
        let mut rtts = Vec::new();
        while rtts.len() < 5 {
            self.check()?;
            rtts.extend(self.ping()?);
            thread::sleep(PAUSE);
        }
        rtts.sort();
        Ok(rtts[rtts.len() / 2])
    }

    /// One ping on the tour's way; its round trip if it is answered within a second.
    fn ping(&self) -> Result<Option<Duration>> {
        let Tour { from, to, .. } = self.network.tour;
        let [from, to] = [from, to].map(|name| self.network.switches.iter().position(|switch| *switch == name));
        let hosts = self.lab.agents();
        let (Some(from), Some(to)) = (from.and_then(|at| hosts.get(at)), to.and_then(|at| hosts.get(at))) else {
            return Ok(None);
        };
        let arguments = ["-n", "-c", "1", "-W", "1", &to.v4.to_string()];
        let output = exec::output(&mut self.lab.command(&from.namespace, "ping", arguments))?;
        Ok(round_trip(&String::from_utf8_lossy(&output.stdout)))
    }

    fn check(&mut self) -> Result<(), Obstacle> {
        if signals::received().is_some() {
            self.controller.tell(Signal::SIGTERM);
            return Err(Obstacle::Ended);
        }
        match self.controller.ended()? {
            Some(_) => Err(Obstacle::Ended),
            None => Ok(()),
        }
    }
}

/// The round trip in what ping prints of an answer.
fn round_trip(text: &str) -> Option<Duration> {
    let milliseconds: f64 = text.split("time=").nth(1)?.split(' ').next()?.parse().ok()?;
    Duration::try_from_secs_f64(milliseconds / 1e3).ok()
}

/// On stderr, so that stdout is the controller's alone.
fn say(line: &str) {
    eprintln!("tour: {line}");
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_read_from_what_ping_prints() {
        let text = "64 bytes from 10.1.1.13: icmp_seq=1 ttl=64 time=129.5 ms\n\n--- 10.1.1.13 ping statistics ---\n";
        assert_eq!(round_trip(text), Some(Duration::from_micros(129_500)));
        assert_eq!(round_trip("1 packets transmitted, 0 received"), None);
    }
}
