//! Arguments of `kstamp report`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// JSON lines of agents, reflectors and pings (--format jsonl, --samples); - for standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// A page, or windows and summaries as comma-separated values
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "html")]
    pub format: ReportFormat,

    /// Write the report to this file instead of standard output; without it and with --parquet, there is no report
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write samples as comma-separated values to this file
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,

    /// Write the segments of windows (agent --hops) as comma-separated values to this file
    #[arg(long, value_name = "FILE")]
    pub hops: Option<PathBuf>,

    /// Write windows, summaries, samples and segments to this file in one table of Apache Parquet
    #[arg(long, value_name = "FILE")]
    pub parquet: Option<PathBuf>,

    /// Name of the agent whose records in this file do not say who measured, because an older kstamp wrote them; repeatable
    #[arg(long, value_name = "FILE=NAME")]
    pub agent: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One page that needs no other file
    Html,
    /// Comma-separated values
    Csv,
}
