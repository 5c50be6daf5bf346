//! What the server is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How to listen, and whom to bear with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS; `None` for plain TCP.
    pub tls: Option<TlsFiles>,
    /// Touch no rule but those of the measuring class ([`crate::openflow::cookie::MEASURING`]): no table miss.
    pub measure_only: bool,
    /// What a switch may cost.
    pub limits: Limits,
}

impl Config {
    /// Plain TCP and the default limits.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            measure_only: false,
            limits: Limits::default(),
        }
    }
}

/// PEM files, as `ovs-vsctl set-ssl` takes them at the other end.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// This controller's certificate, and intermediate ones behind it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificate authority that switches' certificates must come from.
    pub ca: PathBuf,
}

/// What a switch may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time, those in their handshake included.
    pub switches: usize,
    /// Longest message in bytes.
    pub message_bytes: usize,
    /// From the connection to the last answer of the handshake, TLS included.
    pub handshake: Duration,
    /// Silence after which the switch is asked for an echo.
    pub idle: Duration,
    /// Silence after which the connection is closed; also how long one write may take. More than `idle`.
    pub dead: Duration,
    /// Packet-ins a second, and as many at once, for each of two classes: by a rule that measures, and others. What
    /// exceeds it is dropped and counted, and the connection is read more slowly.
    pub packet_ins_per_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            switches: 256,
            message_bytes: 65_535,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(5),
            dead: Duration::from_secs(15),
            packet_ins_per_s: 1_000,
        }
    }
}

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
