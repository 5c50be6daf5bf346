//! Follows an interface while it is measured: attached, closed when it goes, opened again when it is back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use log::{debug, warn};
use probe_common::abi::MAX_ADDRESSES;
use probe_common::family::Family;
use probe_core::attach::AttachMode;
use probe_host::clock::monotonic_ns;
use probe_host::link::{Address, Link};

use crate::backend::facts::Facts;
use crate::clock::clock_state;
use crate::port::error::PortError;
use crate::port::survey::Survey;
use crate::port::{MIN_CHECK, Port, PortEvent};
use crate::udp::sockets::{Ports, SocketPair};

impl Port {
    /// Follows the interface: call it twice a second, and after [`Port::changed`]. Returns the changes. A failure is logged
    /// once, and the next call tries again.
    pub async fn poll(&mut self) -> Vec<PortEvent> {
        self.clock = clock_state();
        self.polled = Instant::now();
        let mut events = Vec::new();
        let outcome = self.follow_interface(&mut events).await;
        let trouble = outcome.err().map(|error| error.to_string());
        if let Some(trouble) = trouble.as_ref().filter(|new| self.trouble.as_ref() != Some(new)) {
            warn!("{trouble}; trying again");
        }
        self.trouble = trouble;
        events
    }

    async fn follow_interface(&mut self, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        // Another interface may have the index of a deleted one.
        let was_deleted = self.changes.take_deleted(self.index);
        let asked_ns = monotonic_ns();
        let link = self.netlink.link_by_name(&self.config.interface).await?;
        let is_same = !was_deleted && link.as_ref().map(|link| link.index) == self.index;
        let attached_to = link.as_ref().filter(|_| is_same);
        let detached = attached_to.and_then(|link| self.backend.take_detached(link));
        self.unsent.follow(link.as_ref(), detached.is_some(), asked_ns);
        if self.index.is_some() && !is_same {
            self.close();
            events.push(PortEvent::Deleted);
        }
        match link {
            Some(link) if self.index.is_some() => self.follow(&link, detached, events).await,
            Some(link) if link.up => self.reopen(events).await,
            _ => Ok(()),
        }
    }

    /// Follows the state and addresses of the same interface, and checks that replies leave it.
    async fn follow(
        &mut self,
        link: &Link,
        detached: Option<&str>,
        events: &mut Vec<PortEvent>,
    ) -> Result<(), PortError> {
        let asked_ns = monotonic_ns();
        let mut addresses = self.netlink.addresses(link.index).await?;
        self.limit(&mut addresses);
        let changes = self.running != link.running;
        if changes {
            self.running = link.running;
            events.push(if link.running { PortEvent::Up } else { PortEvent::Down });
        }
        let joined = self.take_late(&addresses);
        self.open_missing(link, &addresses)?;
        self.configure(link, &addresses)?;
        self.unsent.follow_addresses(&self.policy, asked_ns);
        if self.repetition.is_due(monotonic_ns(), changes && link.running)
            && let Err(error) = self.sockets.report_memberships()
        {
            debug!("cannot report the membership of groups on {} again: {error}", link.name);
        }
        events.extend(joined.into_iter().map(|group| PortEvent::Joined { group }));
        if let Some(what) = detached {
            // Without a working mode, the next call opens the interface again.
            self.attach(link, &addresses).inspect_err(|_| self.close())?;
            self.reason = format!("attached again after others had detached {what}");
            self.mode = self.plan.modes[0];
            let (mode, reason) = (self.mode, self.reason.clone());
            events.push(PortEvent::Reattached { mode, reason });
        }
        self.find_preceding();
        if self.checked.elapsed() < MIN_CHECK {
            return Ok(());
        }
        self.checked = Instant::now();
        if self.backend.loses_replies(link)? {
            self.leave_mode(link, &addresses, events)?;
        }
        Ok(())
    }

    /// Leaves native XDP for the next mode of the plan that works.
    fn leave_mode(&mut self, link: &Link, addresses: &[Address], events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let reason = format!("{} dropped the replies that native XDP transmitted", link.name);
        if self.plan.modes.len() < 2 {
            warn!("{reason}: its other end has no XDP program? --attach auto finds a mode that works");
            return Ok(());
        }
        self.plan.modes.remove(0);
        // Without a working mode, the next call opens the interface again.
        self.attach(link, addresses).inspect_err(|_| self.close())?;
        self.reason = reason;
        self.report_mode(events);
        Ok(())
    }

    /// Opens an interface that has come back.
    async fn reopen(&mut self, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let Survey {
            link,
            mut addresses,
            plan,
        } = Survey::of(&self.netlink, &self.config.interface, self.config.choice, &[]).await?;
        self.limit(&mut addresses);
        self.plan = plan;
        let attached = self
            .open_missing(&link, &addresses)
            .and_then(|()| self.attach(&link, &addresses));
        attached.inspect_err(|_| self.close())?;
        events.push(PortEvent::Back);
        self.report_mode(events);
        self.running = true;
        Ok(())
    }

    /// Looks for foreign programs that see packets first. Probes that one at egress takes are noticed one by one; of one
    /// at ingress nothing else would tell.
    pub(super) fn find_preceding(&mut self) {
        let Some(index) = self.index else { return };
        self.preceding = self.backend.preceding(index, true);
        let ingress = match self.plan.modes[0] {
            AttachMode::Tc => self.backend.preceding(index, false),
            _ => Vec::new(),
        };
        if !ingress.is_empty() && ingress != self.preceding_ingress {
            warn!(
                "at TC ingress of {}, {} is before kstamp's program, which receives nothing if that program ends the chain",
                self.config.interface,
                ingress.join(", ")
            );
        }
        self.preceding_ingress = ingress;
    }

    /// Keeps the addresses that fit the maps, those in use first.
    fn limit(&mut self, addresses: &mut Vec<Address>) {
        let (most, number) = (MAX_ADDRESSES as usize, addresses.len());
        if number <= most {
            self.warned_of_addresses = false;
            return;
        }
        addresses.sort_by_key(|address| !self.policy.is_own(address.ip));
        addresses.truncate(most);
        if !std::mem::replace(&mut self.warned_of_addresses, true) {
            let interface = &self.config.interface;
            warn!("{interface} has {number} addresses, but kstamp measures at most {most}: the others are left out");
        }
    }

    fn report_mode(&mut self, events: &mut Vec<PortEvent>) {
        let mode = self.plan.modes[0];
        if mode != self.mode {
            self.mode = mode;
            let reason = self.reason.clone();
            events.push(PortEvent::Reattached { mode, reason });
        }
    }

    /// The groups of the IP versions that the interface has got an address of.
    fn take_late(&mut self, addresses: &[Address]) -> Vec<IpAddr> {
        let has_address = |group: &mut IpAddr| {
            let mut usable = addresses.iter().filter(|address| address.is_usable());
            usable.any(|address| Family::of(address.ip) == Family::of(*group))
        };
        let taken: Vec<IpAddr> = self.config.late.extract_if(.., has_address).collect();
        self.config.groups.extend(&taken);
        taken
    }

    fn open_missing(&mut self, link: &Link, addresses: &[Address]) -> Result<(), PortError> {
        let (config, engine) = (&self.config, self.engine());
        let sockets = &mut self.sockets;
        let ports = Ports {
            test: &config.test_ports(),
            cold: config.cold_ports(),
        };
        Ok(sockets.open_missing(link, addresses, ports, &config.groups, engine)?)
    }

    /// Configures the backend, attaches it in the first mode of the plan that the kernel accepts, and removes the refused
    /// modes from the plan.
    pub(super) fn attach(&mut self, link: &Link, addresses: &[Address]) -> Result<(), PortError> {
        self.configure(link, addresses)?;
        let mut refusal = None;
        while let Err(error) = self.backend.attach(link, self.plan.modes[0], self.config.probing) {
            if self.plan.modes.len() == 1 {
                return Err(error.into());
            }
            debug!("{error}");
            self.plan.modes.remove(0);
            refusal = Some(error.to_string());
        }
        self.reason = match (self.has_key, self.plan.modes[0]) {
            (true, AttachMode::Socket) => "the programs cannot authenticate packets".to_owned(),
            _ => self.plan.explain(self.config.choice, refusal),
        };
        self.index = Some(link.index);
        // Again, because the mode may have changed.
        self.configure(link, addresses)
    }

    fn configure(&mut self, link: &Link, addresses: &[Address]) -> Result<(), PortError> {
        let sender_port = |family| self.sockets.of(family).map_or(0, |sockets| sockets.sender_port);
        let addresses = by_age(addresses, &self.by_age);
        let facts = Facts {
            link,
            addresses: &addresses,
            groups: &self.config.groups,
            test_port: self.config.test_port,
            other_ports: &self.config.other_ports,
            sender_port_v4: sender_port(Family::V4),
            sender_port_v6: sender_port(Family::V6),
            cold_ports: self.config.cold_ports(),
            clock: self.clock,
            mode: self.plan.modes[0],
            answering: &self.config.answering,
        };
        self.backend.configure(&facts)?;
        self.policy = facts.policy().into();
        self.by_age = facts.usable().map(|address| address.ip).collect();
        Ok(())
    }

    /// The sockets are bound to an old index, and the kernel has detached the programs.
    fn close(&mut self) {
        self.index = None;
        self.sockets = SocketPair::default();
        self.backend.detach();
    }
}

/// The addresses with those that were in `known` first, and in its order: the address from which group probes are answered
/// stays the same when another one is added, or when it is deprecated.
fn by_age(addresses: &[Address], known: &[IpAddr]) -> Vec<Address> {
    let places: HashMap<_, _> = known.iter().zip(0..).collect();
    let place = |address: &Address| places.get(&address.ip).copied();
    let mut addresses = addresses.to_vec();
    for address in &mut addresses {
        address.deprecated &= place(address).is_none();
    }
    addresses.sort_by_key(|address| place(address).unwrap_or(u32::MAX));
    addresses
}

#[cfg(test)]
mod tests {
    use probe_host::link::Scope;

    use super::*;

    fn address(ip: &str, deprecated: bool) -> Address {
        Address {
            ip: ip.parse().unwrap(),
            prefix_of: ip.parse().unwrap(),
            prefix_len: 64,
            scope: Scope::Global,
            tentative: false,
            duplicate: false,
            deprecated,
        }
    }

    #[test]
    fn an_address_in_use_stays_in_use() {
        let known = ["fd01::6", "fd01::7"].map(|ip| ip.parse().unwrap());
        let table = [
            ("as before", [("fd01::6", false), ("fd01::7", false)], "fd01::6"),
            (
                "another one is first",
                [("fd01::b", false), ("fd01::6", false)],
                "fd01::6",
            ),
            ("it is deprecated", [("fd01::b", false), ("fd01::6", true)], "fd01::6"),
            ("it is gone", [("fd01::b", false), ("fd01::7", false)], "fd01::7"),
            ("all are gone", [("fd01::b", true), ("fd01::c", false)], "fd01::b"),
        ];
        for (what, addresses, first) in table {
            let addresses = addresses.map(|(ip, deprecated)| address(ip, deprecated));
            let ordered = by_age(&addresses, &known);
            assert_eq!(ordered[0].ip, first.parse::<IpAddr>().unwrap(), "{what}");
            let deprecated: Vec<bool> = ordered.iter().map(|address| address.deprecated).collect();
            assert_eq!(deprecated.contains(&true), what == "all are gone", "{what}");
        }
    }
}
