//! Flags of `kstamp volley`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use probe_core::volley::{DEFAULT_BALLS, DEFAULT_TIMEOUT_NS, MAX_BATCH};

use crate::command::shared::args::OutputArgs;
use crate::command::shared::values::AGENT_PORT;

pub const DEFAULT_SAMPLES_EVERY: u32 = 1_000;

#[derive(Debug, Clone, Args)]
pub struct VolleyArgs {
    /// Interface to send from
    #[arg(long, value_name = "IFACE")]
    pub iface: String,

    /// Address of a host whose `kstamp agent` or `kstamp reflect` agrees to a volley (--volley-limit)
    #[arg(long, value_name = "ADDR")]
    pub peer: String,

    /// UDP port that the peer's agent or reflector listens on
    #[arg(short, long, value_name = "PORT", default_value_t = AGENT_PORT.to_string())]
    pub port: String,

    /// How probes are sent (auto: volley where the interface can, else sendmmsg)
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub mode: ModeArg,

    /// Maximum probes per second; max: as many as the peer agrees to [default: 100000, or what the peer agrees to if that
    /// is less]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub rate: Option<String>,

    /// Probes in flight at once in mode volley; more than 1 delay one another (self-queueing)
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_BALLS.to_string(), allow_negative_numbers = true)]
    pub balls: String,

    /// Probes in a burst, and time from one burst to the next, such as 256/250us [default: what --rate needs, about each 250us]
    #[arg(long, value_name = "NUMBER/PERIOD", allow_hyphen_values = true)]
    pub burst: Option<String>,

    /// Send without pauses instead of in bursts, in mode volley; other traffic waits longer
    #[arg(long, conflicts_with = "burst")]
    pub continuous: bool,

    /// Probes that leave at once in mode train
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_BATCH.to_string(), allow_negative_numbers = true)]
    pub batch: String,

    /// A probe without a reply is lost after this time
    #[arg(short = 'W', long, value_name = "DURATION", default_value_t = default_timeout())]
    pub timeout: String,

    /// How long to send
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub duration: String,

    /// Time between two rows of results, at least 10ms
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub every: String,

    /// Write samples of single probes to this file, one JSON object per line; truncated at the start
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,

    /// Number of probes of which one is written to --samples
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_SAMPLES_EVERY.to_string(), allow_negative_numbers = true)]
    pub samples_every: String,

    /// Also send to a STAMP reflector that does not report whether it agrees
    #[arg(long)]
    pub force: bool,

    /// Write an HTML page with a heat map of round trips to this file, which is truncated
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    #[command(flatten)]
    pub output: OutputArgs,
}

fn default_timeout() -> String {
    humantime::format_duration(Duration::from_nanos(DEFAULT_TIMEOUT_NS)).to_string()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Volley where the interface can, sendmmsg otherwise
    Auto,
    /// Closed loop: a reply becomes the next probe in the kernel
    Volley,
    /// Open loop: the kernel stamps and sends trains of probes
    Train,
    /// A socket sends, for devices that have neither
    Sendmmsg,
}
