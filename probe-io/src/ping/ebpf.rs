//! Probes to one destination, stamped by the programs: nothing is answered, no group joined, no port occupied.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use probe_common::abi::MAX_PADDED_LEN;
use probe_common::ntp::NtpTime;
use probe_core::attach::AttachMode;
use probe_core::mismatch::Mismatches;
use probe_core::observation::{Fate, SendFailure};
use probe_core::rings::Rings;
use probe_host::clock::{ClockState, monotonic_ns};
use probe_host::link::{Link, Netlink};
use socket2::Socket;

use crate::backend::Backend as _;
use crate::backend::ebpf::EbpfBackend;
use crate::backend::facts::{Answering, Facts};
use crate::clock::{clock_state, error_estimate};
use crate::ping::answer::PingAnswer;
use crate::ping::packet::PacketPlan;
use crate::port::{Choice, PortError, Survey, Unsent};
use crate::udp::sockets::{SocketPair, local_port};
use crate::udp::strays;
use crate::udp::target::{self, Target};

/// Bytes of UDP and of the longer IP header without options.
const HEADERS: usize = 48;

pub struct EbpfSender {
    socket: Socket,
    /// Gets what other hosts and ports send to `socket`.
    strays: Socket,
    /// An ICMP error was read in place of a packet.
    refused: bool,
    backend: EbpfBackend,
    unsent: Unsent,
    index: u32,
    to: SocketAddr,
    plan: PacketPlan,
    clock: ClockState,
}

impl EbpfSender {
    /// Attaches the programs to `interface`, by TC in both directions, which disturbs neither the device nor other programs.
    pub(crate) async fn open(interface: &str, target: Target, plan: PacketPlan) -> Result<Self, PortError> {
        let survey = Survey::of(&Netlink::open()?, interface, Choice::Only(AttachMode::Tc), &[]).await?;
        let link = &survey.link;
        let longest = MAX_PADDED_LEN.min((link.mtu as usize).saturating_sub(HEADERS));
        if plan.len() > longest {
            return Err(PortError::Refused {
                interface: interface.to_owned(),
                refusal: format!("the programs stamp probes of at most {longest} bytes there"),
            });
        }
        let (socket, strays, port) = target::send_only(interface, &target)?;
        let mut backend = EbpfBackend::load(0, Rings::ONE)?;
        let clock = clock_state();
        let (sender_port_v4, sender_port_v6) = match target.to {
            SocketAddr::V4(_) => (port, 0),
            SocketAddr::V6(_) => (0, port),
        };
        backend.configure(&Facts {
            link,
            addresses: &[],
            groups: &[],
            test_port: target.to.port(),
            other_ports: &[],
            sender_port_v4,
            sender_port_v6,
            cold_ports: 0,
            clock,
            mode: AttachMode::Tc,
            answering: &Answering::default(),
        })?;
        backend.set_session(target.to.ip(), plan.ssid)?;
        backend.attach(link, AttachMode::Tc, true)?;
        let mut unsent = Unsent::default();
        unsent.follow(Some(link), false, monotonic_ns());
        Ok(Self {
            socket,
            strays,
            refused: false,
            backend,
            unsent,
            index: link.index,
            to: target.to,
            plan,
            clock,
        })
    }

    pub(crate) fn follow(&mut self, link: Option<&Link>, asked_ns: u64) -> bool {
        let detached = link.and_then(|link| self.backend.take_detached(link)).is_some();
        self.unsent.follow(link, detached, asked_ns);
        self.backend.follow_clock();
        !detached
    }

    pub(crate) fn source_port(&self) -> io::Result<u16> {
        local_port(&self.socket)
    }

    pub(crate) fn clock(&self) -> ClockState {
        self.clock
    }

    /// The egress program writes T1 into the probe.
    pub(crate) fn send(&mut self, seq: u32) -> Result<(), SendFailure> {
        let probe = self.plan.build(seq, NtpTime(0), error_estimate(&self.clock));
        let sent = self.socket.send_to(&probe, &self.to.into()).map(drop);
        sent.map_err(|error| self.unsent.refused(&error, self.to.ip()))
    }

    pub(crate) fn fate(&mut self, seq: u32, sent_ns: u64) -> Fate {
        let (sockets, peer) = (SocketPair::default(), self.to.ip());
        let trace = self.backend.trace(&sockets, self.plan.ssid, seq, peer);
        let (backend, index) = (&self.backend, self.index);
        self.unsent
            .fate(trace, peer, sent_ns, || !backend.preceding(index, true).is_empty())
    }

    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.backend.poll_ready(&SocketPair::default(), cx)
    }

    pub(crate) fn take(&mut self) -> Vec<PingAnswer> {
        let mut answers = Vec::new();
        self.backend.drain(&SocketPair::default(), &self.clock, &mut |reply| {
            answers.push(PingAnswer {
                reply: *reply,
                packet: None,
            });
        });
        self.take_strays();
        answers
    }

    fn take_strays(&mut self) {
        let Self {
            socket,
            strays,
            backend,
            refused,
            ..
        } = self;
        for socket in [&*socket, &*strays] {
            let taken = strays::take(socket, |packet, from| backend.stray(packet, from));
            *refused |= taken.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        }
    }

    pub(crate) fn mismatches(&self) -> Mismatches {
        self.backend.mismatches_so_far()
    }

    pub(crate) fn was_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused) || target::was_refused(&self.socket)
    }
}
