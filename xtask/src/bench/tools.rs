//! The tools that are compared.

mod asyncio;
pub(super) mod icmp;
mod irtt;
mod kstamp;
mod sockperf;
mod stamp_suite;
pub(super) mod volley;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::bench::place::Place;
use crate::bench::tool::Tool;
use crate::{UsageError, run, setup, signals};

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
    built: Option<PathBuf>,
}

pub(super) type Tools = Vec<Box<dyn Tool>>;

/// The file of `--json`, if it is given.
pub(super) struct Json(Option<File>);

impl Json {
    pub(super) fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let line = serde_json::to_string(line).context("cannot write JSON")?;
        writeln!(file, "{line}").context("cannot write the file of --json")
    }
}

impl ToolArguments {
    /// Checks the arguments and opens the file of `--json`, before anything is built or measured.
    pub(super) fn prepare(&self) -> Result<(Tools, Json, Place)> {
        let tools = self.tools()?;
        let open = |path: &PathBuf| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let json = Json(self.json.as_ref().map(open).transpose()?);
        let kstamp = run::built(self.built.as_deref())?;
        setup::bench_tools();
        signals::catch()?;
        Ok((tools, json, Place::up(&kstamp)?))
    }

    /// The chosen tools, kstamp first; all by default.
    fn tools(&self) -> Result<Tools> {
        let all: Tools = vec![
            Box::new(kstamp::Kstamp),
            Box::new(volley::VOLLEY),
            Box::new(volley::TRAIN),
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
