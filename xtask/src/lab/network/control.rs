//! Control channels that take time: a relay between a switch and the controller.

use std::{fs, path::Path, process::Child, str::FromStr, time::Duration};

use anyhow::{Context as _, Error, Result, anyhow};

use super::{CONTROLLER, SWITCHES};
use crate::lab::process;

/// The first port at which a relay listens.
const FIRST_PORT: u16 = 16_653;

/// How long a switch's messages to the controller take, and those to the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlDelay {
    /// Which switch.
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

/// Where `switch` finds its controller: at a relay if its channel is to be delayed.
pub(super) fn target(control: &[ControlDelay], switch: &str) -> String {
    let relay = (FIRST_PORT..).zip(control).find(|(_, delay)| delay.switch == switch);
    relay.map_or_else(
        || format!("tcp:{CONTROLLER}"),
        |(port, _)| format!("tcp:127.0.0.1:{port}"),
    )
}

/// Starts the relays; their logs are in `directory`.
pub(super) fn start(control: &[ControlDelay], directory: &Path) -> Result<Vec<Child>> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    (FIRST_PORT..)
        .zip(control)
        .map(|(port, delay)| {
            let arguments = [
                "relay".to_owned(),
                format!("--listen=127.0.0.1:{port}"),
                format!("--to={CONTROLLER}"),
                format!("--up={}us", delay.up.as_micros()),
                format!("--down={}us", delay.down.as_micros()),
            ];
            let log = directory.join(format!("relay-{}.log", delay.switch));
            process::start(SWITCHES, &arguments, &log, crate::relay::READY)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_delay_is_a_switch_and_two_times() {
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
    fn only_delayed_switches_have_a_relay() {
        let control = ["s3:1ms:1ms", "s1:1ms:1ms"].map(|text| text.parse().unwrap());
        assert_eq!(target(&control, "s1"), "tcp:127.0.0.1:16654");
        assert_eq!(target(&control, "s2"), "tcp:127.0.0.1:6653");
        assert_eq!(target(&control, "s3"), "tcp:127.0.0.1:16653");
    }
}
