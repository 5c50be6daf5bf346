//! Decisions about volleys and trains: how to send probes, when, and what the counts mean.

mod histogram;
mod losses;
mod pace;
mod plan;
mod snapshot;

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

pub use crate::volley::histogram::Histogram;
pub use crate::volley::losses::{Losses, Reflected, ReflectorCounter};
pub use crate::volley::pace::{Ages, BallTimeout, Pace};
pub use crate::volley::plan::{
    Burst, Capabilities, DEFAULT_BALLS, DEFAULT_TIMEOUT_NS, MAX_BALLS, MAX_BATCH, MAX_RATE_PER_S, MAX_TIMEOUT_NS, Plan,
    PlanInputs, Refusal, plan,
};
pub use crate::volley::snapshot::{Refused, Snapshot, Totals, difference};

/// How probes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// A reply becomes the next probe in the receive program (`XDP_TX`).
    Volley,
    /// A program makes probes at a pace (`BPF_PROG_TEST_RUN` with live frames).
    Train,
    /// A socket sends them, and programs at TC stamp them.
    Sendmmsg,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Volley, Self::Train, Self::Sendmmsg];

    /// The name in output and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Volley => "volley",
            Self::Train => "train",
            Self::Sendmmsg => "sendmmsg",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or(())
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_one_name_in_every_form() {
        for (mode, name) in [
            (Mode::Volley, "volley"),
            (Mode::Train, "train"),
            (Mode::Sendmmsg, "sendmmsg"),
        ] {
            assert_eq!((mode.to_string(), name.parse()), (name.to_owned(), Ok(mode)));
            assert_eq!(serde_json::to_value(mode).ok(), Some(name.into()));
        }
        assert_eq!("Volley".parse::<Mode>(), Err(()));
    }
}
