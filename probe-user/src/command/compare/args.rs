//! The command lines of `kstamp compare` and `kstamp calibrate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::command::args::{AttachArg, FormatArg};

/// `kstamp compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Interface to measure on
    #[arg(long, value_name = "IFACE")]
    pub iface: String,

    /// The other end: a port with `kstamp agent` or `kstamp reflect`
    #[arg(long, value_name = "ADDR")]
    pub peer: String,

    /// UDP port on which the peer's probes arrive
    #[arg(long, value_name = "PORT", default_value = "1910")]
    pub port: String,

    /// How to receive: the fastest way that works here, or only the one named
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub attach: AttachArg,

    /// Time between two probes of the same method: 10ms; at least 1ms
    #[arg(long, value_name = "DURATION", default_value = "10ms")]
    pub interval: String,

    /// Length of each phase
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub duration: String,

    /// Time after which a probe without an answer is lost
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,

    /// Measure once more beside this many busy processes [default where no number is given: two for each CPU]
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "auto")]
    pub stress: Option<String>,

    /// Run the threads of the process-bound methods at SCHED_FIFO; the far end's need --echo realtime there
    #[arg(long)]
    pub realtime: bool,

    /// Write a page with plots to this file; it is emptied first
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// A remark that is to stand beside the results; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub note: Vec<String>,

    /// Form of the output: tables for people, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: FormatArg,

    /// Write the output to this file instead of standard output; it is emptied first
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `kstamp calibrate`.
#[derive(Debug, Clone, Args)]
pub struct CalibrateArgs {
    /// How to receive; auto is native XDP
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    pub attach: AttachArg,

    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    pub duration: String,

    /// Form of the output: a line for people, or a JSON object
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: FormatArg,
}

/// `--echo` of agents and reflectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EchoArg {
    /// Answer
    On,
    /// Answer with threads at SCHED_FIFO
    Realtime,
    /// Do not answer
    Off,
}
