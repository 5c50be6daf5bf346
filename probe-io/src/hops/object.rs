//! The programs of the observers, and their maps.

use std::net::IpAddr;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, RawTracePoint, SchedClassifier};
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use probe_common::abi::{ABI_VERSION, Address};
use probe_common::hops::{HopRecord, HopSettings, LOST, LateHopRecord, MAX_PORTS};

use crate::backend::ebpf::object::{self, HOPS_EGRESS, HOPS_INGRESS};
use crate::backend::error::ObjectError;
use crate::hops::addresses::OwnAddresses;

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-hops-programs"));

const SETTINGS: &str = "HOP_SETTINGS";
const ADDRESSES: &str = "HOP_ADDRESSES";
const RECORDS: &str = "HOP_RECORDS";
const COUNTS: &str = "HOP_COUNTS";

/// The programs that see how late processors receive packets, and their tracepoints, in the order in which they are attached: a
/// raise that is noted before the entry is seen would look like a long wait.
pub const SOFTIRQ: [(&str, &str); 3] = [
    ("kstamp_rx_exit", "softirq_exit"),
    ("kstamp_rx_entry", "softirq_entry"),
    ("kstamp_rx_raise", "softirq_raise"),
];

/// The loaded programs, attached to nothing.
pub(super) struct HopPrograms(Ebpf);

/// What the programs record, and of which addresses.
pub(super) struct HopMaps {
    addresses: HashMap<MapData, Address, u32>,
    own: OwnAddresses,
    records: RingBuf<MapData>,
    counts: PerCpuArray<MapData, u64>,
}

/// Settings of programs that look for packets of these ports, at most [`MAX_PORTS`].
pub(super) fn settings(test_ports: &[u16]) -> HopSettings {
    let mut settings = HopSettings {
        abi_version: ABI_VERSION,
        test_ports: [0; MAX_PORTS],
    };
    for (slot, port) in settings.test_ports.iter_mut().zip(test_ports) {
        *slot = *port;
    }
    settings
}

/// Loads the programs.
pub(super) fn load(settings: HopSettings) -> Result<(HopPrograms, HopMaps), ObjectError> {
    let mut ebpf = object::parse(OBJECT, &mut EbpfLoader::new())?;
    let mut map: Array<&mut MapData, HopSettings> = object::map(&mut ebpf, SETTINGS)?;
    map.set(0, settings, 0).map_err(ObjectError::map(SETTINGS))?;
    let mut programs = HopPrograms(ebpf);
    for name in [HOPS_EGRESS, HOPS_INGRESS] {
        let program = programs.get(name)?;
        object::load(name, || program.load())?;
    }
    let ebpf = &mut programs.0;
    let maps = HopMaps {
        addresses: take(ebpf, ADDRESSES)?,
        own: OwnAddresses::default(),
        records: object::take_ring(ebpf, RECORDS)?,
        counts: take(ebpf, COUNTS)?,
    };
    Ok((programs, maps))
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, ObjectError> {
    let map = ebpf.take_map(name).ok_or(ObjectError::Missing(name))?;
    M::try_from(map).map_err(ObjectError::map(name))
}

impl HopPrograms {
    /// [`HOPS_EGRESS`] or [`HOPS_INGRESS`].
    pub(super) fn get(&mut self, name: &'static str) -> Result<&mut SchedClassifier, ObjectError> {
        object::classifier(&mut self.0, name)
    }

    /// From now on, records say how late processors received packets, until the programs are dropped. Fails if the kernel
    /// refuses one of them.
    pub(super) fn watch_softirqs(&mut self) -> Result<(), ProgramError> {
        for (name, _) in SOFTIRQ {
            softirq(&mut self.0, name)?.load()?;
        }
        for (name, tracepoint) in SOFTIRQ {
            softirq(&mut self.0, name)?.attach(tracepoint)?;
        }
        Ok(())
    }
}

fn softirq<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

impl HopMaps {
    pub(super) fn set_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), ObjectError> {
        self.own.set(addresses, &mut self.addresses, ADDRESSES)
    }

    /// Takes out the oldest record, with how late in nanoseconds the processor received its packet: 0 if it was not late.
    pub(super) fn next(&mut self) -> Option<(HopRecord, u64)> {
        let bytes = self.records.next()?;
        read::<HopRecord>(&bytes)
            .map(|record| (record, 0))
            .or_else(|| read::<LateHopRecord>(&bytes).map(|late| (late.record, late.waited_ns)))
    }

    /// Records for which there was no room.
    pub(super) fn lost(&self) -> Result<u64, ObjectError> {
        let values = self.counts.get(&LOST, 0).map_err(ObjectError::map(COUNTS))?;
        Ok(values.iter().sum())
    }
}

/// `None` if the length is not that of `T`.
fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the length is right, any bytes are a valid `T` (`Pod`), and the read assumes no alignment.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
