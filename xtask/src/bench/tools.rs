//! The tools that are compared.

mod asyncio;
mod icmp;
mod irtt;
mod kstamp;
mod sockperf;
mod stamp_suite;

use std::{fs::File, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::tool::Tool;
use crate::UsageError;

/// Arguments of both benches of tools.
#[derive(Clone, Debug, Args)]
pub(super) struct ToolArguments {
    /// Only these tools and kstamp; repeatable.
    #[arg(long, value_name = "TOOL")]
    tool: Vec<String>,
    /// Write the figures to this file, one JSON object per line.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Path of a built kstamp; set-up and building are skipped.
    #[arg(long, hide = true)]
    pub(super) built: Option<PathBuf>,
}

impl ToolArguments {
    /// Opens the file of `--json`, before anything is measured.
    pub(super) fn open_json(&self) -> Result<Option<File>> {
        let open = |path: &PathBuf| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        self.json.as_ref().map(open).transpose()
    }

    /// The chosen tools, kstamp first; all by default.
    pub(super) fn tools(&self) -> Result<Vec<Box<dyn Tool>>> {
        let all: Vec<Box<dyn Tool>> = vec![
            Box::new(kstamp::Kstamp),
            Box::new(icmp::Ping),
            Box::new(icmp::Fping),
            Box::new(irtt::Irtt),
            Box::new(sockperf::Sockperf),
            Box::new(stamp_suite::StampSuite),
            Box::new(asyncio::Asyncio),
        ];
        let names: Vec<_> = all.iter().map(|tool| tool.name()).collect();
        if let Some(unknown) = self.tool.iter().find(|name| !names.contains(&name.as_str())) {
            let names = names.join(", ");
            bail!(UsageError(format!("--tool {unknown}: no such tool; there are {names}")));
        }
        let is_chosen = |tool: &dyn Tool| {
            self.tool.is_empty() || tool.name() == "kstamp" || self.tool.iter().any(|name| name == tool.name())
        };
        Ok(all.into_iter().filter(|tool| is_chosen(tool.as_ref())).collect())
    }
}
