//! Upcalls of Open vSwitch's kernel datapath: which probes waited for ovs-vswitchd, and how long.
//!
//! The programs are attached to two raw tracepoints of the module openvswitch, which cannot be unloaded meanwhile. They see
//! the datapaths of all network namespaces.

use std::io::Read as _;
use std::net::IpAddr;
use std::{fs, io, panic, thread};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, RawTracePoint};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use btfparse::{Offset, Readable, TypeInformation};
use probe_common::abi::Address;
use probe_common::hops::REPLY;
use probe_common::upcalls::{LOST, RECORDS_BYTES, UpcallRecord, UpcallSettings};
use probe_core::direction::Direction;
use probe_core::hops::Upcall;

use crate::backend::ebpf::object;
use crate::backend::error::{ObjectError, root_cause};
use crate::hops::HopConfig;
use crate::hops::addresses::OwnAddresses;
use crate::hops::object::settings;

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-upcalls-programs"));

/// Each program and its tracepoint. An answer must not be missed once upcalls are seen.
const PROGRAMS: [(&str, &str); 2] = [
    ("kstamp_execute", "ovs_do_execute_action"),
    ("kstamp_upcall", "ovs_dp_upcall"),
];
const SETTINGS: &str = "UPCALL_SETTINGS";
const ADDRESSES: &str = "UPCALL_ADDRESSES";
const COUNTS: &str = "UPCALL_COUNTS";

/// Upcalls that are taken at once: as many as the ring buffer holds.
const MAX_AT_ONCE: usize = RECORDS_BYTES as usize / size_of::<UpcallRecord>();

/// The types of the running kernel (BTF).
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Why upcalls are not seen.
#[derive(Debug, thiserror::Error)]
pub enum UpcallError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("the kernel has no tracepoint {0}; is the module openvswitch loaded?")]
    NoTracepoint(&'static str),
    #[error("cannot attach to the tracepoint {tracepoint}: {}", root_cause(.source))]
    Refused {
        tracepoint: &'static str,
        source: Box<ProgramError>,
    },
    #[error("cannot read {TYPES}: {0}; the kernel needs CONFIG_DEBUG_INFO_BTF")]
    Unreadable(io::Error),
    #[error("{TYPES} does not say where the bytes of an sk_buff are: {0}")]
    Unknown(String),
}

/// The attached programs. Dropping it detaches them.
pub struct Upcalls {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    addresses: OwnAddresses,
}

impl Upcalls {
    /// Loads the programs and attaches them. Call it before privileges are dropped.
    pub fn attach(config: &HopConfig) -> Result<Self, UpcallError> {
        let mut ebpf = object::parse(OBJECT, &mut EbpfLoader::new())?;
        let ring = object::take_ring(&mut ebpf, "UPCALL_RECORDS")?;
        // Without settings the programs find nothing. Reading the types takes longer than all else, so it comes last.
        for (name, _) in PROGRAMS {
            let program = program(&mut ebpf, name)?;
            object::load(name, || program.load())?;
        }
        for (name, tracepoint) in PROGRAMS {
            attach(program(&mut ebpf, name)?, tracepoint)?;
        }
        let settings = SkBuff::of_this_kernel()?.settings(&config.test_ports);
        let mut map: Array<&mut MapData, UpcallSettings> = object::map(&mut ebpf, SETTINGS)?;
        map.set(0, settings, 0).map_err(ObjectError::map(SETTINGS))?;
        let mut upcalls = Self {
            ebpf,
            ring,
            addresses: OwnAddresses::default(),
        };
        upcalls.set_addresses(&config.addresses)?;
        Ok(upcalls)
    }

    /// Sees upcalls of probes to and from these addresses from now on.
    pub fn set_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), UpcallError> {
        let mut map: HashMap<&mut MapData, Address, u32> = object::map(&mut self.ebpf, ADDRESSES)?;
        Ok(self.addresses.set(addresses, &mut map, ADDRESSES)?)
    }

    /// Takes the upcalls that were answered so far. It does not block.
    pub fn drain(&mut self, mut each: impl FnMut(Upcall)) {
        for _ in 0..MAX_AT_ONCE {
            let Some(bytes) = self.ring.next() else { return };
            if let Some(record) = decode(&bytes) {
                each(upcall(&record));
            }
        }
    }

    /// Upcalls that were lost so far because nobody drained in time.
    pub fn lost(&mut self) -> Result<u64, UpcallError> {
        let map: PerCpuArray<&mut MapData, u64> = object::map(&mut self.ebpf, COUNTS)?;
        let values = map.get(&LOST, 0).map_err(ObjectError::map(COUNTS))?;
        Ok(values.iter().sum())
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut RawTracePoint, ObjectError> {
    let program = ebpf.program_mut(name).ok_or(ObjectError::Missing(name))?;
    program.try_into().map_err(|_| ObjectError::Missing(name))
}

fn attach(program: &mut RawTracePoint, tracepoint: &'static str) -> Result<(), UpcallError> {
    match program.attach(tracepoint) {
        Ok(_) => Ok(()),
        Err(ProgramError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Err(UpcallError::NoTracepoint(tracepoint))
        }
        Err(source) => Err(UpcallError::Refused {
            tracepoint,
            source: Box::new(source),
        }),
    }
}

fn decode(bytes: &[u8]) -> Option<UpcallRecord> {
    // SAFETY: the length is right, any bytes are a valid `UpcallRecord` (`Pod`), and the read assumes no alignment.
    (bytes.len() == size_of::<UpcallRecord>())
        .then(|| unsafe { bytes.as_ptr().cast::<UpcallRecord>().read_unaligned() })
}

fn upcall(record: &UpcallRecord) -> Upcall {
    let UpcallRecord {
        at_ns,
        wait_ns,
        passage,
    } = *record;
    Upcall {
        direction: match passage.flags & REPLY {
            0 => Direction::Forward,
            _ => Direction::Backward,
        },
        prober: passage.prober.into(),
        reflector: passage.reflector.into(),
        ssid: passage.ssid,
        seq: passage.sequence,
        mono_ns: at_ns,
        wait_ns,
    }
}

/// Where the kernel has members of a packet.
#[derive(Debug, PartialEq, Eq)]
struct SkBuff {
    data: u32,
    len: u32,
    data_len: u32,
}

impl SkBuff {
    fn of_this_kernel() -> Result<Self, UpcallError> {
        let types = fs::read(TYPES).map_err(UpcallError::Unreadable)?;
        // All types take 55 MB. Most of the heap of a thread goes with it.
        thread::scope(|scope| scope.spawn(|| Self::find(&types)).join())
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
            .map_err(|error| UpcallError::Unknown(error.message().to_owned()))
    }

    fn find(types: &[u8]) -> btfparse::Result<Self> {
        let types = TypeInformation::new(&Bytes(types))?;
        let unknown = |what: &str| btfparse::Error::new(btfparse::ErrorKind::InvalidTypePath, what);
        let sk_buff = types.id_of("sk_buff").ok_or_else(|| unknown("there is no such type"))?;
        let offset = |member| match types.offset_of(sk_buff, member)?.1 {
            Offset::ByteOffset(offset) => Ok(offset),
            Offset::BitOffsetAndSize(..) => Err(unknown("a member is a bit field")),
        };
        Ok(Self {
            data: offset("data")?,
            len: offset("len")?,
            data_len: offset("data_len")?,
        })
    }

    fn settings(&self, ports: &[u16]) -> UpcallSettings {
        UpcallSettings {
            probes: settings(ports),
            data: self.data,
            len: self.len,
            data_len: self.data_len,
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Readable for Bytes<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let mut rest = self.0.get(offset as usize..).unwrap_or_default();
        Ok(rest.read_exact(buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use probe_common::upcalls::Passage;

    use super::*;

    #[test]
    fn a_record_says_which_probe_or_reply_waited() {
        let [prober, reflector] = ["10.1.1.5", "10.1.1.6"].map(|text| text.parse::<IpAddr>().unwrap());
        for (flags, direction) in [(0, Direction::Forward), (REPLY, Direction::Backward)] {
            let record = UpcallRecord {
                at_ns: 1_000,
                wait_ns: 400,
                passage: Passage {
                    datapath: 1,
                    prober: prober.into(),
                    reflector: reflector.into(),
                    sequence: 7,
                    ssid: 3,
                    flags,
                    reserved: 0,
                },
            };
            let expected = Upcall {
                direction,
                prober,
                reflector,
                ssid: 3,
                seq: 7,
                mono_ns: 1_000,
                wait_ns: 400,
            };
            assert_eq!(upcall(&record), expected);
        }
    }

    #[test]
    fn this_kernel_says_where_the_bytes_of_a_packet_are() {
        let Ok(types) = fs::read(TYPES) else {
            println!("SKIPPED: this kernel has no BTF");
            return;
        };
        let SkBuff { data, len, data_len } = SkBuff::of_this_kernel().unwrap();
        // In every kernel so far.
        assert_eq!(data_len, len + 4);
        assert!(data > data_len && data % 8 == 0);
        for damaged in [&types[..types.len() / 2], &types[..10], &[]] {
            assert!(SkBuff::find(damaged).is_err());
        }
    }
}
