//! Keeps the metrics for `--otlp`, where no server does.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use probe_host::clock::monotonic_ns;
use probe_host::process::yield_to_other_threads;

use crate::command::shared::update::Update;
use crate::output::metrics::Metrics;
use crate::serve::Feed;

/// Adds to `metrics` from now on, in a thread of its own, until all copies of the feed are gone.
pub fn follow(metrics: Arc<Mutex<Metrics>>) -> Result<Feed<Update>> {
    let (feed, mut updates) = Feed::new(monotonic_ns());
    let run = move || {
        // Measuring has priority. If the kernel refuses this, both have the same.
        let _ = yield_to_other_threads();
        while let Some(update) = updates.blocking_recv() {
            let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
            match update {
                Update::Event(event) => metrics.event(&event, monotonic_ns()),
                Update::State(state) => metrics.set_state(*state),
            }
        }
    };
    let thread = thread::Builder::new().name("kstamp-metrics".to_owned());
    thread.spawn(run).context("cannot start a thread for --otlp")?;
    Ok(feed)
}
