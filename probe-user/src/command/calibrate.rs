//! `kstamp calibrate`: how far kstamp's own numbers can be believed on this machine.

use std::io;

use anyhow::{Context as _, Result};
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::Summary;
use probe_io::backend::ebpf::plan::ReceiveMode;
use probe_io::compare::private;

use crate::command::check_host;
use crate::command::config::CalibrateConfig;
use crate::output::compare::{jsonl, text};
use crate::output::sink::Sink;
use crate::output::{Format, terminal};

/// Measures over a private veth pair, and prints the floor.
pub async fn run(config: CalibrateConfig) -> Result<()> {
    check_host()?;
    let floor = floor(config.mode, config.probes).await?;
    let mut sink = Sink::stdout();
    sink.write(|out| match (config.format, &floor) {
        (Format::Jsonl, _) => jsonl::floor(config.mode.into(), floor, out),
        (Format::Text, Some(floor)) => text::floor(config.mode.into(), floor, terminal::columns(), out),
        (Format::Text, None) => Err(io::Error::other("no probe came back")),
    })?;
    Ok(sink.flush()?)
}

/// Round trips over nothing. `None` only without a sample, of which there is always one.
pub(super) async fn floor(mode: ReceiveMode, probes: u32) -> Result<Option<Summary>> {
    let measured = tokio::task::spawn_blocking(move || private::measure(mode, probes)).await;
    let mut distribution = Distribution::default();
    for rtt_ns in measured.context("the calibration was cut off")?? {
        distribution.record(rtt_ns as i64);
    }
    Ok(distribution.summary())
}
