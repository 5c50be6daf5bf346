//! Delays in a lab: netem, or our own forwarder ([`crate::forward`]) if the kernel has no netem, and relays
//! ([`crate::relay`]) in control channels.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail};

use crate::exec::{self, KillOnDrop};
use crate::forward::{self, Impairment};
use crate::lab::namespace::{self, ip, tc};
use crate::lab::switch::Switch;
use crate::lab::topology::{CONTROLLER, SWITCHES};
use crate::{relay, stall, workspace};

/// How long the forwarder or a relay may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

const FIRST_RELAY_PORT: u16 = 16_653;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DelayLine {
    /// From agent1 to agent2.
    pub left_to_right: Impairment,
    /// From agent2 to agent1.
    pub right_to_left: Impairment,
    /// Seed of the forwarder's choice of lost packets; netem has its own.
    pub seed: u64,
}

impl DelayLine {
    /// Without loss.
    pub(crate) fn lossless(left_to_right: Duration, right_to_left: Duration) -> Self {
        let [left_to_right, right_to_left] =
            [left_to_right, right_to_left].map(|delay| Impairment { delay, loss: 0.0 });
        Self {
            left_to_right,
            right_to_left,
            seed: 1,
        }
    }
}

impl Default for DelayLine {
    fn default() -> Self {
        Self::lossless(Duration::from_millis(20), Duration::from_millis(30))
    }
}

/// Whether the kernel has netem, tried on the unused loopback device of `namespace`.
pub(crate) fn has_netem(namespace: &str) -> bool {
    let has_netem = tc(namespace, "qdisc add dev lo root netem delay 1ms").is_ok();
    if has_netem {
        // On a failure, the qdisc is deleted with the namespace.
        let _ = tc(namespace, "qdisc del dev lo root");
    }
    has_netem
}

/// Delays and drops the frames that `port` sends, by netem, in place of what netem did to them before. Kernel stamps are taken
/// at TC egress, before the qdisc, so the delay is between the stamps.
pub(crate) fn set_netem(namespace: &str, port: &str, impairment: Impairment) -> Result<()> {
    let (delay, loss) = (impairment.delay.as_micros(), impairment.loss * 100.0);
    let loss = if loss > 0.0 {
        format!(" loss {loss}%")
    } else {
        String::new()
    };
    tc(
        namespace,
        &format!("qdisc replace dev {port} root netem limit 100000 delay {delay}us{loss}"),
    )
}

/// Joins ports `left` and `right` of `namespace` by a forwarder.
pub(crate) fn forward(
    namespace: &str,
    left: &str,
    right: &str,
    line: &DelayLine,
    directory: &Path,
) -> Result<KillOnDrop> {
    let mut arguments = vec![
        "forward".to_owned(),
        format!("--left={left}"),
        format!("--right={right}"),
        format!("--seed={}", line.seed),
    ];
    for (name, direction) in [
        ("left-to-right", line.left_to_right),
        ("right-to-left", line.right_to_left),
    ] {
        arguments.push(format!("--{name}={}us", direction.delay.as_micros()));
        arguments.push(format!("--loss-{name}={}%", direction.loss * 100.0));
    }
    start_xtask(
        namespace,
        &arguments,
        &directory.join(format!("{left}.log")),
        forward::READY,
    )
}

/// Joins ports `left` and `right` of `namespace`, whose names have at most 12 bytes, by netem on a Linux bridge or by a
/// forwarder. Returns which, in words, and the forwarder.
pub(crate) fn join(
    namespace: &str,
    left: &str,
    right: &str,
    line: &DelayLine,
    directory: &Path,
) -> Result<(String, Option<KillOnDrop>)> {
    let bridge = format!("br-{right}");
    let bridge_options = "type bridge mcast_snooping 0 forward_delay 0";
    let netem = has_netem(namespace) && ip(namespace, &format!("link add {bridge} {bridge_options}")).is_ok();
    if netem {
        set_netem(namespace, right, line.left_to_right)?;
        set_netem(namespace, left, line.right_to_left)?;
        for port in [left, right] {
            ip(namespace, &format!("link set {port} master {bridge}"))?;
        }
        ip(namespace, &format!("link set {bridge} up"))?;
    }
    for port in [left, right] {
        ip(namespace, &format!("link set {port} up"))?;
    }
    let forwarder = (!netem).then(|| forward(namespace, left, right, line, directory));
    let (forward, backward) = (line.left_to_right, line.right_to_left);
    let means = if netem {
        "netem on a Linux bridge"
    } else {
        "xtask forward (no netem in this kernel)"
    };
    Ok((
        format!("{means}, {forward} forward, {backward} backward"),
        forwarder.transpose()?,
    ))
}

/// Lets the switch of `namespace` stall in each second for `stall`.
pub(crate) fn stall(namespace: &str, switch: &Switch, time: Duration) -> Result<KillOnDrop> {
    let arguments = [
        "stall".to_owned(),
        format!("--process={}", switch.process()?),
        format!("--stall={}us", time.as_micros()),
    ];
    start_xtask(
        namespace,
        &arguments,
        &switch.directory().join("stall.log"),
        stall::READY,
    )
}

/// Delays of the control channel of one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlDelay {
    pub switch: String,
    /// From the switch to the controller.
    pub up: Duration,
    /// From the controller to the switch.
    pub down: Duration,
}

impl FromStr for ControlDelay {
    type Err = Error;

    /// Reads `SWITCH:UP:DOWN`, such as `s2:10ms:30ms`.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let [switch, up, down] = parts[..] else {
            return Err(anyhow!("write SWITCH:UP:DOWN, such as s2:10ms:30ms"));
        };
        let time = |text: &str| {
            humantime::parse_duration(text).map_err(|error| anyhow!("{text} is not a time such as 10ms: {error}"))
        };
        Ok(Self {
            switch: switch.to_owned(),
            up: time(up)?,
            down: time(down)?,
        })
    }
}

/// Address of the controller for `switch`: a relay if its control channel is delayed.
pub(crate) fn controller_of(switch: &str, control: &[ControlDelay]) -> String {
    let relay = (FIRST_RELAY_PORT..)
        .zip(control)
        .find(|(_, delay)| delay.switch == switch);
    relay.map_or_else(
        || format!("tcp:{CONTROLLER}"),
        |(port, _)| format!("tcp:127.0.0.1:{port}"),
    )
}

/// Starts the relays, with logs in `directory`.
pub(crate) fn relay(control: &[ControlDelay], directory: &Path) -> Result<Vec<KillOnDrop>> {
    let start = |(port, delay): (u16, &ControlDelay)| {
        let arguments = [
            "relay".to_owned(),
            format!("--listen=127.0.0.1:{port}"),
            format!("--to={CONTROLLER}"),
            format!("--up={}us", delay.up.as_micros()),
            format!("--down={}us", delay.down.as_micros()),
        ];
        let log = directory.join(format!("relay-{}.log", delay.switch));
        start_xtask(SWITCHES, &arguments, &log, relay::READY)
    };
    (FIRST_RELAY_PORT..).zip(control).map(start).collect()
}

/// Starts `xtask ARGUMENTS…` in `namespace`, and waits until its output, which goes to `log`, contains `ready`.
fn start_xtask(namespace: &str, arguments: &[String], log: &Path, ready: &str) -> Result<KillOnDrop> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(workspace::xtask_binary()?);
    // A process group of its own keeps Ctrl-C away from it: the lab ends it.
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0);
    namespace::enter(&mut command, namespace);
    let mut child = KillOnDrop(exec::spawn(&mut command)?);
    let output = || fs::read_to_string(log).unwrap_or_default();
    let mut ended = false;
    exec::wait_until(START_TIMEOUT, || {
        ended = !matches!(child.try_wait(), Ok(None));
        ended || output().contains(ready)
    });
    if ended || !output().contains(ready) {
        let output = output();
        let last = output.lines().last().unwrap_or("no output");
        bail!("`{}` does not work: {last}", exec::line(&command));
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_delay_is_a_switch_and_two_times() {
        let delay: ControlDelay = "s2:10ms:1500us".parse().unwrap();
        let expected = ControlDelay {
            switch: "s2".to_owned(),
            up: Duration::from_millis(10),
            down: Duration::from_micros(1_500),
        };
        assert_eq!(delay, expected);
        for bad in ["", "s2", "s2:10ms", "s2:10ms:x", "s2:-1ms:3ms", "s2:1ms:2ms:3ms"] {
            assert!(bad.parse::<ControlDelay>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_switches_with_a_control_delay_have_a_relay() {
        let control = ["s3:1ms:1ms", "s1:1ms:1ms"].map(|text| text.parse().unwrap());
        for (switch, controller) in [
            ("s1", "tcp:127.0.0.1:16654"),
            ("s2", "tcp:127.0.0.1:6653"),
            ("s3", "tcp:127.0.0.1:16653"),
        ] {
            assert_eq!(controller_of(switch, &control), controller);
        }
    }
}
