//! The agent's side of the fleet. [`Link`] is what the measuring loop holds: no call of it waits. Everything else happens in a
//! thread of its own.

mod batch;
mod config;
mod kept;
mod limits;
mod link;
mod log_lines;
mod outbox;
mod probes;
mod recorder;
mod request;
mod rollup;
mod silence;
mod spool;
mod status;
#[cfg(test)]
mod test_data;
#[cfg(test)]
mod tests;
mod thread;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use probe_core::agent::event::Event;
use probe_host::clock::monotonic_ns;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::agent::recorder::{Item, Recorder};
use crate::agent::status::Shared;
use crate::message::event::Session;
use crate::message::presence::Presence;
use crate::name::PortName;

pub use crate::agent::config::{DEFAULT_BUFFER_SIZE, LinkConfig, LinkError};
pub use crate::agent::limits::RefusedTarget;
pub use crate::agent::request::{Reply, Request};
pub use crate::agent::status::{State, Status};
pub use crate::agent::thread::LinkThread;

/// Intervals and events that wait for the thread. It takes them at once, unless the disk is slow.
const MAX_ITEMS: usize = 64;
/// Requests that wait for the measuring loop.
const MAX_REQUESTS: usize = 64;

/// The link of one measured port to the fleet. Needs [`ProbeConfig::samples`] and [`ProbeConfig::delays`].
///
/// [`ProbeConfig::samples`]: probe_core::agent::config::ProbeConfig::samples
/// [`ProbeConfig::delays`]: probe_core::agent::config::ProbeConfig::delays
pub struct Link {
    recorder: Recorder,
    items: mpsc::Sender<Item>,
    presence: watch::Sender<Presence>,
    requests: Mutex<mpsc::Receiver<Request>>,
    shared: Arc<Shared>,
}

impl Link {
    /// Begins in `thread`, which was made before privileges were dropped. Returns at once, whether or not a server is there.
    pub fn start(thread: LinkThread, config: LinkConfig, presence: Presence) -> Result<Self, LinkError> {
        config.check()?;
        let (items, item_receiver) = mpsc::channel(MAX_ITEMS);
        let (request_sender, requests) = mpsc::channel(MAX_REQUESTS);
        let (presence, presence_receiver) = watch::channel(presence);
        let shared = Arc::<Shared>::default();
        let recorder = Recorder::new(config.report_ns, monotonic_ns());
        let ends = link::Ends {
            items: item_receiver,
            requests: request_sender,
            presence: presence_receiver,
            shared: Arc::clone(&shared),
        };
        thread.run(move || link::run(config, ends))?;
        Ok(Self {
            recorder,
            items,
            presence,
            requests: Mutex::new(requests),
            shared,
        })
    }

    /// Takes an event of the core. `session` has the fields of the probes to a peer; it is asked when a peer becomes silent.
    pub fn note(&mut self, event: &Event, session: impl FnOnce(IpAddr) -> Option<Session>) {
        if let Some(item) = self.recorder.note(event, session) {
            self.send(item);
        }
    }

    /// Delivers the windows that ended before `held_ns`, or all: see [`Agent::held_window_end_ns`].
    ///
    /// [`Agent::held_window_end_ns`]: probe_core::agent::Agent::held_window_end_ns
    pub fn flush(&mut self, held_ns: Option<u64>) {
        if !self.recorder.is_due(held_ns) {
            return;
        }
        for interval in self.recorder.flush(held_ns) {
            self.send(Item::Interval(Box::new(interval)));
        }
        self.shared.set_up(self.recorder.answering());
    }

    /// Hands an item to the thread. One for which there is no room is counted.
    fn send(&self, item: Item) {
        if self.items.try_send(item).is_err() {
            self.shared.add_dropped(1);
        }
    }

    /// Announces what this port is, if that has changed.
    pub fn set_presence(&self, presence: Presence) {
        self.presence.send_if_modified(|before| {
            let is_new = *before != presence;
            *before = presence;
            is_new
        });
    }

    /// The next request of the hub. Cancel-safe; for ever pending after the thread has ended.
    pub async fn request(&self) -> Request {
        match self.requests.lock().await.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }

    /// From now on, the assignment of this generation is in force: these addresses are probed, which belong to these ports.
    pub fn probing(&mut self, generation: u64, peers: impl IntoIterator<Item = (IpAddr, PortName)>) {
        self.recorder.set_peers(peers);
        self.shared.set_in_force(generation, self.recorder.peers());
    }

    /// A target that this host does not probe.
    pub fn refused(&self, target: RefusedTarget) {
        self.send(Item::Event(target.into()));
    }

    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Ends: windows and roll-ups go to the queue, and what can be delivered within `timeout` is. The rest stays on disk for
    /// the next process.
    pub async fn finish(mut self, timeout: Duration) {
        self.flush(None);
        let (done, ended) = oneshot::channel();
        let ended = async {
            if self.items.send(Item::Finish { timeout, done }).await.is_ok() {
                let _ = ended.await;
            }
        };
        // The thread needs a moment for its last files.
        let _ = tokio::time::timeout(timeout + Duration::from_secs(1), ended).await;
    }
}
