//! The HTTP side of a command, in a thread of its own. The command hands over updates and never waits for a request.

mod access;
mod connection;
mod feed;
pub mod openapi;
pub mod query;
mod reply;
pub mod site;
mod slow;
pub mod stream;
pub mod web_config;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use log::warn;
use probe_host::clock::monotonic_ns;
use probe_host::process::in_background;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::serve::connection::Connections;
pub use crate::serve::feed::Feed;
use crate::serve::feed::Shared;
use crate::serve::reply::Replies;
use crate::serve::site::Site;
use crate::serve::web_config::{LiveConfig, WebConfig};

/// Where and how to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeConfig {
    /// The flag that has `listen`.
    pub flag: &'static str,
    pub listen: SocketAddr,
    /// In the format of Prometheus' exporter toolkit.
    pub web_config: Option<PathBuf>,
}

/// Time between two calls of [`Site::tick`], and two comments in the stream.
const TICK: Duration = Duration::from_secs(5);
/// Wait after an error of accept (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, and is not served yet.
pub struct Server {
    listener: TcpListener,
    config: LiveConfig,
}

impl Server {
    /// Listens. Fails if the address is busy or not this host's.
    pub fn listen(config: &ServeConfig) -> Result<Self> {
        let ServeConfig {
            flag,
            listen,
            web_config,
        } = config;
        let listener = TcpListener::bind(listen).map_err(|error| anyhow!("{flag} {listen}: {}", in_words(&error)))?;
        listener
            .set_nonblocking(true)
            .with_context(|| format!("{flag}: cannot use the socket"))?;
        let config = match web_config {
            Some(path) => LiveConfig::read(path)?,
            None => LiveConfig::none(),
        };
        if !listen.ip().is_loopback() && config.is_open() {
            warn!(
                "{flag} {listen} shows all results to all hosts that reach it; --web-config FILE adds TLS and passwords, and \
                 127.0.0.1 keeps them on this host"
            );
        }
        Ok(Self { listener, config })
    }

    /// Serves from now on, until all copies of the feed are gone.
    pub fn start<S: Site>(self, site: S) -> Result<Feed<S::Update>> {
        let (feed, updates) = Feed::new(monotonic_ns());
        let shared = feed.shared();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(self.serve(site, updates, shared)),
                Err(error) => warn!("nothing is served: {error}"),
            }
        };
        in_background("kstamp-http", run).context("cannot start a thread for the HTTP server")?;
        Ok(feed)
    }

    async fn serve<S: Site>(self, site: S, mut updates: mpsc::Receiver<S::Update>, shared: Arc<Shared>) {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return warn!("nothing is served: {error}"),
        };
        let is_local = listener
            .local_addr()
            .is_ok_and(|address| address.ip().to_canonical().is_loopback());
        let replies = Replies::new(site, self.config, shared, is_local);
        let mut connections = Connections::new(replies.clone());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                update = updates.recv() => match update {
                    Some(update) => replies.update(update, monotonic_ns()),
                    None => return,
                },
                _ = ticks.tick() => replies.tick(monotonic_ns()),
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
        std::io::ErrorKind::InvalidInput => {
            "a link-local address needs the number of its interface, as in [fe80::1%2]; `ip link` shows it".to_owned()
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
