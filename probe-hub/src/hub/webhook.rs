//! Posts changes of alerts as JSON, one by one and in order, in a thread of its own: a receiver that is slow or away delays
//! nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use probe_host::process::in_background;
use serde::Serialize;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{StatusCode, header};
use ureq::tls::TlsConfig;

use crate::hub::alerts::Change;
use crate::roots;
use crate::spread::spread;

/// Changes that wait. Of more, the oldest are dropped.
pub const MAX_UNSENT: usize = 1000;
/// Time for one request, from the look-up of the name to the end of the reply.
const TIMEOUT: Duration = Duration::from_secs(10);
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The thread that posts. It ends with this.
#[derive(Debug)]
pub struct Webhook(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    unsent: VecDeque<Change>,
    /// Of the first one in the queue. Another one has another number.
    first: u64,
    figures: DeliveryCounts,
    is_over: bool,
}

/// Changes since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    pub sent: u64,
    /// There was no room, or the receiver refused them.
    pub dropped: u64,
}

#[derive(Serialize)]
struct Message<'a> {
    /// Which hub it comes from.
    hub: &'a str,
    #[serde(flatten)]
    change: &'a Change,
}

impl Webhook {
    /// `done` is called after each change that no longer waits.
    pub fn start(url: String, hub: String, done: impl Fn() + Send + 'static) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = Arc::clone(&shared);
        in_background("kstamp-webhook", move || thread.run(&url, &hub, done))
            .context("cannot start a thread for --webhook")?;
        Ok(Self(shared))
    }

    pub fn post(&self, changes: impl IntoIterator<Item = Change>) {
        let mut queue = self.0.queue();
        queue.unsent.extend(changes);
        let excess = queue.unsent.len().saturating_sub(MAX_UNSENT);
        if excess > 0 {
            log::warn!("--webhook: {excess} of the oldest alerts are dropped, because {MAX_UNSENT} others wait");
        }
        for _ in 0..excess {
            queue.pop();
        }
        queue.figures.dropped += excess as u64;
        self.0.changed.notify_all();
    }

    /// What waits, the oldest first.
    pub fn unsent(&self) -> Vec<Change> {
        self.0.queue().unsent.iter().cloned().collect()
    }

    /// Forgets what waits: another hub posts it.
    pub fn clear(&self) {
        let mut queue = self.0.queue();
        while queue.pop().is_some() {}
    }

    pub fn figures(&self) -> DeliveryCounts {
        self.0.queue().figures
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.0.queue().is_over = true;
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Change> {
        let change = self.unsent.pop_front()?;
        self.first += 1;
        Some(change)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, url: &str, hub: &str, done: impl Fn()) {
        let agent = agent();
        let mut failures = 0;
        loop {
            let (number, change) = {
                let queue = self.queue();
                let is_idle = |queue: &mut Queue| queue.unsent.is_empty() && !queue.is_over;
                let queue = self
                    .changed
                    .wait_while(queue, is_idle)
                    .unwrap_or_else(PoisonError::into_inner);
                match queue.unsent.front() {
                    Some(change) if !queue.is_over => (queue.first, change.clone()),
                    _ => return,
                }
            };
            let outcome = send(&agent, url, &Message { hub, change: &change });
            let mut queue = self.queue();
            let is_done = !matches!(outcome, Outcome::Retry(_));
            // Meanwhile it may have been dropped.
            if is_done && queue.first == number {
                queue.pop();
            }
            if is_done {
                done();
            }
            match outcome {
                Outcome::Sent => {
                    queue.figures.sent += 1;
                    if failures > 0 {
                        log::info!("--webhook: the receiver takes alerts again");
                    }
                    failures = 0;
                }
                Outcome::Refused(status) => {
                    queue.figures.dropped += 1;
                    log::warn!("--webhook: the receiver refuses an alert: {status}");
                }
                Outcome::Retry(why) => {
                    if failures == 0 {
                        log::warn!("--webhook: {why}; trying again");
                    }
                    failures += 1;
                    let is_waiting = |queue: &mut Queue| !queue.is_over;
                    drop(self.changed.wait_timeout_while(queue, backoff(failures), is_waiting));
                }
            }
        }
    }
}

enum Outcome {
    Sent,
    /// The receiver will never take it.
    Refused(StatusCode),
    Retry(String),
}

fn agent() -> Agent {
    Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("kstamp/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(TIMEOUT))
        .tls_config(TlsConfig::builder().root_certs(roots::system()).build())
        .build()
        .new_agent()
}

fn send(agent: &Agent, url: &str, message: &Message) -> Outcome {
    let body = serde_json::to_vec(message).unwrap_or_default();
    let request = agent.post(url).header(header::CONTENT_TYPE, "application/json");
    match request.send(&body[..]).map(|response| response.status()) {
        Ok(status) if status.is_success() => Outcome::Sent,
        Ok(status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)) => {
            Outcome::Retry(format!("the receiver answers {status}"))
        }
        Ok(status) if status.is_server_error() => Outcome::Retry(format!("the receiver answers {status}")),
        Ok(status) => Outcome::Refused(status),
        Err(error) => Outcome::Retry(error.to_string()),
    }
}

/// Twice as long each time. Hubs that start together do not post together.
fn backoff(failures: u32) -> Duration {
    let backoff = MIN_BACKOFF * 2_u32.saturating_pow((failures - 1).min(16));
    spread(backoff.min(MAX_BACKOFF))
}

#[cfg(test)]
mod tests;
