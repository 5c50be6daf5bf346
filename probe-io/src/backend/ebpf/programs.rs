//! The loaded programs of one interface: attached, told what they must know, asked what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{MapData, MapError, RingBuf};
use ipnet::IpNet;
use log::debug;
use probe_common::abi::{ALLOWED_V4, ALLOWED_V6, Address, COUNTER_NAMES, Counter, InFlightKey, MissedKey};
use probe_core::observation::Fate;
use probe_core::reflector::policy::Policy;

use crate::backend::ebpf::attach;
use crate::backend::ebpf::attach::{AttachError, Attachment, Egress};
use crate::backend::ebpf::object::{Object, ObjectError};
use crate::backend::ebpf::plan::Plan;
use crate::backend::ebpf::settings::Facts;

/// The object, and what it has been told.
pub(crate) struct Programs {
    object: Object,
    destinations: BTreeMap<IpAddr, u32>,
    policy: Policy,
    policy_generation: u32,
}

impl Programs {
    /// Loads them; they touch nothing until they are told something.
    pub(crate) fn load(log_level: u8) -> Result<(Self, RingBuf<MapData>), ObjectError> {
        let mut object = Object::load(log_level)?;
        let samples = object.take_samples()?;
        let destinations = BTreeMap::new();
        let programs = Self {
            object,
            destinations,
            policy: Policy::default(),
            policy_generation: 0,
        };
        Ok((programs, samples))
    }

    /// Prints what they log.
    pub(crate) fn print_log(&mut self) -> io::Result<()> {
        crate::backend::ebpf::log::print(&mut self.object)
    }

    /// Attaches the egress program.
    pub(crate) fn attach_egress(&mut self, interface: &str, index: u32) -> Result<Egress, AttachError> {
        attach::egress(&mut self.object, interface, index)
    }

    /// Attaches the receive program in the first mode of the plan that the kernel accepts, and strikes those before it
    /// off the plan. Also says why they were refused.
    pub(crate) fn attach_receive(
        &mut self,
        interface: &str,
        index: u32,
        plan: &mut Plan,
    ) -> Result<(Attachment, Option<String>), AttachError> {
        let mut refusal = None;
        loop {
            match attach::receive(&mut self.object, interface, index, plan.modes[0]) {
                Ok(attachment) => return Ok((attachment, refusal)),
                Err(error) if plan.modes.len() == 1 => return Err(error),
                Err(error) => {
                    debug!("{error}");
                    plan.modes.remove(0);
                    refusal = Some(error.to_string());
                }
            }
        }
    }

    /// Writes the settings and brings prefixes and destinations up to date.
    pub(crate) fn tell(&mut self, facts: &Facts<'_>) -> Result<(), ObjectError> {
        // Prefixes before the generation that makes the programs look at them.
        self.set_policy(facts.policy())?;
        self.object.set_settings(&facts.settings(self.policy_generation))?;
        let wanted = facts.destinations();
        let failed = |source: MapError| ObjectError::Map {
            name: "DESTINATIONS",
            source,
        };
        let mut map = self.object.destinations()?;
        for (ip, kind) in &wanted {
            if self.destinations.get(ip) != Some(kind) {
                map.insert(Address::from(*ip), kind, 0).map_err(failed)?;
            }
        }
        for ip in self.destinations.keys().filter(|ip| !wanted.contains_key(ip)) {
            map.remove(&Address::from(*ip)).map_err(failed)?;
        }
        self.destinations = wanted;
        Ok(())
    }

    fn set_policy(&mut self, wanted: Policy) -> Result<(), ObjectError> {
        if wanted == self.policy {
            return Ok(());
        }
        let failed = |source: MapError| ObjectError::Map {
            name: "ALLOWED",
            source,
        };
        let known: BTreeSet<IpNet> = self.policy.prefixes().collect();
        let mut map = self.object.allowed()?;
        for prefix in wanted.prefixes().filter(|prefix| !known.contains(prefix)) {
            let (key, family) = trie_entry(prefix);
            map.insert(&key, family, 0).map_err(failed)?;
        }
        let kept: BTreeSet<IpNet> = wanted.prefixes().collect();
        for prefix in known.difference(&kept) {
            map.remove(&trie_entry(*prefix).0).map_err(failed)?;
        }
        self.policy = wanted;
        self.policy_generation = self.policy_generation.wrapping_add(1);
        Ok(())
    }

    /// Who is answered.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Probes of `source` that a limit of this port has refused; 0 for a source that has sent none.
    pub(crate) fn refused(&self, source: IpAddr) -> Result<u64, ObjectError> {
        match self.object.sources()?.get(&Address::from(source), 0) {
            Ok(state) => Ok(state.refused),
            Err(MapError::KeyNotFound) => Ok(0),
            Err(source) => Err(ObjectError::Map {
                name: "SOURCES",
                source,
            }),
        }
    }

    /// `peer` is probed in session `ssid`, at its own address.
    pub(crate) fn set_session(&mut self, peer: IpAddr, ssid: u16) -> Result<(), ObjectError> {
        let failed = |source: MapError| ObjectError::Map {
            name: "SESSIONS_BY_PEER",
            source,
        };
        let mut sessions = self.object.sessions_by_peer()?;
        sessions.insert(Address::from(peer), u32::from(ssid), 0).map_err(failed)
    }

    /// The own addresses to which probes may come.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.destinations.keys().copied();
        addresses.filter(|ip| !ip.is_multicast()).collect()
    }

    /// What became of a probe that has no reply.
    pub(crate) fn fate(&mut self, ssid: u16, seq: u32, peer: IpAddr) -> Fate {
        let probe = InFlightKey { seq, ssid, reserved: 0 };
        let missed = MissedKey {
            source: Address::from(peer),
            probe,
        };
        let was_missed = self.object.missed().is_ok_and(|map| map.get(&missed, 0).is_ok());
        let has_left = self.object.in_flight().is_ok_and(|map| map.get(&probe, 0).is_ok());
        match (was_missed, has_left) {
            (true, _) => Fate::CollectorLost,
            (false, true) => Fate::Unanswered,
            (false, false) => Fate::NeverLeft,
        }
    }

    /// Their counters by name.
    pub(crate) fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, ObjectError> {
        Ok(COUNTER_NAMES.into_iter().zip(self.object.counters()?).collect())
    }

    /// Probes answered so far.
    pub(crate) fn reflected(&mut self) -> Result<u64, ObjectError> {
        let counters = self.object.counters()?;
        let answered = [
            Counter::Reflected,
            Counter::ReflectedGroup,
            Counter::LegacyReflected,
            Counter::LegacyReflectedGroup,
        ];
        Ok(answered.iter().map(|&counter| counters[counter as usize]).sum())
    }
}

/// How `ALLOWED` has a prefix.
fn trie_entry(prefix: IpNet) -> (Key<Address>, u32) {
    const MAPPED: u32 = 96;
    let length = u32::from(prefix.prefix_len());
    match prefix {
        IpNet::V4(v4) => (
            Key::new(MAPPED + length, Address::from(IpAddr::V4(v4.addr()))),
            ALLOWED_V4,
        ),
        IpNet::V6(v6) => (Key::new(length, Address::from(IpAddr::V6(v6.addr()))), ALLOWED_V6),
    }
}
