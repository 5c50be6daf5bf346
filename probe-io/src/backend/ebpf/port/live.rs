//! What exists only while the interface does: its sockets, its attachments, and what is known of it.

use std::net::IpAddr;

use probe_host::clock::ClockState;
use probe_host::link::{Address, Link};

use crate::backend::ebpf::attach::{Attachment, Egress};
use crate::backend::ebpf::plan::{Choice, Plan, ReceiveMode};
use crate::backend::ebpf::port::survey::Survey;
use crate::backend::ebpf::port::{PortConfig, PortError};
use crate::backend::ebpf::programs::Programs;
use crate::backend::ebpf::settings::Facts;
use crate::backend::ebpf::watch::Watch;
use crate::udp::sockets::{SocketError, SocketPair, Stamps};

/// An interface in use.
pub(crate) struct Live {
    pub(crate) link: Link,
    pub(crate) addresses: Vec<Address>,
    pub(crate) sockets: SocketPair,
    pub(crate) plan: Plan,
    pub(crate) reason: String,
    pub(crate) watch: Watch,
    pub(crate) receive: Attachment,
    _egress: Option<Egress>,
}

impl Live {
    /// Attaches the programs, told of the interface beforehand.
    pub(crate) fn start(
        survey: Survey,
        sockets: SocketPair,
        programs: &mut Programs,
        config: &PortConfig,
        clock: ClockState,
    ) -> Result<Self, PortError> {
        let Survey {
            link,
            addresses,
            mut plan,
        } = survey;
        programs.tell(&facts(config, clock, &link, &addresses, &sockets, plan.modes[0]))?;
        let egress = match config.probing {
            true => Some(programs.attach_egress(&config.interface, link.index)?),
            false => None,
        };
        let (receive, refusal) = programs.attach_receive(&config.interface, link.index, &mut plan)?;
        let live = Self {
            reason: reason(config.choice, &plan, refusal),
            watch: Watch::new(programs.reflected()?, link.tx_dropped),
            link,
            addresses,
            sockets,
            plan,
            receive,
            _egress: egress,
        };
        // Once more: the mode may be another one than was tried first.
        programs.tell(&live.facts(config, clock))?;
        Ok(live)
    }

    /// Leaves the mode in use for the next of the plan that works.
    pub(crate) fn in_next_mode(
        mut self,
        reason: String,
        programs: &mut Programs,
        config: &PortConfig,
    ) -> Result<Self, PortError> {
        self.plan.modes.remove(0);
        // One XDP program fits an interface: the old one goes first.
        drop(self.receive);
        let (receive, _) = programs.attach_receive(&config.interface, self.link.index, &mut self.plan)?;
        Ok(Self {
            receive,
            reason,
            ..self
        })
    }

    /// What the programs must know.
    pub(crate) fn facts<'a>(&'a self, config: &'a PortConfig, clock: ClockState) -> Facts<'a> {
        facts(
            config,
            clock,
            &self.link,
            &self.addresses,
            &self.sockets,
            self.receive.mode,
        )
    }
}

fn facts<'a>(
    config: &'a PortConfig,
    clock: ClockState,
    link: &'a Link,
    addresses: &'a [Address],
    sockets: &SocketPair,
    mode: ReceiveMode,
) -> Facts<'a> {
    let sender_port = |v6| sockets.of(v6).map_or(0, |sockets| sockets.sender_port);
    Facts {
        link,
        addresses,
        groups: &config.groups,
        test_port: config.test_port,
        sender_port_v4: sender_port(false),
        sender_port_v6: sender_port(true),
        clock,
        mode,
        answering: &config.answering,
    }
}

/// What to tell the user of the choice.
fn reason(choice: Choice, plan: &Plan, refusal: Option<String>) -> String {
    match (choice, &plan.reason, refusal) {
        (Choice::Only(_), ..) => "as asked for".to_owned(),
        (Choice::Auto, Some(reason), None) => reason.clone(),
        (Choice::Auto, None, Some(refusal)) => refusal,
        (Choice::Auto, Some(reason), Some(refusal)) => format!("{reason}; {refusal}"),
        (Choice::Auto, None, None) => "the fastest that this device takes".to_owned(),
    }
}

/// Opens the sockets that are missing.
pub(crate) fn open_missing(
    sockets: &mut SocketPair,
    config: &PortConfig,
    link: &Link,
    addresses: &[Address],
) -> Result<(), SocketError> {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.ip).collect();
    let interface = (config.interface.as_str(), link.index);
    sockets.open_missing(
        interface,
        config.test_port,
        &config.groups,
        &addresses,
        Stamps::Programs,
    )
}
