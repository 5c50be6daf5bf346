//! The HTTP side of an agent, in a thread of its own. The agent hands over events and never waits for a request.

mod access;
mod connection;
mod feed;
mod reply;
pub mod web_config;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use log::warn;
use probe_host::clock::monotonic_ns;
use probe_host::process::yield_to_other_threads;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::output::metrics::{Detail, Metrics};
use crate::serve::connection::Connections;
pub use crate::serve::feed::Feed;
use crate::serve::feed::{Shared, Update};
use crate::serve::reply::Replies;
use crate::serve::web_config::{LiveConfig, WebConfig};

/// Where and how to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeConfig {
    pub listen: SocketAddr,
    /// In the format of Prometheus' exporter toolkit.
    pub web_config: Option<PathBuf>,
    pub detail: Detail,
}

/// Time between two searches for peers that have been silent for long.
const EXPIRY: Duration = Duration::from_secs(30);
/// Wait after an error of accept (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, and is not served yet.
pub struct Server {
    listener: TcpListener,
    config: LiveConfig,
    detail: Detail,
}

impl Server {
    /// Listens. Fails if the address is busy or not this host's.
    pub fn listen(config: &ServeConfig) -> Result<Self> {
        let ServeConfig {
            listen,
            web_config,
            detail,
        } = config;
        let listener = TcpListener::bind(listen).map_err(|error| anyhow!("--listen {listen}: {}", in_words(&error)))?;
        listener
            .set_nonblocking(true)
            .context("--listen: cannot use the socket")?;
        let config = match web_config {
            Some(path) => LiveConfig::read(path)?,
            None => LiveConfig::none(),
        };
        if !listen.ip().is_loopback() && config.is_open() {
            warn!(
                "--listen {listen} shows the metrics to all hosts that reach it; --web-config FILE adds TLS and passwords, and \
                 127.0.0.1 keeps them on this host"
            );
        }
        Ok(Self {
            listener,
            config,
            detail: *detail,
        })
    }

    /// Serves from now on, until all copies of the feed are gone.
    pub fn start(self) -> Result<Feed> {
        let (feed, updates) = Feed::new(monotonic_ns());
        let shared = feed.shared();
        let run = move || {
            // Measuring has priority. If the kernel refuses this, both have the same.
            let _ = yield_to_other_threads();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(self.serve(updates, shared)),
                Err(error) => warn!("metrics are not served: {error}"),
            }
        };
        let thread = thread::Builder::new().name("kstamp-http".to_owned());
        thread.spawn(run).context("cannot start a thread for --listen")?;
        Ok(feed)
    }

    async fn serve(self, mut updates: mpsc::Receiver<Update>, shared: Arc<Shared>) {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return warn!("metrics are not served: {error}"),
        };
        let replies = Replies::new(Metrics::new(self.detail), self.config, shared);
        let mut connections = Connections::new(replies.clone());
        let mut expiry = interval(EXPIRY);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                update = updates.recv() => match update {
                    Some(update) => replies.update(update, monotonic_ns()),
                    None => return,
                },
                _ = expiry.tick() => replies.expire(monotonic_ns()),
                accepted = listener.accept() => match accepted {
                    Ok((socket, from)) => connections.admit(socket, from),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                () = connections.ended() => {}
            }
        }
    }
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process listens there; `ss -ltnp` lists them, or choose another port".to_owned()
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "this host does not have that address; `ip address` lists those it has".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => format!("{error}; choose a port above 1023"),
        _ => error.to_string(),
    }
}

/// Reads `web_config` for errors, before anything is opened.
pub fn check(config: &ServeConfig) -> Result<(), web_config::WebConfigError> {
    match &config.web_config {
        Some(path) => WebConfig::read(path).map(drop),
        None => Ok(()),
    }
}
