//! Flags of `kstamp compare` and `kstamp calibrate`.

use std::path::PathBuf;

use clap::Args;

use crate::command::shared::args::{AttachArg, OutputArgs};
use crate::command::shared::values::AGENT_PORT;
use crate::output::Format;

#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Interface to measure on
    #[arg(long, value_name = "IFACE")]
    pub iface: String,

    /// Address of the other end, where `kstamp agent` or `kstamp reflect` runs
    #[arg(long, value_name = "ADDR")]
    pub peer: String,

    /// UDP port that the peer's agent or reflector listens on
    #[arg(long, value_name = "PORT", default_value_t = AGENT_PORT.to_string())]
    pub port: String,

    /// Hook of the receive program (auto: the fastest that works on this interface)
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub attach: AttachArg,

    /// Time between two probes of the same method, at least 1ms
    #[arg(long, value_name = "DURATION", default_value = "10ms")]
    pub interval: String,

    /// Length of each phase
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub duration: String,

    /// A probe without a reply is lost after this time
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,

    /// Measure a second phase under load, with this number of busy processes (default: 2 per CPU)
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "auto")]
    pub stress: Option<String>,

    /// Run the local threads of the methods userspace and socket at SCHED_FIFO; for the far end, use --responder realtime
    /// there
    #[arg(long)]
    pub realtime: bool,

    /// Write an HTML page with plots to this file, which is truncated
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Remark to print beside the results; repeatable
    #[arg(long, value_name = "TEXT")]
    pub note: Vec<String>,

    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct CalibrateArgs {
    /// Hook of the receive program (auto: native XDP)
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub attach: AttachArg,

    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    pub duration: String,

    /// Output format: a line of text, or a JSON object
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}
