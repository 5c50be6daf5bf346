//! One loaded object, and the outcome of running a program on one packet.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{ProgramError, TestRun as _, TestRunOptions, TestRunResult};
use nix::time::{ClockId, clock_gettime};
use probe_common::abi::{
    ABI_VERSION, ALLOWED_NOBODY, ALLOWED_V4, ALLOWED_V6, Address, Allowed, COUNTER_NAMES, Counter, DESTINATION_GROUP,
    DESTINATION_OWN, InFlight, InFlightRecord, Limit, MAX_REPLIES, ProbeKey, Sample, SessionRing, SessionSlot,
    Settings, SourceSlot, SourceState,
};
use probe_common::ntp::NtpTime;
use probe_io::backend::ebpf::object::{EGRESS, INGRESS, Object};

use crate::packet::{
    GROUP_V4, GROUP_V6, OWN_LINK_LOCAL, OWN_MAC, OWN_V4, OWN_V6, SECOND_PORT, SECOND_V4, SENDER_PORT_V4,
    SENDER_PORT_V6, TEST_PORT,
};
use crate::pool::{Lent, Loaded};

/// UTC − `CLOCK_MONOTONIC` for the programs; not the machine's own, so that a program that ignores it is noticed.
pub(crate) const UNIX_OFFSET_NS: u64 = 1_795_000_000_123_456_789;

/// Length of each session's ring in tests, less one.
pub(crate) const RING_MASK: u32 = 63;

/// The session of most probes.
pub(crate) const SSID: u16 = 0x0b0c;

/// The kernel's fast clock accessors may differ from the precise ones by this much during a clock update.
const CLOCK_SLACK_NS: u64 = 1_000;

/// Most tests do not care whether a source is known already.
const STARTED: &str = COUNTER_NAMES[Counter::SourceStarted as usize];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Xdp,
    Ingress,
    Egress,
}

/// The two programs that receive; they must behave alike.
pub(crate) const RECEIVERS: [Program; 2] = [Program::Xdp, Program::Ingress];

/// The verdicts that both hooks have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Consume,
    Transmit,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) frame: Vec<u8>,
    /// The counters that changed, and by how much, except [`STARTED`].
    pub(crate) counted: Vec<(&'static str, u64)>,
    /// Clock readings around the run, widened by [`CLOCK_SLACK_NS`].
    pub(crate) monotonic: RangeInclusive<u64>,
    /// The same for UTC, with the offset of [`settings`].
    pub(crate) unix: RangeInclusive<u64>,
}

impl Outcome {
    /// The timestamp at `at`, which must lie within the run.
    pub(crate) fn stamp(&self, at: usize) -> NtpTime {
        let wire = NtpTime::from_be_bytes(self.frame[at..][..8].try_into().unwrap());
        let unix_ns = wire.to_unix_ns(*self.unix.start());
        assert!(
            self.unix.contains(&unix_ns),
            "the stamp {unix_ns} at {at} is not within {:?}",
            self.unix
        );
        wire
    }

    /// The packet was dropped unchanged, and counted once by each of `counters` and by no other.
    pub(crate) fn assert_dropped(&self, before: &[u8], counters: &[Counter], what: &str) {
        assert_eq!(self.verdict, Verdict::Consume, "{what}");
        assert_eq!(self.counted, once(counters), "{what}");
        assert_eq!(self.frame, before, "{what}");
    }

    /// The packet passed unchanged, and counted once by each of `counters` and by no other.
    pub(crate) fn assert_passed(&self, before: &[u8], counters: &[Counter], what: &str) {
        assert_eq!(self.verdict, Verdict::Pass, "{what}");
        assert_eq!(self.counted, once(counters), "{what}");
        assert_eq!(self.frame, before, "{what}");
    }
}

/// The expected change of counters that count one packet.
pub(crate) fn once(counters: &[Counter]) -> Vec<(&'static str, u64)> {
    counters
        .iter()
        .map(|&counter| (COUNTER_NAMES[counter as usize], 1))
        .collect()
}

/// A loaded object with settings and addresses, and its ring buffer.
pub(crate) struct Rig {
    loaded: Lent,
    counters: [u64; COUNTER_NAMES.len()],
}

impl Rig {
    /// With [`settings`] and the addresses of [`crate::packet`]; `None` without permission, which is printed.
    pub(crate) fn new() -> Option<Self> {
        Self::with(&settings())
    }

    /// With programs that reply to partial checksums by partial or by whole ones.
    pub(crate) fn keeping_partial_checksums(partial_checksums: bool) -> Option<Self> {
        Self::with(&Settings {
            partial_checksums: partial_checksums.into(),
            ..settings()
        })
    }

    pub(crate) fn with(settings: &Settings) -> Option<Self> {
        let mut rig = Self::unset()?;
        rig.object().set_settings(settings).unwrap();
        let own: [IpAddr; 4] = [OWN_V4.into(), SECOND_V4.into(), OWN_V6.into(), OWN_LINK_LOCAL.into()];
        let groups: [IpAddr; 2] = [GROUP_V4.into(), GROUP_V6.into()];
        let mut destinations = rig.object().destinations().unwrap();
        for (addresses, kind) in [(&own[..], DESTINATION_OWN), (&groups[..], DESTINATION_GROUP)] {
            for &address in addresses {
                destinations.insert(Address::from(address), kind, 0).unwrap();
            }
        }
        for (prefix, own) in [
            ("10.1.0.0/16", IpAddr::from(OWN_V4)),
            ("fd00:0:0:1::/64", OWN_V6.into()),
            ("fe80::/64", OWN_LINK_LOCAL.into()),
        ] {
            rig.allow(prefix, own);
        }
        rig.open_session(SSID);
        Some(rig)
    }

    /// Gives a session a ring, so that its probes are stamped. A session with a ring begins again.
    pub(crate) fn open_session(&mut self, ssid: u16) {
        let Loaded {
            object,
            sessions,
            generation,
            ..
        } = &mut *self.loaded;
        *generation += 1;
        let known = sessions.iter().position(|session| session.0 == ssid);
        let place = known.unwrap_or(sessions.len());
        let ring = SessionRing::new(place as u32 * (RING_MASK + 1), *generation);
        match sessions.get_mut(place) {
            Some(session) => session.1 = ring,
            None => sessions.push((ssid, ring)),
        }
        object.session_rings().unwrap().set(ssid.into(), ring, 0).unwrap();
    }

    fn place(&self, probe: ProbeKey) -> (u32, u64) {
        let session = self.loaded.sessions.iter().find(|session| session.0 == probe.ssid);
        session.unwrap().1.record(probe.seq, RING_MASK).unwrap()
    }

    /// Puts a probe of an open session in flight.
    pub(crate) fn put_in_flight(&mut self, probe: ProbeKey, sent: InFlight) {
        let (index, id) = self.place(probe);
        let record = InFlightRecord { id, sent };
        self.object().in_flight().unwrap().set(index, record, 0).unwrap();
    }

    /// The record of a probe of an open session, if there is one.
    pub(crate) fn in_flight(&mut self, probe: ProbeKey) -> Option<InFlight> {
        let (index, id) = self.place(probe);
        let record = self.object().in_flight().unwrap().get(&index, 0).unwrap();
        (record.id == id).then_some(record.sent)
    }

    /// The senders whose debts are known.
    pub(crate) fn known_sources(&mut self) -> usize {
        let slots: Array<_, SourceSlot> = self.loaded.map("SOURCE_SLOTS");
        let used = slots
            .iter()
            .filter(|slot| slot.as_ref().unwrap().owner != SourceSlot::FREE);
        let in_slots = used.count();
        let others: HashMap<_, Address, SourceState> = self.loaded.map("SOURCES");
        in_slots + others.keys().count()
    }

    /// The slot that may be a sender's, after `change`.
    pub(crate) fn source_slot(&mut self, source: Address, change: impl FnOnce(&mut SourceSlot)) -> SourceSlot {
        changed(self.loaded.map("SOURCE_SLOTS"), source.slot(), change)
    }

    /// The slot that may be a session's, after `change`.
    pub(crate) fn session_slot(&mut self, index: u32, change: impl FnOnce(&mut SessionSlot)) -> SessionSlot {
        changed(self.loaded.map("SESSION_SLOTS"), index, change)
    }

    /// The number of records of all open sessions.
    pub(crate) fn all_in_flight(&mut self) -> usize {
        let Loaded { object, sessions, .. } = &mut *self.loaded;
        let records = object.in_flight().unwrap();
        let of_session = |&(_, ring): &(u16, SessionRing)| {
            let generation = ring.record(0, 0).unwrap().1 >> 32;
            let ids = (ring.base()..=ring.base() + RING_MASK).map(|index| records.get(&index, 0).unwrap().id);
            ids.filter(|id| id >> 32 == generation).count()
        };
        sessions.iter().map(of_session).sum()
    }

    /// Allows a prefix, whose group probes are answered from `own`; known sources are looked up again when the generation
    /// changes.
    pub(crate) fn allow(&mut self, prefix: &str, own: impl Into<Address>) {
        let (key, kind) = trie_entry(prefix);
        self.set_allowed(&key, own.into(), kind);
    }

    /// The address is the network or the broadcast address of a prefix.
    pub(crate) fn allow_nobody(&mut self, address: &str) {
        self.set_allowed(&trie_entry(address).0, Address::NONE, ALLOWED_NOBODY);
    }

    fn set_allowed(&mut self, key: &Key<Address>, own: Address, kind: u32) {
        let allowed = Allowed { own, kind, reserved: 0 };
        self.loaded.object.allowed().unwrap().insert(key, allowed, 0).unwrap();
    }

    pub(crate) fn disallow(&mut self, prefix: &str) {
        self.loaded
            .object
            .allowed()
            .unwrap()
            .remove(&trie_entry(prefix).0)
            .unwrap();
    }

    /// Loaded, without settings.
    pub(crate) fn unset() -> Option<Self> {
        if !may_load() {
            return None;
        }
        let mut loaded = Lent::new();
        let counters = loaded.object.counters().unwrap();
        Some(Self { loaded, counters })
    }

    pub(crate) fn object(&mut self) -> &mut Object {
        &mut self.loaded.object
    }

    pub(crate) fn run(&mut self, program: Program, frame: &[u8]) -> Outcome {
        self.try_run(program, frame).unwrap()
    }

    /// An error if the kernel refuses the frame before the program sees it.
    pub(crate) fn try_run(&mut self, program: Program, frame: &[u8]) -> Result<Outcome, ProgramError> {
        let mut out = vec![0; frame.len() + 64];
        let before = now(ClockId::CLOCK_MONOTONIC) - CLOCK_SLACK_NS;
        let result = self.invoke(program, frame, Some(&mut out), 1)?;
        let after = now(ClockId::CLOCK_MONOTONIC) + CLOCK_SLACK_NS;
        out.truncate(result.data_size_out as usize);
        Ok(Outcome {
            verdict: verdict(program, result.return_value),
            frame: out,
            counted: self
                .counted()
                .into_iter()
                .filter(|(name, _)| *name != STARTED)
                .collect(),
            monotonic: before..=after,
            unix: before + UNIX_OFFSET_NS..=after + UNIX_OFFSET_NS,
        })
    }

    /// Runs `program` once without reading counters and clocks: the verdict, and the frame afterwards.
    pub(crate) fn verdict(&mut self, program: Program, frame: &[u8]) -> Result<(Verdict, Vec<u8>), ProgramError> {
        let mut out = vec![0; frame.len() + 64];
        let result = self.invoke(program, frame, Some(&mut out), 1)?;
        out.truncate(result.data_size_out as usize);
        Ok((verdict(program, result.return_value), out))
    }

    /// Runs `program` on `frame` many times; returns the last verdict.
    pub(crate) fn repeat(&mut self, program: Program, frame: &[u8], times: u32) -> Verdict {
        let result = self.invoke(program, frame, None, times).unwrap();
        verdict(program, result.return_value)
    }

    /// The counters that changed since the last call.
    pub(crate) fn counted(&mut self) -> Vec<(&'static str, u64)> {
        let before = std::mem::replace(&mut self.counters, self.loaded.object.counters().unwrap());
        let changes = self.counters.iter().zip(before).map(|(now, before)| now - before);
        COUNTER_NAMES
            .into_iter()
            .zip(changes)
            .filter(|change| change.1 != 0)
            .collect()
    }

    /// The samples since the last call.
    pub(crate) fn samples(&mut self) -> Vec<Sample> {
        let mut samples = Vec::new();
        while let Some(record) = self.loaded.samples.next() {
            assert_eq!(record.len(), size_of::<Sample>());
            // SAFETY: the record has the size of a `Sample`, for which any bytes are valid.
            samples.push(unsafe { record.as_ptr().cast::<Sample>().read_unaligned() });
        }
        samples
    }

    fn invoke(
        &mut self,
        program: Program,
        frame: &[u8],
        data_out: Option<&mut [u8]>,
        repeat: u32,
    ) -> Result<TestRunResult, ProgramError> {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out,
            repeat,
            ..TestRunOptions::new()
        };
        match program {
            Program::Xdp => self.loaded.object.xdp().unwrap().test_run(options),
            Program::Ingress => self.loaded.object.classifier(INGRESS).unwrap().test_run(options),
            Program::Egress => self.loaded.object.classifier(EGRESS).unwrap().test_run(options),
        }
    }
}

fn changed<V: Pod>(mut slots: Array<&mut MapData, V>, index: u32, change: impl FnOnce(&mut V)) -> V {
    let mut slot = slots.get(&index, 0).unwrap();
    change(&mut slot);
    slots.set(index, slot, 0).unwrap();
    slot
}

/// A reflector and sender with an address of every kind.
pub(crate) fn settings() -> Settings {
    Settings {
        abi_version: ABI_VERSION,
        interface: 1,
        unix_offset_ns: UNIX_OFFSET_NS,
        test_ports: [TEST_PORT, SECOND_PORT, 0, 0],
        sender_port_v4: SENDER_PORT_V4,
        sender_port_v6: SENDER_PORT_V6,
        error_estimate: 0x8c0d,
        cold_ports: 0,
        mac: OWN_MAC,
        partial_checksums: 0,
        ingress_is_second: 0,
        own_v4: IpAddr::from(OWN_V4).into(),
        own_v6: IpAddr::from(OWN_V6).into(),
        policy_generation: 1,
        port_batch: 64,
        max_replies: MAX_REPLIES,
        ring_mask: RING_MASK,
        source_limit: Limit::NONE,
        group_limit: Limit::NONE,
        port_limit: Limit::NONE,
    }
}

/// A prefix as in the map: IPv4 mapped into IPv6.
pub(crate) fn trie_entry(prefix: &str) -> (Key<Address>, u32) {
    let (address, length) = prefix.split_once('/').unwrap();
    let (address, length): (IpAddr, u32) = (address.parse().unwrap(), length.parse().unwrap());
    match address {
        IpAddr::V4(_) => (Key::new(96 + length, address.into()), ALLOWED_V4),
        IpAddr::V6(_) => (Key::new(length, address.into()), ALLOWED_V6),
    }
}

fn verdict(program: Program, value: u32) -> Verdict {
    match (program, value as i32) {
        (Program::Xdp, 2) | (Program::Ingress | Program::Egress, -1) => Verdict::Pass,
        (Program::Xdp, 1) | (Program::Ingress, 2) => Verdict::Consume,
        (Program::Xdp, 3) | (Program::Ingress, 7) => Verdict::Transmit,
        (program, value) => panic!("{program:?} returned {value}"),
    }
}

fn now(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Whether this process may load programs (`capabilities(7)`); prints a line if not.
pub(crate) fn may_load() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const BPF: u64 = 1 << 39;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
    let may = effective & SYS_ADMIN != 0 || effective & (BPF | NET_ADMIN) == BPF | NET_ADMIN;
    if !may {
        // Not captured as test output is, so that the line is seen.
        let _ = writeln!(io::stderr(), "SKIPPED: needs root");
    }
    may
}
