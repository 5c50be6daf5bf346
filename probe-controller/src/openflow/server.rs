//! The server that switches connect to: TCP or TLS, the handshake, limits, stamps.
//!
//! All of its I/O is on a thread of its own, so that the rest of the program does not delay stamps. It sends [`Event`]s
//! and takes [`Command`]s.

mod accept;
mod config;
mod connection;
mod context;
mod event;
mod handshake;
mod io;
mod limits;
mod pacer;
mod shared;
mod slots;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use probe_host::timer::Timer;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

pub use crate::openflow::server::config::{Config, Limits, StartError, TlsFiles};
use crate::openflow::server::context::Context;
pub use crate::openflow::server::event::{
    Build, Command, CommandError, ConnectionId, Event, EventKind, Events, Reason,
};
pub use crate::openflow::server::handshake::{MAX_PORTS, first_rules};
use crate::openflow::server::pacer::{Paced, Pacer};
pub use crate::openflow::server::shared::Counters;
use crate::openflow::server::shared::Shared;

/// Sends commands to connections, from any thread, without waiting.
#[derive(Clone)]
pub struct Switches {
    shared: Arc<Shared>,
    paced: mpsc::Sender<Paced>,
}

impl Switches {
    /// Sends a command to a connection. Commands are executed in order, except those with a time.
    ///
    /// # Errors
    /// [`CommandError`]; the command is then not executed.
    pub fn command(&self, connection: ConnectionId, command: Command) -> Result<(), CommandError> {
        let connections = self.shared.connections();
        let commands = connections.get(&connection).ok_or(CommandError::Gone)?;
        if let Command::SendStampedAt(due_ns, build) = command {
            let paced = Paced::new(due_ns, connection, build);
            return self.paced.try_send(paced).map_err(CommandError::from);
        }
        commands.try_send(command).map_err(CommandError::from)
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    switches: Switches,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// A listening socket: switches connect, and are served once the server is started.
pub struct Listening {
    config: Config,
    tls: Option<TlsAcceptor>,
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Reads the TLS files, and listens.
    ///
    /// # Errors
    /// [`StartError`]; nothing then listens.
    pub fn open(config: Config) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let failed = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = std::net::TcpListener::bind(config.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            config,
            tls,
            listener,
            address,
        })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// [`StartError`]; nothing then listens any more.
    pub fn start(self) -> Result<(Server, Events), StartError> {
        let Self {
            config,
            tls,
            listener,
            address,
        } = self;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(|source| StartError::Listen { address, source })?
        };
        let timer = {
            let _inside = runtime.enter();
            Timer::new().map_err(StartError::Thread)?
        };

        let shared = Arc::<Shared>::default();
        let (event_sender, events) = event::channel();
        let (paced, to_pace) = mpsc::channel(pacer::MAX_PLANNED);
        let (stop, stopped) = watch::channel(false);
        let for_thread = Arc::clone(&shared);
        let pacer = Pacer::new(timer, to_pace, Arc::clone(&shared));
        let run = move |runtime: Runtime| {
            let context = Context::new(config, for_thread, event_sender, stopped, tls);
            runtime.block_on(accept::run(listener, context, pacer));
        };
        let thread = thread::Builder::new().name("openflow".to_owned());
        let thread = thread.spawn(move || run(runtime)).map_err(StartError::Thread)?;
        let server = Server {
            address,
            switches: Switches { shared, paced },
            stop,
            thread: Some(thread),
        };
        Ok((server, events))
    }
}

impl Server {
    /// Listens and starts.
    ///
    /// # Errors
    /// [`StartError`]; nothing then listens.
    pub fn start(config: Config) -> Result<(Self, Events), StartError> {
        Listening::open(config)?.start()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn counters(&self) -> Counters {
        self.switches.shared.counts.read()
    }

    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Sends queued messages, closes all connections, and waits up to a second for the thread to end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread for switches has panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
