//! The eBPF objects: embedded, loaded, and their programs and maps by name.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, MapType, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use probe_common::abi::{
    Address, Allowed, COUNTER_NAMES, InFlightRecord, MissedKey, ReflectorSession, ReflectorSessionKey, SessionRing,
    SessionSlot, Settings, SourceSlot, SourceState,
};
use probe_core::rings::Rings;

use crate::backend::error::ObjectError;

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-programs"));

/// The XDP program, which receives.
pub const XDP: &str = "kstamp_xdp";
/// The TC program that receives.
pub const INGRESS: &str = "kstamp_ingress";
/// The TC program that stamps.
pub const EGRESS: &str = "kstamp_egress";
/// The tap at TC ingress.
pub(crate) const TAP_INGRESS: &str = "kstamp_tap_ingress";
/// The tap at TC egress.
pub(crate) const TAP_EGRESS: &str = "kstamp_tap_egress";

/// The observer at TC ingress.
pub(crate) const HOPS_INGRESS: &str = "kstamp_hops_in";
/// The observer at TC egress.
pub(crate) const HOPS_EGRESS: &str = "kstamp_hops_out";

/// Creates the maps of an embedded object; its programs are still to be loaded.
pub(crate) fn parse(object: &[u8], loader: &mut EbpfLoader<'_>) -> Result<Ebpf, ObjectError> {
    if object.is_empty() {
        return Err(ObjectError::Stub);
    }
    Ok(loader.load(object).map_err(Box::new)?)
}

/// The TC program `name` of `ebpf`.
pub(crate) fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, ObjectError> {
    let program = ebpf.program_mut(name).ok_or(ObjectError::Missing(name))?;
    program.try_into().map_err(|_| ObjectError::Missing(name))
}

/// The XDP program `name` of `ebpf`.
pub(crate) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, ObjectError> {
    let program = ebpf.program_mut(name).ok_or(ObjectError::Missing(name))?;
    program.try_into().map_err(|_| ObjectError::Missing(name))
}

/// The map `name` of `ebpf`.
pub(crate) fn map<'a, M>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<M, ObjectError>
where
    M: TryFrom<&'a mut Map, Error = MapError>,
{
    let map = ebpf.map_mut(name).ok_or(ObjectError::Missing(name))?;
    M::try_from(map).map_err(ObjectError::map(name))
}

/// A signal that comes while the kernel verifies a program makes it give up; libbpf tries so often, too.
const LOAD_ATTEMPTS: usize = 5;

/// Loads the program `name` by `load`.
pub(crate) fn load(name: &'static str, load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ObjectError> {
    let is_interrupted = |error: &ProgramError| match error {
        ProgramError::LoadError { io_error, .. } => io_error.kind() == io::ErrorKind::WouldBlock,
        _ => false,
    };
    attempt(load, is_interrupted).map_err(ObjectError::program(name))
}

fn attempt<E>(mut load: impl FnMut() -> Result<(), E>, is_interrupted: impl Fn(&E) -> bool) -> Result<(), E> {
    for _ in 1..LOAD_ATTEMPTS {
        match load() {
            Err(error) if is_interrupted(&error) => {}
            outcome => return outcome,
        }
    }
    load()
}

/// Takes the ring buffer `name` out of `ebpf`; it can be taken once.
pub(crate) fn take_ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, ObjectError> {
    let map = ebpf.take_map(name).ok_or(ObjectError::Missing(name))?;
    RingBuf::try_from(map).map_err(ObjectError::map(name))
}

/// Kind, sizes of key and value, entries and flags.
fn layout(map: &MapData) -> Option<(MapType, [u32; 4])> {
    let info = map.info().ok()?;
    let sizes = [info.key_size(), info.value_size(), info.max_entries(), info.map_flags()];
    Some((info.map_type().ok()?, sizes))
}

/// The programs that measure: in the kernel, attached to nothing yet.
pub struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// Creates the maps and loads the three programs. `log_level` is aya-log's (0 for none). The verifier removes disabled
    /// logging as dead code, so it costs nothing.
    pub fn load(log_level: u8, rings: Rings) -> Result<Self, ObjectError> {
        let mut object = Self::create(log_level, rings)?;
        object.load_programs()?;
        Ok(object)
    }

    /// As [`Object::load`], with `maps` of a process before in the place of new ones. If they do not fit, they are left out,
    /// and the reason is returned.
    pub(super) fn load_over(
        log_level: u8,
        rings: Rings,
        maps: Vec<(&'static str, OwnedFd)>,
    ) -> Result<(Self, Option<String>), ObjectError> {
        let mut object = Self::create(log_level, rings)?;
        let misfit = object.replace(maps).err();
        object.load_programs()?;
        Ok((object, misfit))
    }

    fn create(log_level: u8, rings: Rings) -> Result<Self, ObjectError> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("IN_FLIGHT", rings.records());
        loader.map_max_entries("SESSIONS_BY_PEER", rings.peer_sessions());
        loader.override_global(aya_log::LEVEL, &log_level, false);
        Ok(Self {
            ebpf: parse(OBJECT, &mut loader)?,
        })
    }

    /// Loads the programs, over the maps as they are now.
    fn load_programs(&mut self) -> Result<(), ObjectError> {
        let program = self.xdp()?;
        load(XDP, || program.load())?;
        for name in [INGRESS, EGRESS] {
            let program = self.classifier(name)?;
            load(name, || program.load())?;
        }
        Ok(())
    }

    /// Puts maps of the same kinds and sizes in the place of new ones, all or none. The error says which one does not fit.
    fn replace(&mut self, maps: Vec<(&'static str, OwnedFd)>) -> Result<(), String> {
        for (name, kept) in &maps {
            let fits = || {
                let kept = MapData::from_fd(kept.try_clone().ok()?).ok()?;
                Some(layout(&kept)? == layout(self.data(name)?)?)
            };
            if fits() != Some(true) {
                return Err(format!("{name} of the process before has another layout"));
            }
        }
        for (name, kept) in maps {
            let Some(new) = self.data(name) else { continue };
            let number = new.fd().as_fd().as_raw_fd();
            // SAFETY: the number belongs to the map before and after. No program is loaded, so nothing else knows it.
            if unsafe { libc::dup3(kept.as_raw_fd(), number, libc::O_CLOEXEC) } < 0 {
                return Err(format!("{name}: {}", io::Error::last_os_error()));
            }
        }
        Ok(())
    }

    /// A map that may be handed over.
    fn data(&self, name: &str) -> Option<&MapData> {
        match self.ebpf.map(name)? {
            Map::Array(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) => Some(data),
            _ => None,
        }
    }

    /// The descriptor of a map, and its id.
    pub(super) fn descriptor(&self, name: &str) -> Option<(BorrowedFd<'_>, u32)> {
        let data = self.data(name)?;
        Some((data.fd().as_fd(), data.info().ok()?.id()))
    }

    /// The whole object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    pub fn xdp(&mut self) -> Result<&mut Xdp, ObjectError> {
        xdp(&mut self.ebpf, XDP)
    }

    /// A TC program, [`INGRESS`] or [`EGRESS`].
    pub fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, ObjectError> {
        classifier(&mut self.ebpf, name)
    }

    /// Configures the programs. Before this call they touch no packet.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<(), ObjectError> {
        const NAME: &str = "SETTINGS";
        let mut map: Array<&mut MapData, Settings> = map(&mut self.ebpf, NAME)?;
        map.set(0, settings, 0).map_err(ObjectError::map(NAME))
    }

    /// Own and group addresses, with `DESTINATION_OWN` or `DESTINATION_GROUP`.
    pub fn destinations(&mut self) -> Result<HashMap<&mut MapData, Address, u32>, ObjectError> {
        map(&mut self.ebpf, "DESTINATIONS")
    }

    /// How the sources in each prefix are treated; prefix lengths are those in IPv6.
    pub fn allowed(&mut self) -> Result<LpmTrie<&mut MapData, Address, Allowed>, ObjectError> {
        map(&mut self.ebpf, "ALLOWED")
    }

    /// The debts of a sender, if it is known.
    pub fn source(&self, source: Address) -> Result<Option<SourceState>, ObjectError> {
        let of_slot = |slot: SourceSlot| slot.of(&source);
        self.look_up(("SOURCE_SLOTS", source.slot()), of_slot, ("SOURCES", source))
    }

    /// The replies that the programs have sent in a session, if it is known.
    pub fn session(&self, session: &ReflectorSessionKey) -> Result<Option<ReflectorSession>, ObjectError> {
        let of_slot = |slot: SessionSlot| slot.of(session);
        let slot = ("SESSION_SLOTS", session.slot());
        self.look_up(slot, of_slot, ("REFLECTOR_SESSIONS", *session))
    }

    /// The value in the slot at an index of the first map, or else that of a key in the second one.
    fn look_up<S: Pod, K: Pod, V: Pod>(
        &self,
        (slots_name, index): (&'static str, u32),
        of_slot: impl Fn(S) -> Option<V>,
        (others_name, key): (&'static str, K),
    ) -> Result<Option<V>, ObjectError> {
        let map = |name| self.ebpf.map(name).ok_or(ObjectError::Missing(name));
        let slots: Array<_, S> = Array::try_from(map(slots_name)?).map_err(ObjectError::map(slots_name))?;
        let slot = slots.get(&index, 0).map_err(ObjectError::map(slots_name))?;
        if let Some(value) = of_slot(slot) {
            return Ok(Some(value));
        }
        let others: HashMap<_, K, V> = HashMap::try_from(map(others_name)?).map_err(ObjectError::map(others_name))?;
        match others.get(&key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(ObjectError::map(others_name)(error)),
        }
    }

    /// Probes that the egress program has seen.
    pub fn in_flight(&mut self) -> Result<Array<&mut MapData, InFlightRecord>, ObjectError> {
        map(&mut self.ebpf, "IN_FLIGHT")
    }

    /// The ring of each session.
    pub fn session_rings(&mut self) -> Result<Array<&mut MapData, SessionRing>, ObjectError> {
        map(&mut self.ebpf, "SESSION_RINGS")
    }

    /// Replies for which the ring buffer had no room, with T4 on the monotonic clock.
    pub fn missed(&mut self) -> Result<HashMap<&mut MapData, MissedKey, u64>, ObjectError> {
        map(&mut self.ebpf, "MISSED")
    }

    /// The session of each unicast peer.
    pub fn sessions_by_peer(&mut self) -> Result<HashMap<&mut MapData, Address, u32>, ObjectError> {
        map(&mut self.ebpf, "SESSIONS_BY_PEER")
    }

    /// Takes the ring buffer of samples out of the object; it can be taken once.
    pub fn take_samples(&mut self) -> Result<RingBuf<MapData>, ObjectError> {
        take_ring(&mut self.ebpf, "SAMPLES")
    }

    /// The counters in the order of [`COUNTER_NAMES`], summed over all CPUs.
    pub fn counters(&mut self) -> Result<[u64; COUNTER_NAMES.len()], ObjectError> {
        const NAME: &str = "COUNTS";
        let map: PerCpuArray<&mut MapData, u64> = map(&mut self.ebpf, NAME)?;
        let mut counters = [0; COUNTER_NAMES.len()];
        for (index, counter) in (0..).zip(&mut counters) {
            *counter = map.get(&index, 0).map_err(ObjectError::map(NAME))?.iter().sum();
        }
        Ok(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_does_not_keep_a_program_from_being_loaded() {
        for (failures, error, is_loaded, expected) in [
            (0, "interrupted", true, 1),
            (2, "interrupted", true, 3),
            (9, "interrupted", false, LOAD_ATTEMPTS),
            (1, "refused", false, 1),
        ] {
            let mut attempts = 0;
            let load = || {
                attempts += 1;
                if attempts > failures { Ok(()) } else { Err(error) }
            };
            let outcome = attempt(load, |error| *error == "interrupted");
            assert_eq!((outcome.is_ok(), attempts), (is_loaded, expected));
        }
    }
}
