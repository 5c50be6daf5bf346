//! Configuration of the server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Listen address and limits.
#[derive(Debug, Clone)]
pub struct Config {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `None` for plain TCP.
    pub tls: Option<TlsFiles>,
    /// Touch no rule but those of the measuring class ([`crate::openflow::cookie::MEASURING`]): no table miss.
    pub measure_only: bool,
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
    /// Certificate of this controller, followed by intermediate ones.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The certificate authority that switches' certificates must come from.
    pub ca: PathBuf,
}

/// Resources that a switch may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Simultaneous connections, unfinished handshakes included.
    pub switches: usize,
    pub message_bytes: usize,
    /// Time from the connection to the last answer of the handshake, TLS included.
    pub handshake: Duration,
    /// Silence after which the switch is asked for an echo.
    pub idle: Duration,
    /// Silence after which the connection is closed; also how long one write may take. More than `idle`.
    pub dead: Duration,
    /// Rate and burst of packet-ins for each of two classes: of rules that measure, and others. One port may take a quarter of
    /// it. Packet-ins above are dropped and counted, and the connection is read more slowly.
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

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen at {address} for switches: {source}; {}", remedy(.source))]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    /// A TLS file is unusable.
    #[error("{0}")]
    Tls(String),
    #[error("cannot start the thread for switches: {0}")]
    Thread(#[source] std::io::Error),
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrNotAvailable => "this host does not have that address; `ip address` lists its addresses",
        ErrorKind::PermissionDenied => "give a --listen with a port above 1023, or run kstamp as root",
        _ => "is another controller running? Stop it, or give another --listen",
    }
}
