//! Arguments of `kstamp report`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// JSON lines of agents, reflectors and pings (--format jsonl, --samples); - for standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Write the report to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Name of the agent whose records in this file do not say who measured, because an older kstamp wrote them; repeatable
    #[arg(long, value_name = "FILE=NAME")]
    pub agent: Vec<String>,
}
