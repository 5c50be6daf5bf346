//! `cargo xtask run` in a network of switches: a controller, and a tour in which a link is cut and repaired.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;

use crate::lab::{CONTROLLER, Lab, Network, SWITCHES, Tour};
use crate::run::agent::{Agent, POLL};
use crate::run::args::RunArguments;
use crate::{exec, name_of, signals};

/// How long hosts may take to reach each other: at first, and after a cut or a repair.
const REACH_TIMEOUT: Duration = Duration::from_secs(15);

const PING_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the controller for the duration, at least until the tour is over, and returns its status.
pub(super) fn run(arguments: &RunArguments, lab: &Lab, network: &Network, kstamp: &Path) -> Result<ExitStatus> {
    let mut controller = Agent::start(command(arguments, lab, network, kstamp))?;
    let begin = Instant::now();
    let mut guide = Guide {
        lab,
        network,
        controller: &mut controller,
    };
    match guide.run() {
        // The controller has reported the reason.
        Ok(()) | Err(Abort::Ended) => {}
        Err(Abort::Failed(error)) => {
            controller.finish()?;
            return Err(error);
        }
    }
    while begin.elapsed() < arguments.duration() && signals::received().is_none() {
        if let Some(status) = controller.status()? {
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
    command.arg("--format").arg(name_of(&arguments.format));
    command.args(&arguments.extra);
    command
}

/// Why a tour was aborted.
enum Abort {
    /// The controller has ended, or a signal has come.
    Ended,
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Abort {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs a tour.
struct Guide<'a> {
    lab: &'a Lab,
    network: &'a Network,
    controller: &'a mut Agent,
}

impl Guide<'_> {
    fn run(&mut self) -> Result<(), Abort> {
        let Tour { from, to, cut } = self.network.tour;
        let link = self.network.link(cut.0, cut.1)?.name();
        let (after, _) = self
            .reach(|_| true)?
            .ok_or_else(|| anyhow!("{from} does not reach {to} within {REACH_TIMEOUT:?}"))?;
        print(&format!("{from} reaches {to} after {} s", seconds(after)));
        let direct = self.median_rtt()?;
        print(&format!("{from} reaches {to} in {} ms", millis(direct)));

        self.lab.cut(cut.0, cut.1)?;
        print(&format!("{link} is cut"));
        let detour = match self.reach(|_| true)? {
            Some((after, _)) => {
                let detour = self.median_rtt()?;
                let (after, detour_ms) = (seconds(after), millis(detour));
                print(&format!("{from} reaches {to} again after {after} s, in {detour_ms} ms"));
                detour
            }
            None => {
                print(&format!("{from} does not reach {to}: there is no other path"));
                Duration::MAX
            }
        };
        self.lab.repair(cut.0, cut.1)?;
        print(&format!("{link} is repaired"));
        let midpoint = direct + detour.saturating_sub(direct) / 2;
        let (after, rtt) = self.reach(|rtt| rtt < midpoint)?.ok_or_else(|| {
            anyhow!("{from} does not reach {to} on its first path within {REACH_TIMEOUT:?} of the repair")
        })?;
        let (after, rtt) = (seconds(after), millis(rtt));
        print(&format!(
            "{from} reaches {to} on its first path after {after} s, in {rtt} ms"
        ));
        Ok(())
    }

    /// Pings until a round trip is accepted, and returns the time that took and the round trip; `None` if none is.
    fn reach(&mut self, accept: impl Fn(Duration) -> bool) -> Result<Option<(Duration, Duration)>, Abort> {
        let begin = Instant::now();
        while begin.elapsed() < REACH_TIMEOUT {
            self.check()?;
            if let Some(rtt) = self.ping()?.filter(|rtt| accept(*rtt)) {
                return Ok(Some((begin.elapsed(), rtt)));
            }
            thread::sleep(PING_INTERVAL);
        }
        Ok(None)
    }

    /// Of five pings.
    fn median_rtt(&mut self) -> Result<Duration, Abort> {
        let mut rtts = Vec::new();
        while rtts.len() < 5 {
            self.check()?;
            rtts.extend(self.ping()?);
            thread::sleep(PING_INTERVAL);
        }
        rtts.sort();
        Ok(rtts[rtts.len() / 2])
    }

    /// One ping of the tour's hosts; its round trip if it is answered within a second.
    fn ping(&self) -> Result<Option<Duration>> {
        let Tour { from, to, .. } = self.network.tour;
        let [from, to] = [from, to].map(|switch| self.lab.host(switch));
        let arguments = ["-n", "-c", "1", "-W", "1", &to.v4.to_string()];
        let output = exec::output(&mut self.lab.command(&from.namespace, "ping", arguments))?;
        Ok(round_trip(&String::from_utf8_lossy(&output.stdout)))
    }

    fn check(&mut self) -> Result<(), Abort> {
        if signals::received().is_some() {
            self.controller.signal(Signal::SIGTERM);
            return Err(Abort::Ended);
        }
        match self.controller.status()? {
            Some(_) => Err(Abort::Ended),
            None => Ok(()),
        }
    }
}

/// The round trip in ping's output.
fn round_trip(text: &str) -> Option<Duration> {
    let milliseconds: f64 = text.split("time=").nth(1)?.split(' ').next()?.parse().ok()?;
    Duration::try_from_secs_f64(milliseconds / 1e3).ok()
}

/// Prints to stderr: stdout is the controller's.
fn print(line: &str) {
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
    fn round_trip_is_read_from_ping_output() {
        let text = "64 bytes from 10.1.1.13: icmp_seq=1 ttl=64 time=129.5 ms\n\n--- 10.1.1.13 ping statistics ---\n";
        assert_eq!(round_trip(text), Some(Duration::from_micros(129_500)));
        assert_eq!(round_trip("1 packets transmitted, 0 received"), None);
    }
}
