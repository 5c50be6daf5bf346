//! Loaded objects that tests pass on to one another, emptied: most tests spend most of their time in the verifier.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf};
use aya::{Pod, util};
use probe_common::abi::{
    Address, MissedKey, ReflectorSession, ReflectorSessionKey, SessionRing, SessionSlot, Settings, SourceSlot,
    SourceState,
};
use probe_core::rings::Rings;
use probe_io::backend::ebpf::object::Object;

/// Objects that no test is using.
static IDLE: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

/// An object and its ring buffer.
pub(crate) struct Loaded {
    pub(crate) object: Object,
    pub(crate) samples: RingBuf<MapData>,
    /// The sessions of the test.
    pub(crate) sessions: Vec<(u16, SessionRing)>,
    /// The generation last used. Each test uses new ones, so that it finds no records of earlier tests.
    pub(crate) generation: u32,
}

/// An object that goes back to the pool when its test ends.
pub(crate) struct Lent(Option<Loaded>);

impl Lent {
    /// As if just loaded, except that the counters keep their values.
    pub(crate) fn new() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut loaded = idle.unwrap_or_else(Loaded::load);
        loaded.empty();
        Self(Some(loaded))
    }
}

impl Deref for Lent {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Loaded {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        IDLE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(self.0.take());
    }
}

impl Loaded {
    fn load() -> Self {
        let mut object = Object::load(0, Rings::ONE).unwrap();
        let samples = object.take_samples().unwrap();
        Self {
            object,
            samples,
            sessions: Vec::new(),
            generation: 0,
        }
    }

    /// Removes all entries that a test may have left in the maps.
    fn empty(&mut self) {
        while self.samples.next().is_some() {}
        // SAFETY: any bytes are settings.
        self.object
            .set_settings(&unsafe { std::mem::zeroed::<Settings>() })
            .unwrap();
        self.clear::<Address, u32>("DESTINATIONS");
        self.clear::<Address, SourceState>("SOURCES");
        self.zero::<SourceSlot>("SOURCE_SLOTS", |slot| slot.owner != SourceSlot::FREE);
        self.zero::<SessionSlot>("SESSION_SLOTS", |slot| slot.count != SessionSlot::FREE);
        self.clear::<Address, u32>("SESSIONS_BY_PEER");
        let mut rings = self.object.session_rings().unwrap();
        for (ssid, _) in self.sessions.drain(..) {
            rings.set(ssid.into(), SessionRing::NONE, 0).unwrap();
        }
        self.clear::<MissedKey, u64>("MISSED");
        self.clear::<MissedKey, u32>("REPLIES");
        self.clear::<ReflectorSessionKey, ReflectorSession>("REFLECTOR_SESSIONS");
        let mut allowed = self.object.allowed().unwrap();
        for prefix in allowed.keys().map(Result::unwrap).collect::<Vec<_>>() {
            allowed.remove(&prefix).unwrap();
        }
        self.map::<Array<_, u64>>("PORT_EARNED").set(0, 0, 0).unwrap();
        let nothing = PerCpuValues::try_from(vec![0; util::nr_cpus().unwrap()]).unwrap();
        self.map::<PerCpuArray<_, u64>>("PORT_SHARE")
            .set(0, nothing, 0)
            .unwrap();
    }

    fn clear<K: Pod, V: Pod>(&mut self, name: &str) {
        let mut map: HashMap<_, K, V> = self.map(name);
        for key in map.keys().map(Result::unwrap).collect::<Vec<_>>() {
            map.remove(&key).unwrap();
        }
    }

    fn zero<V: Pod>(&mut self, name: &str, in_use: impl Fn(&V) -> bool) {
        let mut map: Array<_, V> = self.map(name);
        for index in 0..map.len() {
            if in_use(&map.get(&index, 0).unwrap()) {
                // SAFETY: any bytes are a value.
                map.set(index, unsafe { std::mem::zeroed::<V>() }, 0).unwrap();
            }
        }
    }

    pub(crate) fn map<'a, M: TryFrom<&'a mut Map, Error = MapError>>(&'a mut self, name: &str) -> M {
        self.object.ebpf_mut().map_mut(name).unwrap().try_into().unwrap()
    }
}
