//! `kstamp calibrate`: the noise floor of kstamp on this host.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use probe_core::attach::AttachMode;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::Summary;
use probe_io::compare::private;

use crate::command::compare::config::CalibrateConfig;
use crate::command::compare::output::{jsonl, text};
use crate::command::shared::host::{check_host, host_name};
use crate::output::file::OutputFile;
use crate::output::progress::Progress;
use crate::output::{Format, terminal};

/// Measures over a private veth pair and prints the floor.
pub async fn run(config: CalibrateConfig) -> Result<()> {
    check_host()?;
    let progress = Progress::show("calibrating", Duration::from_millis(config.probes.into()));
    let floor = floor(config.mode, config.probes).await?;
    drop(progress);
    let mut results = Vec::new();
    match (config.format, &floor) {
        (Format::Jsonl, _) => jsonl::floor(&host_name(), config.mode, floor, &mut results)?,
        (Format::Text, Some(floor)) => text::floor(config.mode, floor, terminal::columns(), &mut results)?,
        (Format::Text, None) => bail!("no probe was answered"),
    }
    Ok(OutputFile::open(None)?.write_all(&results)?)
}

/// Round trips over a veth pair; `None` without a sample.
pub async fn floor(mode: AttachMode, probes: u32) -> Result<Option<Summary>> {
    let measured = tokio::task::spawn_blocking(move || private::measure(mode, probes)).await;
    let mut distribution = Distribution::default();
    for rtt_ns in measured.context("the calibration was interrupted")?? {
        distribution.record(rtt_ns as i64);
    }
    Ok(distribution.summary())
}
