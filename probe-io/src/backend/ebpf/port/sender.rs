//! The sending half of an interface alone, for one destination: nothing is answered, no group joined, no port occupied.

use std::io;
use std::net::{IpAddr, SocketAddr};

use probe_common::abi::MAX_PADDED_LEN;
use probe_core::observation::Fate;
use probe_core::reflector::policy::Rates;
use probe_host::clock::ClockState;
use probe_host::link::Netlink;
use socket2::Socket;

use crate::backend::ebpf::attach::{Attachment, Egress};
use crate::backend::ebpf::plan::{Choice, ReceiveMode};
use crate::backend::ebpf::port::survey::Survey;
use crate::backend::ebpf::port::{Answering, PortError, clock_state};
use crate::backend::ebpf::programs::Programs;
use crate::backend::ebpf::ring::Ring;
use crate::backend::ebpf::settings::Facts;
use crate::udp::sockets;
use crate::udp::sockets::Target;

/// Bytes of UDP and of the longer IP header without options.
const HEADERS: usize = 48;

/// Probes to one destination, stamped by the programs.
pub struct Sender {
    socket: Socket,
    programs: Programs,
    to: SocketAddr,
    clock: ClockState,
    _receive: Attachment,
    _egress: Egress,
}

impl Sender {
    /// Attaches the programs to `interface`, by TC at both ends: it disturbs neither the device nor whoever else has
    /// programs there. `length` is that of every probe, `ssid` its session.
    ///
    /// # Errors
    /// One line: what is wrong with the interface, and what to do.
    pub async fn open(interface: &str, target: Target, ssid: u16, length: usize) -> Result<(Self, Ring), PortError> {
        let netlink = Netlink::open()?;
        let mut survey = Survey::of(&netlink, interface, Choice::Only(ReceiveMode::Tc)).await?;
        let most = MAX_PADDED_LEN.min((survey.link.mtu as usize).saturating_sub(HEADERS));
        if length > most {
            return Err(PortError::Refused {
                interface: interface.to_owned(),
                refusal: format!("the programs stamp probes of at most {most} bytes there"),
            });
        }
        let (socket, port) = sockets::deaf_sender(interface, &target)?;
        let (mut programs, samples) = Programs::load(0)?;
        let ring = Ring::new(samples).map_err(PortError::Ring)?;
        let clock = clock_state();
        let v6 = target.to.is_ipv6();
        programs.tell(&Facts {
            link: &survey.link,
            addresses: &[],
            groups: &[],
            test_port: target.to.port(),
            sender_port_v4: if v6 { 0 } else { port },
            sender_port_v6: if v6 { port } else { 0 },
            clock,
            mode: ReceiveMode::Tc,
            answering: &Answering {
                allow: Vec::new(),
                rates: Rates::DEFAULT,
            },
        })?;
        // For reflectors that return no identifier.
        programs.set_session(target.to.ip(), ssid).map_err(PortError::Object)?;
        let egress = programs.attach_egress(interface, survey.link.index)?;
        let (receive, _) = programs.attach_receive(interface, survey.link.index, &mut survey.plan)?;
        let sender = Self {
            socket,
            programs,
            to: target.to,
            clock,
            _receive: receive,
            _egress: egress,
        };
        Ok((sender, ring))
    }

    /// Sends a probe; the egress program writes T1 into it.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&self, probe: &[u8]) -> io::Result<()> {
        self.socket.send_to(probe, &self.to.into()).map(drop)
    }

    /// This host's clock, as it was at the start.
    pub fn clock(&self) -> ClockState {
        self.clock
    }

    /// Whether the far host has said, since this was last asked, that nobody listens there.
    pub fn was_refused(&self) -> bool {
        sockets::was_refused(&self.socket)
    }

    /// What became of a probe that has no reply.
    pub fn fate(&mut self, ssid: u16, seq: u32) -> Fate {
        let peer: IpAddr = self.to.ip();
        self.programs.fate(ssid, seq, peer)
    }
}
