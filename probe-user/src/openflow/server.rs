//! The server that switches connect to: TCP or TLS, the handshake, limits, stamps.
//!
//! All of its I/O is on one thread of its own, so that nothing that the rest of the program does delays a stamp. The rest
//! hears [`Event`]s and gives [`Command`]s.

mod config;
mod counters;
mod event;

use std::net::SocketAddr;

use tokio::sync::mpsc;

pub use config::{Config, Limits, TlsFiles};
pub use counters::Counters;
pub use event::{Command, CommandError, ConnectionId, Event, Reason, What};

/// The server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened at.
    #[error(
        "cannot listen at {address} for switches: {source}; is another controller running? Stop it, or give another --listen"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A TLS file is not of use.
    #[error("{0}")]
    Tls(String),
    /// The thread could not be made.
    #[error("cannot start the thread for switches: {0}")]
    Thread(#[source] std::io::Error),
}

/// What happened, in the order in which it did. Closed when the server has ended.
pub type Events = mpsc::Receiver<Event>;

/// A running server. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    switches: Switches,
}

/// Gives commands to connections, from any thread, without waiting.
#[derive(Clone)]
pub struct Switches {}

impl Switches {
    /// Gives a command to a connection; commands to one connection are carried out in order.
    ///
    /// # Errors
    /// [`CommandError`]; the command is then not carried out.
    pub fn command(&self, connection: ConnectionId, command: Command) -> Result<(), CommandError> {
        let _ = (connection, command);
        todo!("being written")
    }
}

impl Server {
    /// Reads the TLS files, listens, and starts the thread. Switches connect from now on.
    ///
    /// # Errors
    /// [`StartError`]; nothing then listens.
    pub fn start(config: Config) -> Result<(Self, Events), StartError> {
        let _ = config;
        todo!("being written")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        todo!("being written")
    }

    /// What commands are given by; may be cloned.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Sends what is waiting, closes all connections, and waits for the thread to end: a second at most.
    pub fn stop(self) {}
}
