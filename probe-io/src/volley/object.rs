//! Loads the object of a volley, and gives access to its programs and maps.

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{SchedClassifier, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use probe_common::volley::{Settings, Template};

use crate::backend::ebpf::object;
use crate::backend::error::ObjectError;
pub use crate::volley::shared::{Counted, Delay, Shared};

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-volley-programs"));

/// Takes replies and sends probes.
pub const XDP: &str = "kstamp_volley_xdp";
/// Takes replies at TC ingress.
pub const INGRESS: &str = "kstamp_volley_ingress";
/// Stamps the probes of a socket at TC egress.
pub const EGRESS: &str = "kstamp_volley_egress";

/// The loaded programs, attached to nothing, and their maps.
pub struct VolleyObject {
    ebpf: Ebpf,
    settings: Array<MapData, Settings>,
    template: Array<MapData, Template>,
}

impl VolleyObject {
    /// Creates the maps with `slots` slots, which must be a power of two, and loads all programs.
    pub fn load(slots: u32) -> Result<Self, ObjectError> {
        let processors = processors()?;
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("RING", slots)
            .map_max_entries("TALLIES", processors);
        let mut ebpf = object::parse(OBJECT, &mut loader)?;
        let program = object::xdp(&mut ebpf, XDP)?;
        object::load(XDP, || program.load())?;
        for name in [INGRESS, EGRESS] {
            let program = object::classifier(&mut ebpf, name)?;
            object::load(name, || program.load())?;
        }
        Ok(Self {
            settings: array(&mut ebpf, "SETTINGS")?,
            template: array(&mut ebpf, "TEMPLATE")?,
            ebpf,
        })
    }

    pub fn xdp(&mut self) -> Result<&mut Xdp, ObjectError> {
        object::xdp(&mut self.ebpf, XDP)
    }

    /// [`INGRESS`] or [`EGRESS`].
    pub fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, ObjectError> {
        object::classifier(&mut self.ebpf, name)
    }

    /// Before this call the programs touch no packet.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<(), ObjectError> {
        self.settings.set(0, settings, 0).map_err(ObjectError::map("SETTINGS"))
    }

    pub fn template(&self) -> Result<Template, ObjectError> {
        self.template.get(&0, 0).map_err(ObjectError::map("TEMPLATE"))
    }

    pub fn set_template(&mut self, template: &Template) -> Result<(), ObjectError> {
        self.template.set(0, template, 0).map_err(ObjectError::map("TEMPLATE"))
    }

    /// Takes the ring buffer of samples out of the object; it can be taken once.
    pub(crate) fn take_samples(&mut self) -> Result<RingBuf<MapData>, ObjectError> {
        object::take_ring(&mut self.ebpf, "SAMPLES")
    }

    /// Takes the maps that are shared memory; they can be taken once.
    pub fn take_shared(&mut self, slots: u32) -> Result<Shared, ObjectError> {
        Shared::take(&mut self.ebpf, slots, processors()? as usize)
    }

    pub(crate) fn programs(&self) -> &Ebpf {
        &self.ebpf
    }

    /// The programs, for the thread that runs them.
    pub(crate) fn into_programs(self) -> Ebpf {
        self.ebpf
    }
}

fn array<T: aya::Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, T>, ObjectError> {
    let map = ebpf.take_map(name).ok_or(ObjectError::Missing(name))?;
    Array::try_from(map).map_err(ObjectError::map(name))
}

fn processors() -> Result<u32, ObjectError> {
    let number = nr_cpus().map_err(|(_, source)| ObjectError::Processors(source))?;
    Ok(number as u32)
}
