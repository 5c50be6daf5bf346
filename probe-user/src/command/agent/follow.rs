//! Keeps the metrics up to date with `--otlp` and without `--listen`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use probe_host::clock::monotonic_ns;
use probe_host::process::in_background;

use crate::command::shared::update::Update;
use crate::output::metrics::Metrics;
use crate::serve::Feed;

/// Adds to `metrics` from now on, in a thread of its own, until all copies of the feed are gone.
pub fn follow(metrics: Arc<Mutex<Metrics>>) -> Result<Feed<Update>> {
    let (feed, mut updates) = Feed::new(monotonic_ns());
    let run = move || {
        while let Some(update) = updates.blocking_recv() {
            let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
            match update {
                Update::Event(event) => metrics.event(&event, monotonic_ns()),
                Update::State(state) => metrics.set_state(*state),
                Update::ReportInterval(_) => {}
            }
        }
    };
    in_background("kstamp-metrics", run).context("cannot start a thread for --otlp")?;
    Ok(feed)
}
