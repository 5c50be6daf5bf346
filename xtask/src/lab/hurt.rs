//! Hurts: what a lab of [`Topology::Vxlan`](crate::lab::Topology::Vxlan) does to one segment of the path, on the way from
//! agent1 to agent2. Hop stamps must find it there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail, ensure};
use clap::ValueEnum;

use crate::forward::{Impairment, parse_loss};
use crate::lab::delay::DelayLine;
use crate::lab::switch::Datapath;
use crate::{UsageError, name_of, stall};

/// Probes that are delayed longer are late.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Agents could not find each other over a line that loses more.
const MAX_LOSS: f64 = 0.5;

/// A part of the path, seen from agent1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Segment {
    /// Between port1 and the tunnel of host1.
    OwnSwitch,
    /// Between the tunnel of host1 and its NIC.
    OwnEncapsulation,
    /// Between the NICs of both hosts.
    Underlay,
    /// Between the NIC of host2 and its tunnel.
    FarEncapsulation,
    /// Between the tunnel of host2 and port2.
    FarSwitch,
}

impl Segment {
    /// Its name in records.
    pub fn field(self) -> String {
        name_of(&self).replace('-', "_")
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Harm {
    /// Every frame is delayed.
    Delay(Duration),
    /// The share of frames that are dropped, 0 to 1.
    Loss(f64),
    /// The switch stands still for this long once a second.
    Stall(Duration),
}

/// A harm on a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hurt {
    pub segment: Segment,
    pub harm: Harm,
}

impl FromStr for Hurt {
    type Err = Error;

    /// Reads `underlay:5ms`, `far-switch:loss=1%` or `own-switch:stall=50ms`.
    fn from_str(text: &str) -> Result<Self> {
        let (segment, harm) = text
            .split_once(':')
            .context("write SEGMENT:HARM, such as underlay:5ms or far-switch:loss=1%")?;
        let segments = Segment::value_variants().iter();
        let Some(&segment) = segments.clone().find(|known| name_of(*known) == segment) else {
            let names: Vec<_> = segments.map(name_of).collect();
            bail!("no segment {segment}; there are {}", names.join(", "));
        };
        let harm = match harm.split_once('=') {
            None => Harm::Delay(time(harm)?),
            Some(("loss", share)) => Harm::Loss(parse_loss(share)?),
            Some(("stall", stall)) => Harm::Stall(time(stall)?),
            Some((harm, _)) => bail!("no harm {harm}: write a time such as 5ms, loss=1% or stall=50ms"),
        };
        match harm {
            Harm::Delay(delay) => ensure!(delay <= MAX_DELAY, "a delay of at most {MAX_DELAY:?}"),
            Harm::Loss(loss) => ensure!(loss <= MAX_LOSS, "a loss of at most {}%", MAX_LOSS * 100.0),
            Harm::Stall(stall) => {
                ensure!(
                    [Segment::OwnSwitch, Segment::FarSwitch].contains(&segment),
                    "only own-switch and far-switch can stall"
                );
                ensure!(stall < stall::PERIOD, "a stall is shorter than {:?}", stall::PERIOD);
            }
        }
        Ok(Self { segment, harm })
    }
}

impl fmt::Display for Hurt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", name_of(&self.segment))?;
        match self.harm {
            Harm::Delay(delay) => write!(f, "{delay:?}"),
            Harm::Loss(loss) => write!(f, "loss={}%", loss * 100.0),
            Harm::Stall(stall) => write!(f, "stall={stall:?}"),
        }
    }
}

fn time(text: &str) -> Result<Duration> {
    humantime::parse_duration(text).with_context(|| format!("{text} is not a time such as 5ms"))
}

/// All hurts of a lab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hurts<'a>(pub(crate) &'a [Hurt]);

impl Hurts<'_> {
    /// Fails if the datapath has no such segment.
    pub(crate) fn check(self, datapath: Datapath) -> Result<()> {
        let has_tunnel_device = datapath == Datapath::Kernel;
        let mut segments = self.0.iter().map(|hurt| hurt.segment);
        let encapsulation = [Segment::OwnEncapsulation, Segment::FarEncapsulation];
        match segments.find(|segment| encapsulation.contains(segment) && !has_tunnel_device) {
            Some(segment) => bail!(UsageError(format!(
                "--hurt {}: Open vSwitch has no tunnel device with its userspace datapath, which this machine has",
                name_of(&segment)
            ))),
            None => Ok(()),
        }
    }

    /// Delay and loss on a segment.
    pub(crate) fn line(self, segment: Segment) -> DelayLine {
        let mut forward = Impairment {
            delay: Duration::ZERO,
            loss: 0.0,
        };
        for hurt in self.0.iter().filter(|hurt| hurt.segment == segment) {
            match hurt.harm {
                Harm::Delay(delay) => forward.delay = delay,
                Harm::Loss(loss) => forward.loss = loss,
                Harm::Stall(_) => {}
            }
        }
        DelayLine {
            left_to_right: forward,
            ..DelayLine::lossless(Duration::ZERO, Duration::ZERO)
        }
    }

    /// Whether a segment needs a line. With a delay of 0 it does, so that it can be hurt later.
    pub(crate) fn have_line(self, segment: Segment) -> bool {
        let mut on_segment = self.0.iter().filter(|hurt| hurt.segment == segment);
        on_segment.any(|hurt| matches!(hurt.harm, Harm::Delay(_) | Harm::Loss(_)))
    }

    /// How long the switch of a segment stands still, if it does.
    pub(crate) fn stall(self, segment: Segment) -> Option<Duration> {
        self.0.iter().find_map(|hurt| match hurt.harm {
            Harm::Stall(stall) if hurt.segment == segment => Some(stall),
            _ => None,
        })
    }

    /// Whether any segment needs a line.
    pub(crate) fn have_lines(self) -> bool {
        self.0.iter().any(|hurt| self.have_line(hurt.segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hurt_is_a_segment_and_a_harm() {
        let ms = Duration::from_millis;
        for (text, segment, harm) in [
            ("underlay:5ms", Segment::Underlay, Harm::Delay(ms(5))),
            ("far-switch:loss=1%", Segment::FarSwitch, Harm::Loss(0.01)),
            ("own-switch:stall=50ms", Segment::OwnSwitch, Harm::Stall(ms(50))),
            ("own-encapsulation:1ms", Segment::OwnEncapsulation, Harm::Delay(ms(1))),
        ] {
            let hurt: Hurt = text.parse().unwrap();
            assert_eq!(hurt, Hurt { segment, harm });
            assert_eq!(hurt.to_string(), text);
        }
        for (text, message) in [
            ("underlay", "write SEGMENT:HARM"),
            (
                "cable:5ms",
                "no segment cable; there are own-switch, own-encapsulation, underlay,",
            ),
            ("underlay:5", "5 is not a time such as 5ms"),
            ("underlay:2s", "a delay of at most 1s"),
            ("underlay:loss=60%", "a loss of at most 50%"),
            ("underlay:loss=x", "`x` is not a loss"),
            ("underlay:jitter=1ms", "no harm jitter"),
            ("underlay:stall=50ms", "only own-switch and far-switch can stall"),
            ("far-switch:stall=1s", "a stall is shorter than 1s"),
        ] {
            let error = text.parse::<Hurt>().unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn segment_has_its_own_harms_only() {
        let hurts = [
            "far-switch:stall=20ms",
            "underlay:5ms",
            "underlay:loss=10%",
            "own-switch:0ms",
        ];
        let hurts = hurts.map(|text| text.parse().unwrap());
        let hurts = Hurts(&hurts);
        let line = hurts.line(Segment::Underlay);
        assert_eq!(
            (line.left_to_right.delay, line.left_to_right.loss),
            (Duration::from_millis(5), 0.1)
        );
        assert_eq!(
            (line.right_to_left.delay, line.right_to_left.loss),
            (Duration::ZERO, 0.0)
        );
        assert!(!hurts.have_line(Segment::FarSwitch), "a stall needs no line");
        assert!(hurts.have_line(Segment::OwnSwitch), "it may be hurt later");
        let unhurt = DelayLine::lossless(Duration::ZERO, Duration::ZERO);
        assert_eq!(hurts.line(Segment::OwnSwitch), unhurt);
        assert_eq!(hurts.stall(Segment::FarSwitch), Some(Duration::from_millis(20)));
        assert_eq!(hurts.stall(Segment::OwnSwitch), None);
        assert!(hurts.have_lines() && !Hurts(&hurts.0[..1]).have_lines());
    }

    #[test]
    fn encapsulation_needs_a_tunnel_device() {
        let hurts = ["far-encapsulation:5ms".parse().unwrap()];
        assert!(Hurts(&hurts).check(Datapath::Kernel).is_ok());
        let error = Hurts(&hurts).check(Datapath::Userspace).unwrap_err();
        assert!(
            error.is::<UsageError>() && error.to_string().starts_with("--hurt far-encapsulation: "),
            "{error}"
        );
    }
}
