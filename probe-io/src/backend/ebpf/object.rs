//! The eBPF object: embedded, loaded, and its maps by name.

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use probe_common::abi::{Address, COUNTER_NAMES, InFlight, InFlightKey, MissedKey, Settings, SourceState};
use thiserror::Error;

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-programs"));

/// Name of the XDP program.
pub const XDP: &str = "kstamp_xdp";
/// Name of the TC program that receives.
pub const INGRESS: &str = "kstamp_ingress";
/// Name of the TC program that stamps.
pub const EGRESS: &str = "kstamp_egress";

/// The programs could not be loaded, or a map of theirs could not be used.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// Built with `AYA_BUILD_SKIP`.
    #[error(
        "this kstamp was built without its kernel programs; build it with `cargo xtask setup && cargo build --release`"
    )]
    Stub,
    /// The kernel or aya refused the object.
    #[error("cannot load the kernel programs: {}", root_cause(.0))]
    Load(#[from] Box<EbpfError>),
    /// The verifier or aya refused a program.
    #[error("cannot load the program {name}: {}", root_cause(.source))]
    Program {
        /// Its name in the object.
        name: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The object and this library are not of one build.
    #[error("the kernel programs have no {0}; they are of another version of kstamp, rebuild both")]
    Missing(&'static str),
    /// A map operation failed.
    #[error("the map {name}: {source}")]
    Map {
        /// Its name in the object.
        name: &'static str,
        /// Why.
        source: MapError,
    },
}

/// The innermost error of a chain: what the kernel said, in one line.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// The loaded object: programs in the kernel, attached to nothing yet.
pub struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// Creates the maps and loads the three programs. `log_level` is aya-log's (0 for none): what is off is dead code
    /// to the verifier, and costs nothing.
    pub fn load(log_level: u8) -> Result<Self, ObjectError> {
        if OBJECT.is_empty() {
            return Err(ObjectError::Stub);
        }
        let mut loader = EbpfLoader::new();
        loader.override_global(aya_log::LEVEL, &log_level, false);
        let ebpf = loader.load(OBJECT).map_err(Box::new)?;
        let mut object = Self { ebpf };
        let load = |name, result: Result<(), ProgramError>| {
            result.map_err(|source| ObjectError::Program {
                name,
                source: Box::new(source),
            })
        };
        load(XDP, object.xdp()?.load())?;
        load(INGRESS, object.classifier(INGRESS)?.load())?;
        load(EGRESS, object.classifier(EGRESS)?.load())?;
        Ok(object)
    }

    /// The whole object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The XDP program.
    pub fn xdp(&mut self) -> Result<&mut Xdp, ObjectError> {
        let program = self.ebpf.program_mut(XDP).ok_or(ObjectError::Missing(XDP))?;
        program.try_into().map_err(|_| ObjectError::Missing(XDP))
    }

    /// A TC program, [`INGRESS`] or [`EGRESS`].
    pub fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, ObjectError> {
        let program = self.ebpf.program_mut(name).ok_or(ObjectError::Missing(name))?;
        program.try_into().map_err(|_| ObjectError::Missing(name))
    }

    /// Tells the programs what they must know; until then they touch nothing.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<(), ObjectError> {
        let mut map: Array<&mut MapData, Settings> = self.map("SETTINGS")?;
        map.set(0, settings, 0).map_err(|source| ObjectError::Map {
            name: "SETTINGS",
            source,
        })
    }

    /// Own and group addresses, with `DESTINATION_OWN` or `DESTINATION_GROUP`.
    pub fn destinations(&mut self) -> Result<HashMap<&mut MapData, Address, u32>, ObjectError> {
        self.map("DESTINATIONS")
    }

    /// Prefixes whose sources are answered, with `ALLOWED_V4` or `ALLOWED_V6`; prefix lengths are those in IPv6.
    pub fn allowed(&mut self) -> Result<LpmTrie<&mut MapData, Address, u32>, ObjectError> {
        self.map("ALLOWED")
    }

    /// Senders, and what they have used up.
    pub fn sources(&self) -> Result<HashMap<&MapData, Address, SourceState>, ObjectError> {
        let map = self.ebpf.map("SOURCES").ok_or(ObjectError::Missing("SOURCES"))?;
        HashMap::try_from(map).map_err(|source| ObjectError::Map {
            name: "SOURCES",
            source,
        })
    }

    /// Probes that the egress program has seen.
    pub fn in_flight(&mut self) -> Result<HashMap<&mut MapData, InFlightKey, InFlight>, ObjectError> {
        self.map("IN_FLIGHT")
    }

    /// Replies for which the ring buffer had no room, with T4 on the monotonic clock.
    pub fn missed(&mut self) -> Result<HashMap<&mut MapData, MissedKey, u64>, ObjectError> {
        self.map("MISSED")
    }

    /// The session of each host that is probed at its own address.
    pub fn sessions_by_peer(&mut self) -> Result<HashMap<&mut MapData, Address, u32>, ObjectError> {
        self.map("SESSIONS_BY_PEER")
    }

    /// Takes the ring buffer of samples out of the object; it can be taken once.
    pub fn take_samples(&mut self) -> Result<RingBuf<MapData>, ObjectError> {
        let map = self.ebpf.take_map("SAMPLES").ok_or(ObjectError::Missing("SAMPLES"))?;
        RingBuf::try_from(map).map_err(|source| ObjectError::Map {
            name: "SAMPLES",
            source,
        })
    }

    /// The counters in the order of [`COUNTER_NAMES`], summed over all CPUs.
    pub fn counters(&mut self) -> Result<[u64; COUNTER_NAMES.len()], ObjectError> {
        let map: PerCpuArray<&mut MapData, u64> = self.map("COUNTS")?;
        let mut counters = [0; COUNTER_NAMES.len()];
        for (index, counter) in (0..).zip(&mut counters) {
            let values = map
                .get(&index, 0)
                .map_err(|source| ObjectError::Map { name: "COUNTS", source })?;
            *counter = values.iter().sum();
        }
        Ok(counters)
    }

    fn map<'a, M>(&'a mut self, name: &'static str) -> Result<M, ObjectError>
    where
        M: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self.ebpf.map_mut(name).ok_or(ObjectError::Missing(name))?;
        M::try_from(map).map_err(|source| ObjectError::Map { name, source })
    }
}
