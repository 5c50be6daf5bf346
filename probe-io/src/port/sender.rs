//! The sending half of a port, for a thread of its own.

use std::io;
use std::net::SocketAddr;

use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use socket2::Socket;

/// Sends the probes of one session.
#[derive(Debug)]
pub struct ProbeSender {
    pub(crate) socket: Socket,
    pub(crate) peer: SocketAddr,
    pub(crate) error: ErrorEstimate,
    pub(crate) ssid: u16,
}

impl ProbeSender {
    /// Sends a probe; T1 is taken by the egress program.
    pub fn send(&mut self, seq: u32) -> io::Result<()> {
        let probe = stamp::probe(seq, self.error, self.ssid);
        self.socket.send_to(&probe, &self.peer.into()).map(drop)
    }
}
