//! Stamps by kernel programs, which write samples to a ring buffer.

pub(crate) mod attach;
mod bpf_link;
pub(crate) mod clsact;
pub(crate) mod handover;
pub(crate) mod hooks;
mod log;
pub mod object;
mod ring;
mod settings;
mod utc;
mod watch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::task::{Context, Poll};

use ::log::debug;
use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use probe_common::abi::{
    self, ALLOWED_NOBODY, ALLOWED_V4, ALLOWED_V6, Address, Allowed, COUNTER_NAMES, Counter, MissedKey, ProbeKey,
    ReflectorSessionKey, SessionRing, Settings,
};
use probe_common::family::Family;
use probe_common::stamp;
use probe_core::agent::event::Transmit;
use probe_core::attach::AttachMode;
use probe_core::engine::Engine;
use probe_core::mismatch::Mismatches;
use probe_core::observation::Reply;
use probe_core::reflector::SessionKey;
use probe_core::reflector::policy::{Policy, Sources};
use probe_core::rings::{NewRing, RingTable, Rings};
use probe_host::clock::ClockState;
use probe_host::link::Link;

use crate::backend::ebpf::attach::{Classifier, ReceiveLinks};
use crate::backend::ebpf::handover::{Handover, Name, QDISC, STATE, warn_of_new_counters};
use crate::backend::ebpf::object::Object;
use crate::backend::ebpf::ring::Ring;
use crate::backend::ebpf::settings::settings;
use crate::backend::ebpf::utc::Utc;
use crate::backend::ebpf::watch::Watch;
use crate::backend::error::{AttachError, ObjectError};
use crate::backend::facts::Facts;
use crate::backend::socket::{Sent, mismatch};
use crate::backend::{Backend, Outgoing, Trace};
use crate::clock::{error_bound_ns, error_estimate};
use crate::udp::batch::{Datagram, MAX_BATCH};
use crate::udp::sockets::{SocketPair, Sockets};

/// The loaded programs, and how they are configured.
pub(crate) struct EbpfBackend {
    object: Object,
    ring: Ring,
    utc: Utc,
    /// The settings that the programs have; `None` before they are configured.
    settings: Option<Settings>,
    in_flight: RingTable,
    destinations: BTreeMap<IpAddr, u32>,
    policy: Policy,
    policy_generation: u32,
    test_port: u16,
    /// The links of a process before, until this one attaches.
    former: Handover,
    /// Dropped before `egress`: below Linux 6.6, the first program on an interface owns the qdisc of both.
    receive: Option<ReceiveLinks>,
    egress: Option<Classifier>,
    watch: Option<Watch>,
    mismatches: Mismatches,
    /// The probes that are being sent, and their packets. Kept between calls, so that sending allocates nothing.
    outgoing: Vec<Outgoing>,
    datagrams: Vec<Datagram>,
}

/// The probes that the programs remember.
struct Remembered<'a> {
    object: RefCell<&'a mut Object>,
    in_flight: &'a RingTable,
}

impl Sent for Remembered<'_> {
    fn probe(&self, ssid: u16, seq: u32) -> Option<abi::InFlight> {
        let (index, id) = self.in_flight.record(ssid, seq)?;
        let record = self.object.borrow_mut().in_flight().ok()?.get(&index, 0).ok()?;
        (record.id == id).then_some(record.sent)
    }

    fn session(&self, peer: IpAddr) -> Option<u16> {
        let mut object = self.object.borrow_mut();
        let ssid = object.sessions_by_peer().ok()?.get(&peer.into(), 0).ok()?;
        Some(ssid as u16)
    }

    fn sessions(&self, at_most: usize) -> Vec<u16> {
        let mut object = self.object.borrow_mut();
        let Ok(sessions) = object.sessions_by_peer() else {
            return Vec::new();
        };
        let known = sessions.iter().take(at_most);
        known.filter_map(|entry| Some(entry.ok()?.1 as u16)).collect()
    }
}

impl EbpfBackend {
    /// Loads the programs, which touch no packet until they are configured, and prints what they log.
    pub(crate) fn load(log_level: u8, rings: Rings) -> Result<Self, ObjectError> {
        Self::load_after(log_level, rings, "", Handover::default())
    }

    /// As [`EbpfBackend::load`]; `former` is what a process before had on `interface`.
    pub(crate) fn load_after(
        log_level: u8,
        rings: Rings,
        interface: &str,
        mut former: Handover,
    ) -> Result<Self, ObjectError> {
        let maps = std::mem::take(&mut former.maps);
        let (mut object, misfit) = Object::load_over(log_level, rings, maps)?;
        if let Some(why) = misfit {
            warn_of_new_counters(interface, &why);
        }
        let ring = Ring::new(object.take_samples()?).map_err(ObjectError::Ring)?;
        if log_level != 0 {
            log::print(&mut object).map_err(ObjectError::Log)?;
        }
        Ok(Self {
            object,
            ring,
            utc: Utc::new().map_err(ObjectError::Clock)?,
            settings: None,
            in_flight: RingTable::new(rings),
            destinations: BTreeMap::new(),
            policy: Policy::default(),
            policy_generation: 0,
            test_port: 0,
            former,
            receive: None,
            egress: None,
            watch: None,
            mismatches: Mismatches::default(),
            outgoing: Vec::with_capacity(MAX_BATCH),
            datagrams: Vec::with_capacity(MAX_BATCH),
        })
    }

    fn set_policy(&mut self, wanted: Policy) -> Result<(), ObjectError> {
        if wanted == self.policy {
            return Ok(());
        }
        let failed = ObjectError::map("ALLOWED");
        let known: BTreeMap<IpNet, Sources> = self.policy.entries().collect();
        let kept: BTreeMap<IpNet, Sources> = wanted.entries().collect();
        let mut map = self.object.allowed()?;
        for prefix in known.keys().filter(|prefix| !kept.contains_key(prefix)) {
            map.remove(&trie_key(*prefix)).map_err(&failed)?;
        }
        for (prefix, sources) in kept {
            if known.get(&prefix) != Some(&sources) {
                map.insert(&trie_key(prefix), allowed(prefix, sources), 0)
                    .map_err(&failed)?;
            }
        }
        self.policy = wanted;
        self.policy_generation = self.policy_generation.wrapping_add(1);
        Ok(())
    }

    /// Counts a packet that came up to the sending socket.
    pub(crate) fn stray(&mut self, packet: &[u8], from: SocketAddr) {
        let sent = Remembered {
            object: RefCell::new(&mut self.object),
            in_flight: &self.in_flight,
        };
        let why = mismatch(packet, from, self.test_port, None, &sent);
        self.mismatches.add(why, from);
    }

    pub(crate) fn mismatches_so_far(&self) -> Mismatches {
        self.mismatches
    }

    /// Gives a session a ring, if it has none, before it sends the probe with number `seq`.
    fn give_ring(&mut self, ssid: u16, seq: u32) -> Result<(), ObjectError> {
        let given = match seq {
            0 if !self.wraps(ssid)? => Some(self.in_flight.begins(ssid)),
            _ => self.in_flight.sends(ssid),
        };
        let Some(NewRing { ring, evicted }) = given else {
            return Ok(());
        };
        let failed = ObjectError::map("SESSION_RINGS");
        let mut rings = self.object.session_rings()?;
        if let Some(evicted) = evicted {
            rings.set(evicted.into(), SessionRing::NONE, 0).map_err(&failed)?;
        }
        rings.set(ssid.into(), ring, 0).map_err(&failed)
    }

    /// Whether the sequence number of a session has wrapped: the session goes on. The probe before 0 has a record then.
    fn wraps(&mut self, ssid: u16) -> Result<bool, ObjectError> {
        let Some((index, id)) = self.in_flight.record(ssid, u32::MAX) else {
            return Ok(false);
        };
        let record = self.object.in_flight()?.get(&index, 0);
        Ok(record.is_ok_and(|record| record.id == id))
    }

    /// Follows the system clock. Call it twice a second, unless [`Backend::configure`] is called as often.
    pub(crate) fn follow_clock(&mut self) {
        if self.utc.follow() {
            self.write_utc();
        }
    }

    fn write_utc(&mut self) {
        let Some(settings) = &mut self.settings else { return };
        settings.unix_offset_ns = self.utc.offset_ns();
        // The kernel has accepted these settings before, so this does not fail.
        if let Err(error) = self.object.set_settings(settings) {
            debug!("{error}");
        }
    }

    /// Replies sent so far.
    fn reflected(&mut self) -> Result<u64, ObjectError> {
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

impl Backend for EbpfBackend {
    fn engine(&self) -> Engine {
        Engine::Ebpf
    }

    fn attach(&mut self, link: &Link, mode: AttachMode, probing: bool) -> Result<(), AttachError> {
        // One XDP program fits an interface: the old one goes first.
        self.receive = None;
        if probing && self.egress.is_none() {
            self.egress = Some(attach::egress(&mut self.object, link, &mut self.former)?);
        }
        self.receive = Some(attach::receive(&mut self.object, link, mode, &mut self.former)?);
        // Only native XDP transmits past the queues of the stack.
        self.watch = match mode {
            AttachMode::XdpNative => Some(Watch::new(self.reflected()?, link.tx_dropped)),
            _ => None,
        };
        Ok(())
    }

    fn detach(&mut self) {
        (self.receive, self.egress, self.watch) = (None, None, None);
    }

    fn kept(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let (Some(receive), Some(settings)) = (&self.receive, &self.settings) else {
            return Vec::new();
        };
        let links = receive.links().filter_map(|(mode, link)| {
            let name = Name::text(settings.interface, mode.name(), link.info().ok()?.id);
            Some((name, link.as_fd()))
        });
        let mut kept: Vec<_> = links.collect();
        // Without a link, nothing answers until the next process has attached.
        if !kept.is_empty() {
            kept.extend(STATE.iter().filter_map(|map| {
                let (descriptor, id) = self.object.descriptor(map)?;
                Some((Name::text(settings.interface, map, id), descriptor))
            }));
            let mut classifiers = self.egress.iter().chain(receive.ingress());
            let mark = classifiers.find_map(Classifier::qdisc_mark);
            kept.extend(mark.map(|mark| (Name::text(settings.interface, QDISC, 0), mark)));
        }
        kept
    }

    fn leave(&mut self) {
        if !self.kept().is_empty() {
            if let Some(receive) = self.receive.take() {
                receive.leave();
            }
            if let Some(egress) = self.egress.take() {
                egress.leave();
            }
        }
        self.detach();
    }

    fn take_detached(&mut self, link: &Link) -> Option<&'static str> {
        let has_receive = self.receive.as_ref().is_none_or(|receive| receive.is_attached(link));
        let has_egress = self.egress.as_ref().is_none_or(|egress| egress.is_attached(link.index));
        if !has_receive {
            self.receive = None;
        }
        if !has_egress {
            self.egress = None;
        }
        match (has_receive, has_egress) {
            (true, true) => None,
            (false, true) => Some("the receive program"),
            (true, false) => Some("the egress program"),
            (false, false) => Some("both programs"),
        }
    }

    fn preceding(&self, index: u32, egress: bool) -> Vec<String> {
        let ingress = || self.receive.as_ref().and_then(ReceiveLinks::ingress);
        let classifier = if egress { self.egress.as_ref() } else { ingress() };
        classifier.map_or_else(Vec::new, |classifier| classifier.preceding(index))
    }

    fn configure(&mut self, facts: &Facts<'_>) -> Result<(), ObjectError> {
        let wanted = facts.destinations();
        let failed = ObjectError::map("DESTINATIONS");
        let mut map = self.object.destinations()?;
        for (ip, kind) in &wanted {
            if self.destinations.get(ip) != Some(kind) {
                map.insert(Address::from(*ip), kind, 0).map_err(&failed)?;
            }
        }
        for ip in self.destinations.keys().filter(|ip| !wanted.contains_key(ip)) {
            map.remove(&Address::from(*ip)).map_err(&failed)?;
        }
        self.destinations = wanted;
        // Addresses and prefixes before the generation, which makes the programs read them.
        self.set_policy(facts.policy())?;
        self.utc.follow();
        let (generation, rings) = (self.policy_generation, self.in_flight.rings());
        let settings = settings(facts, generation, rings, self.utc.offset_ns());
        self.object.set_settings(&settings)?;
        self.settings = Some(settings);
        self.in_flight.tick();
        self.test_port = facts.test_port;
        Ok(())
    }

    fn loses_replies(&mut self, link: &Link) -> Result<bool, ObjectError> {
        let Some(mut watch) = self.watch else {
            return Ok(false);
        };
        let lost = watch.swallows(self.reflected()?, link.tx_dropped);
        self.watch = Some(watch);
        Ok(lost)
    }

    fn set_session(&mut self, peer: IpAddr, ssid: u16) -> Result<(), ObjectError> {
        let mut sessions = self.object.sessions_by_peer()?;
        sessions
            .insert(Address::from(peer), u32::from(ssid), 0)
            .map_err(ObjectError::map("SESSIONS_BY_PEER"))?;
        self.give_ring(ssid, 0)
    }

    fn prepare(&mut self, ssid: u16, seq: u32) -> Result<(), ObjectError> {
        self.give_ring(ssid, seq)
    }

    fn utc_offset_ns(&self) -> u64 {
        self.utc.offset_ns()
    }

    /// T1 is taken by the egress program.
    fn send(
        &mut self,
        sockets: &Sockets,
        probes: &mut dyn Iterator<Item = Outgoing>,
        clock: &ClockState,
        failed: &mut dyn FnMut(Outgoing, io::Error),
    ) {
        let error = error_estimate(clock);
        self.outgoing.clear();
        self.datagrams.clear();
        for probe in probes {
            let Transmit { ssid, seq, .. } = probe.transmit;
            let known = if seq == 0 && !probe.to.is_multicast() {
                self.set_session(probe.to, ssid)
            } else {
                self.give_ring(ssid, seq)
            };
            if let Err(error) = known {
                failed(probe, io::Error::other(error));
                continue;
            }
            let to = sockets.endpoint(probe.to, self.test_port);
            self.datagrams.push(Datagram::new(stamp::probe(seq, error, ssid), to));
            self.outgoing.push(probe);
        }
        sockets.send_probes(&self.datagrams, |index, error| failed(self.outgoing[index], error));
    }

    fn trace(&mut self, _sockets: &SocketPair, ssid: u16, seq: u32, peer: IpAddr) -> Trace {
        let probe = ProbeKey { seq, ssid, reserved: 0 };
        let missed = MissedKey {
            source: Address::from(peer),
            probe,
        };
        let was_missed = self.object.missed().is_ok_and(|map| map.get(&missed, 0).is_ok());
        let has_left = self.in_flight.record(ssid, seq).is_some_and(|(index, id)| {
            let record = self.object.in_flight().map(|map| map.get(&index, 0));
            record.is_ok_and(|record| record.is_ok_and(|record| record.has_left(id)))
        });
        match (was_missed, has_left) {
            (true, _) => Trace::CollectorLost,
            (false, true) => Trace::Left,
            (false, false) => Trace::NotLeft,
        }
    }

    fn poll_ready(&self, _sockets: &SocketPair, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.utc.poll_set(cx) {
            Poll::Ready(set) => Poll::Ready(set),
            Poll::Pending => self.ring.poll_ready(cx),
        }
    }

    fn drain(&mut self, _sockets: &SocketPair, clock: &ClockState, each: &mut dyn FnMut(&Reply)) -> Option<u64> {
        let Self { utc, ring, .. } = self;
        let mut has_changed = utc.take_notice();
        let more = ring.drain(error_bound_ns(clock), |mut reply| {
            has_changed |= utc.mark(&mut reply);
            each(&reply);
        });
        if has_changed {
            self.write_utc();
        }
        more
    }

    fn mismatches(&mut self, sockets: &SocketPair) -> Mismatches {
        for family in [Family::V4, Family::V6] {
            if let Some(sockets) = sockets.of(family) {
                sockets.take_strays(|packet, from| self.stray(packet, from));
            }
        }
        self.mismatches
    }

    /// It starts again at 0 when the programs have evicted the source.
    fn refused(&self, source: IpAddr) -> Option<u64> {
        let state = self.object.source(source.into()).ok()?;
        Some(state.map_or(0, |state| state.refused))
    }

    fn replies_sent(&self, session: &SessionKey) -> Option<u32> {
        let known = self.object.session(&wire_key(session)).ok()??;
        Some(known.replies as u32)
    }

    fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, ObjectError> {
        Ok(COUNTER_NAMES.into_iter().zip(self.object.counters()?).collect())
    }
}

/// A prefix as a key of the map `ALLOWED`.
fn trie_key(prefix: IpNet) -> Key<Address> {
    const MAPPED: u32 = 96;
    let length = u32::from(prefix.prefix_len());
    match prefix {
        IpNet::V4(v4) => Key::new(MAPPED + length, Address::from(IpAddr::V4(v4.addr()))),
        IpNet::V6(v6) => Key::new(length, Address::from(IpAddr::V6(v6.addr()))),
    }
}

/// A session as a key of the maps.
fn wire_key(session: &SessionKey) -> ReflectorSessionKey {
    ReflectorSessionKey {
        source: session.source.into(),
        destination: session.destination.into(),
        source_port: session.source_port.to_be(),
        destination_port: session.destination_port.to_be(),
        ssid: session.ssid.to_be(),
        reserved: 0,
    }
}

/// How the sources in `prefix` are treated, as in the map `ALLOWED`.
fn allowed(prefix: IpNet, sources: Sources) -> Allowed {
    let family = match prefix {
        IpNet::V4(_) => ALLOWED_V4,
        IpNet::V6(_) => ALLOWED_V6,
    };
    let (own, kind) = match sources {
        Sources::Answered(own) => (own.map_or(Address::NONE, Address::from), family),
        Sources::Nobody => (Address::NONE, ALLOWED_NOBODY),
    };
    Allowed { own, kind, reserved: 0 }
}
