//! Stamps by sockets (`SO_TIMESTAMPING`): the best without eBPF, and the only way to authenticate.

mod in_flight;
mod mismatch;
mod reply;
mod signatures;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use probe_common::abi::{COUNTER_NAMES, Counter};
use probe_common::family::Family;
use probe_common::ntp::NtpTime;
use probe_common::{authenticated, stamp};
use probe_core::agent::event::Transmit;
use probe_core::attach::AttachMode;
use probe_core::auth::Key;
use probe_core::engine::Engine;
use probe_core::mismatch::Mismatches;
use probe_core::observation::Reply;
use probe_host::clock::{ClockState, monotonic_ns, realtime_ns};
use probe_host::link::Link;
use probe_host::wall::WallOffset;

use crate::backend::error::{AttachError, ObjectError};
use crate::backend::facts::Facts;
pub(crate) use crate::backend::socket::in_flight::InFlight;
pub(crate) use crate::backend::socket::mismatch::{Sent, mismatch};
pub(crate) use crate::backend::socket::reply::{InFlightProbe, WireReply};
use crate::backend::socket::signatures::Signatures;
use crate::backend::{Backend, Outgoing, Trace};
use crate::clock::error_estimate;
use crate::udp::sockets::{MAX_PACKET, SocketPair, Sockets};
use crate::udp::stamped::Received;
use crate::udp::watched::WatchedSocket;

/// Replies taken at once, so that a flood of the sending port does not stall the agent.
const MAX_AT_ONCE: usize = 4096;

/// The probes that the sockets of one interface have sent.
pub(crate) struct SocketBackend {
    test_port: u16,
    key: Option<Key>,
    wall: Cell<WallOffset>,
    in_flight: InFlight,
    signatures: Signatures,
    /// The interface's own addresses. Packets from them are our own that came back, or forged.
    own: BTreeSet<IpAddr>,
    sent: u64,
    stamped: u64,
    received: u64,
    duplicates_dropped: u64,
    mismatches: Mismatches,
}

impl SocketBackend {
    /// Probes and replies are authenticated if there is a key.
    pub(crate) fn new(test_port: u16, key: Option<Key>) -> Self {
        Self {
            test_port,
            key,
            wall: Cell::new(WallOffset::now()),
            in_flight: InFlight::default(),
            signatures: Signatures::default(),
            own: BTreeSet::new(),
            sent: 0,
            stamped: 0,
            received: 0,
            duplicates_dropped: 0,
            mismatches: Mismatches::default(),
        }
    }

    /// The offset stays as it is unless the clock was set, or a reading is more precise.
    fn follow_wall(&self) -> WallOffset {
        let mut wall = self.wall.get();
        wall.follow(WallOffset::now());
        self.wall.set(wall);
        wall
    }

    fn reply(&mut self, packet: &[u8], received: &Received, clock: &ClockState) -> Option<Reply> {
        let source = received.from.ip();
        if received.from.port() != self.test_port || self.own.contains(&source) {
            return None;
        }
        let wire = WireReply::read(packet, self.key.as_ref())?;
        let (id, probe) = self.in_flight.answered(source, &wire)?;
        if self.key.is_some() && probe.destination.is_multicast() && !self.signatures.are_of(source, packet) {
            return None;
        }
        let t4_ns = received.stamp_ns.unwrap_or_else(realtime_ns);
        Some(wire.observation(source, id, &probe, t4_ns, &self.wall.get(), clock))
    }

    /// T1 is the kernel's stamp of the probe, if the device gives one.
    fn send_one(&mut self, sockets: &Sockets, outgoing: Outgoing, clock: &ClockState) -> io::Result<()> {
        let Outgoing {
            transmit: Transmit { ssid, seq, .. },
            to,
        } = outgoing;
        let socket = sockets.replies().ok_or(io::ErrorKind::Unsupported)?;
        let endpoint = sockets.endpoint(to, self.test_port);
        self.follow_wall();
        let (sent_ns, sent_mono_ns) = (realtime_ns(), monotonic_ns());
        let transmit = NtpTime::from_unix_ns(sent_ns);
        let error = error_estimate(clock);
        let stamp = match &self.key {
            Some(key) => {
                let mut probe = authenticated::probe(seq, transmit, error, ssid);
                key.sign(&mut probe);
                socket.send(&probe, endpoint)?
            }
            None => {
                let mut probe = stamp::probe(seq, error, ssid);
                probe[stamp::TIMESTAMP..][..8].copy_from_slice(&transmit.to_be_bytes());
                socket.send(&probe, endpoint)?
            }
        };
        self.sent += 1;
        let probe = InFlightProbe {
            destination: to,
            wire: transmit.0,
            sent_ns,
            sent_mono_ns,
            stamped: false,
            replies: 0,
        };
        self.in_flight.insert((ssid, seq), (Family::of(to), stamp), probe);
        Ok(())
    }

    fn take_stamps(&mut self, sockets: &SocketPair) {
        for (family, socket) in replies(sockets) {
            self.stamped += self.in_flight.take_stamps(family, socket, &self.wall.get());
        }
    }
}

/// The sockets that receive replies.
fn replies(sockets: &SocketPair) -> impl Iterator<Item = (Family, &WatchedSocket)> {
    let of = |family| {
        sockets
            .of(family)
            .and_then(Sockets::replies)
            .map(|socket| (family, socket))
    };
    [Family::V4, Family::V6].into_iter().filter_map(of)
}

impl Backend for SocketBackend {
    fn engine(&self) -> Engine {
        Engine::Socket
    }

    fn attach(&mut self, _link: &Link, _mode: AttachMode, _probing: bool) -> Result<(), AttachError> {
        Ok(())
    }

    /// New sockets number their stamps from zero on.
    fn detach(&mut self) {
        self.in_flight.forget_stamps();
    }

    fn take_detached(&mut self, _link: &Link) -> Option<&'static str> {
        None
    }

    fn preceding(&self, _index: u32, _egress: bool) -> Vec<String> {
        Vec::new()
    }

    fn configure(&mut self, facts: &Facts<'_>) -> Result<(), ObjectError> {
        self.own = facts.usable().map(|address| address.ip).collect();
        Ok(())
    }

    fn loses_replies(&mut self, _link: &Link) -> Result<bool, ObjectError> {
        Ok(false)
    }

    /// Each probe sets it when it is sent.
    fn set_session(&mut self, _peer: IpAddr, _ssid: u16) -> Result<(), ObjectError> {
        Ok(())
    }

    fn utc_offset_ns(&self) -> u64 {
        self.follow_wall().ahead_ns().cast_unsigned()
    }

    /// Sends probes one by one, because each contains the time of its system call.
    fn send(
        &mut self,
        sockets: &Sockets,
        probes: &mut dyn Iterator<Item = Outgoing>,
        clock: &ClockState,
        failed: &mut dyn FnMut(Outgoing, io::Error),
    ) {
        for probe in probes {
            if let Err(error) = self.send_one(sockets, probe, clock) {
                failed(probe, error);
            }
        }
    }

    fn trace(&mut self, sockets: &SocketPair, ssid: u16, seq: u32, _peer: IpAddr) -> Trace {
        self.take_stamps(sockets);
        self.in_flight.trace((ssid, seq), self.stamped > 0)
    }

    fn poll_ready(&self, sockets: &SocketPair, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ready = replies(sockets).map(|(_, socket)| socket.poll_ready(cx));
        ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
    }

    fn drain(&mut self, sockets: &SocketPair, clock: &ClockState, each: &mut dyn FnMut(&Reply)) -> Option<u64> {
        self.follow_wall();
        let mut packet = [0; MAX_PACKET];
        let mut more = None;
        for (_, socket) in replies(sockets) {
            for taken in 1..=MAX_AT_ONCE {
                // If reading fails, the next poll of the interface reports why.
                let Ok(Some(received)) = socket.try_receive(&mut packet) else {
                    break;
                };
                if taken == MAX_AT_ONCE {
                    let stamp_ns = received.stamp_ns.unwrap_or_else(realtime_ns);
                    let last_ns = self.wall.get().monotonic_ns(stamp_ns);
                    more = Some(more.map_or(last_ns, |other: u64| other.min(last_ns)));
                }
                // Stamps first: a probe is stamped before its reply arrives.
                self.take_stamps(sockets);
                let packet = &packet[..received.len];
                match self.reply(packet, &received, clock) {
                    Some(reply) if self.in_flight.is_wanted((reply.ssid, reply.seq), reply.peer) => {
                        self.received += 1;
                        each(&reply);
                    }
                    Some(_) => self.duplicates_dropped += 1,
                    None => {
                        let (port, key) = (self.test_port, self.key.as_ref());
                        let why = mismatch(packet, received.from, port, key, &self.in_flight);
                        self.mismatches.add(why, received.from);
                    }
                }
            }
        }
        self.take_stamps(sockets);
        more
    }

    fn mismatches(&mut self, _sockets: &SocketPair) -> Mismatches {
        self.mismatches
    }

    fn refused(&self, _source: IpAddr) -> Option<u64> {
        None
    }

    fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, ObjectError> {
        Ok(BTreeMap::from([
            ("socket_sent", self.sent),
            ("socket_stamped", self.stamped),
            ("socket_received", self.received),
            (
                COUNTER_NAMES[Counter::DuplicateDropped as usize],
                self.duplicates_dropped,
            ),
            ("unmatched", self.mismatches.total()),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was kept by one offset is void by another.
    #[test]
    fn readings_of_the_clocks_alone_do_not_move_the_offset() {
        let backend = SocketBackend::new(862, None);
        let mut offsets: Vec<u64> = (0..1_000).map(|_| backend.utc_offset_ns()).collect();
        offsets.dedup();
        assert!(offsets.len() <= 100, "{} offsets", offsets.len());
    }
}
