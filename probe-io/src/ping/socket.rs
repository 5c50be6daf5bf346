//! Probes to one destination, stamped by their socket, with any contents.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use probe_common::family::Family;
use probe_common::ntp::NtpTime;
use probe_common::{authenticated, stamp};
use probe_core::auth::TlvIntegrity;
use probe_core::mismatch::{Mismatch, Mismatches};
use probe_core::observation::{Fate, SendFailure};
use probe_host::clock::{ClockState, monotonic_ns, realtime_ns};
use probe_host::link::Link;
use probe_host::wall::WallOffset;
use socket2::Socket;

use crate::backend::socket::{InFlight, InFlightProbe, WireReply, mismatch};
use crate::clock::{clock_state, error_estimate};
use crate::ping::answer::{PingAnswer, ReplyPacket, returned};
use crate::ping::packet::PacketPlan;
use crate::port::Unsent;
use crate::udp::sockets::{MAX_PACKET, SocketError, local_port};
use crate::udp::stamped::Received;
use crate::udp::strays;
use crate::udp::target::{self, Target};
use crate::udp::watched::WatchedSocket;

/// A socket of its own for one destination. It needs no privilege.
pub struct SocketSender {
    socket: WatchedSocket,
    /// Gets what other hosts and ports send to `socket`.
    strays: Socket,
    target: Target,
    plan: PacketPlan,
    clock: ClockState,
    wall: WallOffset,
    in_flight: InFlight,
    unsent: Unsent,
    stamped: u64,
    mismatches: Mismatches,
}

impl SocketSender {
    pub(crate) fn open(target: Target, plan: PacketPlan) -> Result<Self, SocketError> {
        let (socket, strays) = target::stamping_sender(&target)?;
        Ok(Self {
            socket,
            strays,
            target,
            plan,
            clock: clock_state(),
            wall: WallOffset::now(),
            in_flight: InFlight::default(),
            unsent: Unsent::default(),
            stamped: 0,
            mismatches: Mismatches::default(),
        })
    }

    pub(crate) fn follow(&mut self, link: Option<&Link>, asked_ns: u64) {
        self.unsent.follow(link, false, asked_ns);
    }

    pub(crate) fn source_port(&self) -> io::Result<u16> {
        self.socket.with_socket(local_port)
    }

    pub(crate) fn clock(&self) -> ClockState {
        self.clock
    }

    pub(crate) fn mismatches(&self) -> Mismatches {
        self.mismatches
    }

    pub(crate) fn was_refused(&self) -> bool {
        self.socket.with_socket(target::was_refused)
    }

    pub(crate) fn send(&mut self, seq: u32) -> Result<(), SendFailure> {
        self.wall.follow(WallOffset::now());
        let (sent_ns, sent_mono_ns) = (realtime_ns(), monotonic_ns());
        let transmit = NtpTime::from_unix_ns(sent_ns);
        let packet = self.plan.build(seq, transmit, error_estimate(&self.clock));
        let destination = self.target.to.ip();
        let sent = self.socket.send(&packet, self.target.to);
        let stamp = sent.map_err(|error| self.unsent.refused(&error, destination))?;
        let probe = InFlightProbe {
            destination,
            wire: transmit.0,
            sent_ns,
            sent_mono_ns,
            stamped: false,
            replies: 0,
        };
        let stamp = (Family::of(destination), stamp);
        self.in_flight.insert((self.plan.ssid, seq), stamp, probe);
        Ok(())
    }

    pub(crate) fn fate(&mut self, seq: u32, sent_ns: u64) -> Fate {
        self.take_stamps();
        let trace = self.in_flight.trace((self.plan.ssid, seq), self.stamped > 0);
        self.unsent.fate(trace, self.target.to.ip(), sent_ns, || false)
    }

    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_ready(cx)
    }

    pub(crate) fn take(&mut self) -> Vec<PingAnswer> {
        self.wall.follow(WallOffset::now());
        let mut answers = Vec::new();
        let mut buffer = [0; MAX_PACKET];
        // What cannot be read is either nothing, or an ICMP error that `was_refused` has not taken first.
        while let Ok(Some(received)) = self.socket.try_receive(&mut buffer) {
            // Stamps first: a probe is stamped before its reply arrives.
            self.take_stamps();
            let packet = &buffer[..received.len];
            match self.answer(packet, &received) {
                Some(answer) => answers.push(answer),
                None => self.mismatches.add(self.mismatch(packet, received.from), received.from),
            }
        }
        let mut strays = Vec::new();
        // It is not connected, so it gets no ICMP errors.
        let _ = strays::take(&self.strays, |packet, from| {
            strays.push((self.mismatch(packet, from), from))
        });
        for (why, from) in strays {
            self.mismatches.add(why, from);
        }
        self.take_stamps();
        answers
    }

    fn mismatch(&self, packet: &[u8], from: SocketAddr) -> Mismatch {
        let (port, key) = (self.target.to.port(), self.plan.key.as_ref());
        mismatch(packet, from, port, key, &self.in_flight)
    }

    fn answer(&self, packet: &[u8], received: &Received) -> Option<PingAnswer> {
        if received.from.port() != self.target.to.port() {
            return None;
        }
        let source = received.from.ip();
        let wire = WireReply::read(packet, self.plan.key.as_ref())?;
        let (id, probe) = self.in_flight.answered(source, &wire)?;
        let t4_ns = received.stamp_ns.unwrap_or_else(realtime_ns);
        let reply = wire.observation(source, id, &probe, t4_ns, &self.wall, &self.clock);
        Some(PingAnswer {
            reply,
            packet: Some(self.packet(packet, received)),
        })
    }

    fn packet(&self, packet: &[u8], received: &Received) -> ReplyPacket {
        let base_len = self.plan.base_len();
        let integrity = self
            .plan
            .key_of_tlvs()
            .map(|key| key.check_tlvs(packet, base_len, true));
        let tlvs_forged = integrity == Some(TlvIntegrity::Failed);
        let (tlvs, is_cut) = returned(packet.get(base_len..).unwrap_or_default(), tlvs_forged);
        let probe_ttl = match self.plan.key {
            Some(_) => authenticated::SENDER_TTL,
            None => stamp::SENDER_TTL,
        };
        ReplyPacket {
            length: received.len,
            ttl: received.ttl,
            dscp: received.tos.map(|tos| tos >> 2),
            probe_ttl: packet.get(probe_ttl).copied().filter(|&ttl| ttl != 0),
            tlvs,
            is_cut,
            tlvs_forged,
        }
    }

    fn take_stamps(&mut self) {
        let family = Family::of(self.target.to.ip());
        self.stamped += self.in_flight.take_stamps(family, &self.socket, &self.wall);
    }
}
