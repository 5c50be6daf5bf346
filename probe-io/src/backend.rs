//! Two ways to stamp packets at an interface: kernel programs, and sockets.

pub mod ebpf;
pub mod error;
pub mod facts;
pub mod socket;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};

use probe_core::agent::event::Transmit;
use probe_core::attach::AttachMode;
use probe_core::engine::Engine;
use probe_core::mismatch::Mismatches;
use probe_core::observation::Reply;
use probe_core::reflector::SessionKey;
use probe_host::clock::ClockState;
use probe_host::link::Link;

use crate::backend::error::{AttachError, ObjectError};
use crate::backend::facts::Facts;
use crate::udp::sockets::{SocketPair, Sockets};

/// What a backend knows about a probe without a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// The reply was accepted, but the ring buffer was full.
    CollectorLost,
    /// It was stamped.
    Left,
    /// It was not stamped, so it did not leave.
    NotLeft,
}

/// A probe to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    pub transmit: Transmit,
    /// The peer's address, or the group's.
    pub to: IpAddr,
}

/// Stamps the packets of one interface. The port that uses it owns the sockets and follows the interface.
pub(crate) trait Backend {
    fn engine(&self) -> Engine;

    /// Attaches to `link` in `mode`, in place of the mode before.
    fn attach(&mut self, link: &Link, mode: AttachMode, probing: bool) -> Result<(), AttachError>;

    /// Detaches from an interface that is gone or will be opened again.
    fn detach(&mut self);

    /// What the next process needs to go on without a gap, by name.
    fn kept(&self) -> Vec<(String, BorrowedFd<'_>)> {
        Vec::new()
    }

    /// As [`Backend::detach`], but programs in [`Backend::kept`] stay attached for as long as another process keeps them.
    fn leave(&mut self) {
        self.detach();
    }

    /// The programs that others have detached from `link`. [`Backend::attach`] then attaches them again.
    fn take_detached(&mut self, link: &Link) -> Option<&'static str>;

    /// Foreign programs that see packets before those of the backend, at egress or else at ingress.
    fn preceding(&self, index: u32, egress: bool) -> Vec<String>;

    /// Updates addresses, sockets and clock.
    fn configure(&mut self, facts: &Facts<'_>) -> Result<(), ObjectError>;

    /// Whether replies that the backend sent never leave `link`. Call it twice a second.
    fn loses_replies(&mut self, link: &Link) -> Result<bool, ObjectError>;

    /// `peer` is probed at its own address in session `ssid`, which reflectors without RFC 8972 do not return.
    fn set_session(&mut self, peer: IpAddr, ssid: u16) -> Result<(), ObjectError>;

    /// Makes room for the probe `seq` of session `ssid`, which is sent by other means than [`Backend::send`].
    fn prepare(&mut self, _ssid: u16, _seq: u32) -> Result<(), ObjectError> {
        Ok(())
    }

    /// UTC − `CLOCK_MONOTONIC` of the stamps in packets, modulo 2⁶⁴.
    fn utc_offset_ns(&self) -> u64;

    /// Sends probes of one IP version. Calls `failed` for each probe that was not sent.
    fn send(
        &mut self,
        sockets: &Sockets,
        probes: &mut dyn Iterator<Item = Outgoing>,
        clock: &ClockState,
        failed: &mut dyn FnMut(Outgoing, io::Error),
    );

    /// Looks up a probe without a reply.
    fn trace(&mut self, sockets: &SocketPair, ssid: u16, seq: u32, peer: IpAddr) -> Trace;

    /// Ready when there may be replies. Wakes only the last task that polled.
    fn poll_ready(&self, sockets: &SocketPair, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes the replies received so far, but only as many as do not hold up the caller: with more of them waiting, it
    /// returns T4 of the last one taken, `CLOCK_MONOTONIC`.
    fn drain(&mut self, sockets: &SocketPair, clock: &ClockState, each: &mut dyn FnMut(&Reply)) -> Option<u64>;

    /// Packets so far that arrived where replies are expected, and answer no probe. Kernel programs only count them; the
    /// reasons are of those that came up to the sending sockets.
    fn mismatches(&mut self, sockets: &SocketPair) -> Mismatches;

    /// Probes of `source` that a limit has refused, if the backend counts them.
    fn refused(&self, source: IpAddr) -> Option<u64>;

    /// Replies that kernel programs have sent in a session, modulo 2³²; `None` if they do not know it.
    fn replies_sent(&self, _session: &SessionKey) -> Option<u32> {
        None
    }

    /// Counters by name.
    fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, ObjectError>;
}
