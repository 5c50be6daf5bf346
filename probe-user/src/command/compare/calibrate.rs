//! `kstamp calibrate`: the noise floor of kstamp on this host.

use std::io;

use anyhow::{Context as _, Result};
use probe_core::attach::AttachMode;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::Summary;
use probe_io::compare::private;

use crate::command::compare::config::CalibrateConfig;
use crate::command::compare::output::{jsonl, text};
use crate::command::shared::host::check_host;
use crate::output::sink::Sink;
use crate::output::{Format, terminal};

/// Measures over a private veth pair and prints the floor.
pub async fn run(config: CalibrateConfig) -> Result<()> {
    check_host()?;
    let floor = floor(config.mode, config.probes).await?;
    let mut sink = Sink::stdout();
    sink.write(|out| match (config.format, &floor) {
        (Format::Jsonl, _) => jsonl::floor(config.mode, floor, out),
        (Format::Text, Some(floor)) => text::floor(config.mode, floor, terminal::columns(), out),
        (Format::Text, None) => Err(io::Error::other("no probe was answered")),
    })?;
    Ok(sink.flush()?)
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
