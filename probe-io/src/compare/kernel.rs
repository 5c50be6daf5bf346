//! The method `kernel`: kstamp's own probes, sent by the thread that paces those of the other methods too.

use std::io;
use std::net::SocketAddr;

use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use socket2::Socket;

/// The sending half; the receiving one is the ring buffer.
#[derive(Debug)]
pub struct Sender {
    pub(crate) socket: Socket,
    pub(crate) peer: SocketAddr,
    pub(crate) error: ErrorEstimate,
    pub(crate) ssid: u16,
}

impl Sender {
    /// Sends a probe; T1 is taken by the egress program.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, seq: u32) -> io::Result<()> {
        let probe = stamp::probe(seq, self.error, self.ssid);
        self.socket.send_to(&probe, &self.peer.into()).map(drop)
    }
}
