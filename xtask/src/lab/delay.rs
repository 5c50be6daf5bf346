//! The delay line: joins two ports and holds packets back, each direction by a time of its own.
//!
//! netem on a Linux bridge where the kernel has both, else our own forwarder ([`crate::forward`]).

use std::{path::Path, process::Child, time::Duration};

use anyhow::{Result, anyhow};
use clap::Args;

use super::process;
use crate::{exec, forward};

/// What the line does to packets that go one way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Direction {
    /// How long a packet is held back.
    pub delay: Duration,
    /// The share of packets that are dropped, 0 to 1.
    pub loss: f64,
}

/// What the line does to packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DelayLine {
    /// From agent1 to agent2.
    pub left_to_right: Direction,
    /// From agent2 to agent1.
    pub right_to_left: Direction,
    /// What the choice of lost packets starts from (the forwarder's; netem draws its own).
    pub seed: u64,
}

impl Default for DelayLine {
    fn default() -> Self {
        let of = |milliseconds| Direction {
            delay: Duration::from_millis(milliseconds),
            loss: 0.0,
        };
        Self {
            left_to_right: of(20),
            right_to_left: of(30),
            seed: 1,
        }
    }
}

/// A delay line on the command line.
#[derive(Clone, Debug, Args)]
pub struct LineArguments {
    /// Delay from agent1 to agent2 (topology delay).
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    left_to_right: humantime::Duration,
    /// Delay from agent2 to agent1 (topology delay).
    #[arg(long, value_name = "TIME", default_value = "30ms")]
    right_to_left: humantime::Duration,
    /// Loss from agent1 to agent2 (topology delay).
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_loss)]
    loss_left_to_right: f64,
    /// Loss from agent2 to agent1 (topology delay).
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_loss)]
    loss_right_to_left: f64,
}

impl LineArguments {
    /// From left to right, and from right to left.
    pub fn directions(&self) -> (Direction, Direction) {
        let left_to_right = Direction {
            delay: self.left_to_right.into(),
            loss: self.loss_left_to_right,
        };
        let right_to_left = Direction {
            delay: self.right_to_left.into(),
            loss: self.loss_right_to_left,
        };
        (left_to_right, right_to_left)
    }
}

/// A line that is in place.
pub(crate) struct Line {
    pub(crate) describe: String,
    pub(crate) child: Option<Child>,
}

/// Reads `1%`, `0.5%`.
///
/// # Errors
/// If it is not a percentage.
fn parse_loss(text: &str) -> Result<f64> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(anyhow!("`{text}` is not a loss: write a percentage, for example 1%")),
    }
}

/// Joins ports `left` and `right`, which are in `namespace`; a log may be written to `directory`.
pub(crate) fn join(namespace: &str, left: &str, right: &str, line: &DelayLine, directory: &Path) -> Result<Line> {
    let (there, back) = (line.left_to_right.delay, line.right_to_left.delay);
    match netem(namespace, left, right, line) {
        Ok(()) => Ok(Line {
            describe: format!("netem on a Linux bridge, {there:?} there, {back:?} back"),
            child: None,
        }),
        Err(_) => {
            // Half of it may be there.
            let _ = exec::run("ip", ["-n", namespace, "link", "delete", "br3"]);
            let child = forwarder(namespace, left, right, line, directory)?;
            let describe = format!("xtask forward (no netem in this kernel), {there:?} there, {back:?} back");
            Ok(Line {
                describe,
                child: Some(child),
            })
        }
    }
}

fn netem(namespace: &str, left: &str, right: &str, line: &DelayLine) -> Result<()> {
    let ip = |words: String| exec::run("ip", ["-n", namespace].into_iter().chain(words.split(' '))).map(drop);
    for (port, direction) in [(right, line.left_to_right), (left, line.right_to_left)] {
        let loss = if direction.loss > 0.0 {
            format!(" loss {}%", direction.loss * 100.0)
        } else {
            String::new()
        };
        let delay = direction.delay.as_micros();
        let words = format!("qdisc add dev {port} root netem limit 100000 delay {delay}us{loss}");
        exec::run("tc", ["-n", namespace].into_iter().chain(words.split(' ')))?;
    }
    ip("link add br3 type bridge mcast_snooping 0 forward_delay 0".to_owned())?;
    for port in [left, right] {
        ip(format!("link set {port} master br3 up"))?;
    }
    ip("link set br3 up".to_owned())
}

fn forwarder(namespace: &str, left: &str, right: &str, line: &DelayLine, directory: &Path) -> Result<Child> {
    for port in [left, right] {
        exec::run("ip", ["-n", namespace, "link", "set", port, "up"])?;
    }
    let mut arguments = ["forward", "--left", left, "--right", right]
        .map(str::to_owned)
        .to_vec();
    for (name, direction) in [
        ("left-to-right", line.left_to_right),
        ("right-to-left", line.right_to_left),
    ] {
        arguments.push(format!("--{name}={}us", direction.delay.as_micros()));
        arguments.push(format!("--loss-{name}={}%", direction.loss * 100.0));
    }
    arguments.push(format!("--seed={}", line.seed));
    process::start(namespace, &arguments, &directory.join("forward.log"), forward::READY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_a_percentage() {
        assert_eq!(parse_loss("1%").unwrap(), 0.01);
        assert_eq!(parse_loss("0.5").unwrap(), 0.005);
        for bad in ["", "%", "-1%", "101%", "one", "NaN"] {
            assert!(parse_loss(bad).is_err(), "{bad}");
        }
    }
}
