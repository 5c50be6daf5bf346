//! Taps: kernel stamps of LLDP frames at switch ports.
//!
//! A tap does not change frames or verdicts. If one kernel stamps a frame at the egress of one end of a link and at the
//! ingress of the other, the difference is the link's one-way delay.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nix::net::if_::if_nametoindex;
use probe_common::tap::{EGRESS, HANDED_OVER, INGRESS, LOST, Record};
use probe_host::link::{NameError, check_name};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use crate::backend::ebpf::attach::{Classifier, Place, classifier};
use crate::backend::ebpf::clsact::Abandoned;
use crate::backend::ebpf::object;
use crate::backend::ebpf::object::{TAP_EGRESS, TAP_INGRESS};
use crate::backend::error::{ObjectError, root_cause};

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-tap-programs"));

#[derive(Debug, Error)]
pub enum TapError {
    #[error("cannot tap: {0}")]
    Name(#[from] NameError),
    #[error("cannot tap {0}: there is no such interface in this network namespace; `ip link` lists them")]
    NoInterface(String),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("cannot tap {interface} ({direction}): {}", root_cause(.source))]
    Refused {
        interface: String,
        /// `ingress` or `egress`.
        direction: &'static str,
        source: Box<ProgramError>,
    },
    #[error("cannot watch the ring buffer of the taps: {0}")]
    Watch(#[source] io::Error),
}

/// The direction in which a frame passed the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

/// One LLDP frame at one interface, possibly of another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tapped {
    pub interface: Arc<str>,
    pub direction: Direction,
    /// On `CLOCK_MONOTONIC`.
    pub stamp_ns: u64,
    /// The frame from its destination address on, at most [`probe_common::tap::SNAP`] bytes of it.
    pub frame: Vec<u8>,
}

/// How many frames the taps have seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapCounts {
    pub handed_over: u64,
    /// Seen, but the ring buffer was full or the frame could not be read.
    pub lost: u64,
}

/// Taps on some interfaces. Dropping it detaches them.
pub struct Taps {
    object: TapObject,
    ring: AsyncFd<RingBuf<MapData>>,
    interfaces: BTreeMap<u32, Arc<str>>,
    _programs: Vec<Classifier>,
}

impl Taps {
    /// Taps every interface in `names` in both directions, or none. To be called from within a tokio runtime.
    pub fn attach<S: AsRef<str>>(names: &[S]) -> Result<Self, TapError> {
        let mut interfaces = BTreeMap::new();
        for name in names.iter().map(AsRef::as_ref) {
            check_name(name)?;
            let index = if_nametoindex(name).map_err(|_| TapError::NoInterface(name.to_owned()))?;
            interfaces.insert(index, Arc::from(name));
        }
        let mut object = TapObject::load()?;
        // SAFETY: `RingBuf` owns the map's descriptor and gives the same one until it is dropped.
        let ring = unsafe { AsyncFd::register(object.take_records()?) }
            .map_err(io::Error::from)
            .map_err(TapError::Watch)?;
        let mut programs = Vec::new();
        for (&index, name) in &interfaces {
            for direction in [Direction::Egress, Direction::Ingress] {
                // In front: before TCX, the first tap on an interface owns the qdisc and must be dropped last.
                programs.insert(0, tap(&mut object, name, index, direction)?);
            }
        }
        Ok(Self {
            object,
            ring,
            interfaces,
            _programs: programs,
        })
    }

    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.interfaces.values().map(|name| &**name)
    }

    /// The next frame, in the order in which the kernel stamped them on one CPU. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Tapped> {
        loop {
            // Wait only if the ring buffer is empty: the kernel wakes the reader once for many frames.
            let mut guard = self.ring.readable_mut().await?;
            let record = guard.get_inner_mut().next();
            match record.map(|bytes| read(&bytes, &self.interfaces)) {
                None => guard.clear_ready(),
                Some(None) => {}
                Some(Some(tapped)) => return Ok(tapped),
            }
        }
    }

    /// How many frames were handed over and lost so far.
    pub fn counts(&mut self) -> Result<TapCounts, ObjectError> {
        self.object.counts()
    }
}

/// One record; `None` if it is not of this version, or of an interface that is not tapped.
fn read(bytes: &[u8], interfaces: &BTreeMap<u32, Arc<str>>) -> Option<Tapped> {
    let record = decode(bytes)?;
    Some(Tapped {
        interface: Arc::clone(interfaces.get(&record.interface)?),
        direction: match record.direction {
            INGRESS => Direction::Ingress,
            EGRESS => Direction::Egress,
            _ => return None,
        },
        stamp_ns: record.stamp_ns,
        frame: record.frame.get(..usize::from(record.length))?.to_vec(),
    })
}

fn decode(bytes: &[u8]) -> Option<Record> {
    // SAFETY: the length is right, any bytes are a valid `Record` (`Pod`), and the read assumes no alignment.
    (bytes.len() == size_of::<Record>()).then(|| unsafe { bytes.as_ptr().cast::<Record>().read_unaligned() })
}

/// Attaches one program before all others: a program that ends the chain (`TCX_PASS`) would hide the frame from later
/// ones.
fn tap(object: &mut TapObject, interface: &str, index: u32, direction: Direction) -> Result<Classifier, TapError> {
    let (kernel, word) = match direction {
        Direction::Ingress => (TcAttachType::Ingress, "ingress"),
        Direction::Egress => (TcAttachType::Egress, "egress"),
    };
    let program = object.program(direction)?;
    let (place, abandoned) = (Place::BeforeOthers, Abandoned::Remove);
    let attached = classifier(program, interface, index, kernel, place, abandoned);
    attached.map_err(|source| TapError::Refused {
        interface: interface.to_owned(),
        direction: word,
        source: Box::new(source),
    })
}

/// The loaded programs, attached to nothing.
pub struct TapObject {
    ebpf: Ebpf,
}

impl TapObject {
    /// Creates the maps and loads both programs.
    pub fn load() -> Result<Self, ObjectError> {
        let mut object = Self {
            ebpf: object::parse(OBJECT, &mut EbpfLoader::new())?,
        };
        for direction in [Direction::Ingress, Direction::Egress] {
            let program = object.program(direction)?;
            object::load(program_name(direction), || program.load())?;
        }
        Ok(object)
    }

    /// The program for a direction.
    pub fn program(&mut self, direction: Direction) -> Result<&mut SchedClassifier, ObjectError> {
        object::classifier(&mut self.ebpf, program_name(direction))
    }

    /// Takes the ring buffer out of the object; it can be taken once.
    pub fn take_records(&mut self) -> Result<RingBuf<MapData>, ObjectError> {
        object::take_ring(&mut self.ebpf, "TAP_RECORDS")
    }

    /// Both counters, summed over all CPUs.
    pub fn counts(&mut self) -> Result<TapCounts, ObjectError> {
        const NAME: &str = "TAP_COUNTS";
        let map: PerCpuArray<&mut MapData, u64> = object::map(&mut self.ebpf, NAME)?;
        let sum = |counter| {
            let values = map.get(&counter, 0).map_err(ObjectError::map(NAME))?;
            Ok::<u64, ObjectError>(values.iter().sum())
        };
        Ok(TapCounts {
            handed_over: sum(HANDED_OVER)?,
            lost: sum(LOST)?,
        })
    }
}

fn program_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => TAP_INGRESS,
        Direction::Egress => TAP_EGRESS,
    }
}
