//! Sends the metrics to an OpenTelemetry receiver (OTLP over HTTP, protobuf), in a thread of its own.

mod pace;
mod post;
pub mod target;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use log::{debug, warn};
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_host::process::in_background;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::otlp::pace::Pace;
use crate::otlp::post::{Accepted, Post};
pub use crate::otlp::target::OtlpConfig;
use crate::output::metrics::format::zipped;
use crate::output::metrics::{Metrics, otlp};

/// Time for the last export when the agent ends.
const LAST_EXPORT: Duration = Duration::from_secs(3);
/// Time for the metrics to get the last results before that.
const LAST_RESULTS: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);

/// The thread that sends.
pub struct Exporter {
    /// Takes another interval; dropped to stop it.
    pace: mpsc::Sender<Duration>,
    done: oneshot::Receiver<()>,
}

impl Exporter {
    /// Sends `metrics` from now on, in pace with the reports. `host` is this host's name.
    pub fn start(config: OtlpConfig, metrics: Arc<Mutex<Metrics>>, host: String, report: Duration) -> Result<Self> {
        let (pace, paces) = mpsc::channel();
        let (ended, done) = oneshot::channel();
        let run = move || {
            let mut sender = Sender {
                post: Post::new(config),
                metrics,
                host,
                link: Link::default(),
            };
            sender.run(&paces, report);
            // Nobody waits if the agent was killed.
            let _ = ended.send(());
        };
        in_background("kstamp-otlp", run).context("cannot start a thread for --otlp")?;
        Ok(Self { pace, done })
    }

    /// Sends in pace with another report interval.
    pub fn set_report(&self, report: Duration) {
        // The thread ends only when this is dropped.
        let _ = self.pace.send(report);
    }

    /// Sends once more, and waits for that for a short time.
    pub async fn finish(self) {
        drop(self.pace);
        let _ = timeout(LAST_EXPORT + LAST_RESULTS, self.done).await;
    }
}

struct Sender {
    post: Post,
    metrics: Arc<Mutex<Metrics>>,
    host: String,
    link: Link,
}

impl Sender {
    /// One request at a time: while it fails nothing is queued, because the next one contains it all.
    fn run(&mut self, paces: &mpsc::Receiver<Duration>, report: Duration) {
        let mut pace = Pace::new(report);
        let mut wait = pace.first();
        loop {
            wait = match paces.recv_timeout(wait) {
                Ok(report) => {
                    pace = Pace::new(report);
                    pace.first()
                }
                Err(RecvTimeoutError::Timeout) => {
                    let begin = Instant::now();
                    match self.export(None) {
                        Some(Ok(())) | None => pace.succeeded(begin.elapsed()),
                        Some(Err(failure)) => pace.failed(failure.retry_after),
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
        }
        let end = Instant::now() + LAST_RESULTS;
        while !self.lock().has_ended() && Instant::now() < end {
            thread::sleep(POLL);
        }
        self.export(Some(LAST_EXPORT));
    }

    /// `None` if there is nothing to send yet.
    fn export(&mut self, limit: Option<Duration>) -> Option<Result<(), post::Failure>> {
        let body = {
            let mut metrics = self.lock();
            metrics.expire(monotonic_ns());
            otlp::encode(&metrics, &self.host, realtime_ns())?
        };
        let outcome = self.post.send(&zipped(&body)?, limit);
        let url = &self.post.url;
        if let Some(line) = self.link.note(outcome.as_ref(), Instant::now()) {
            warn!("--otlp {url}: {line}");
        }
        if let Err(failure) = &outcome {
            debug!("--otlp {url}: {}", failure.why);
        }
        Some(outcome.map(drop))
    }

    fn lock(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the user has been told about the receiver.
#[derive(Debug, Default)]
struct Link {
    down_since: Option<Instant>,
    told_of_rejects: bool,
}

impl Link {
    /// A line for the user, if the state has changed.
    fn note(&mut self, outcome: Result<&Accepted, &post::Failure>, now: Instant) -> Option<String> {
        match outcome {
            Err(failure) => {
                let is_new = self.down_since.is_none();
                self.down_since.get_or_insert(now);
                is_new.then(|| format!("{}; measuring goes on, and sending is tried again", failure.why))
            }
            Ok(accepted) => {
                let down = self.down_since.take();
                let back = down.map(|since| {
                    let seconds = now.saturating_duration_since(since).as_secs();
                    format!("metrics are taken again, after {seconds} s")
                });
                let rejects = (accepted.rejected > 0 && !self.told_of_rejects).then(|| {
                    self.told_of_rejects = true;
                    let Accepted { rejected, message } = accepted;
                    format!("{rejected} series were not taken: {message}")
                });
                [back, rejects].into_iter().flatten().reduce(|a, b| format!("{a}; {b}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
