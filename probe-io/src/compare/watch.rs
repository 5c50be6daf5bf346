//! The programs that stamp the probes of the method `userspace` at each hook, attached while a `kstamp compare` runs.

use std::io;

use aya::maps::{Array, MapData};
use aya::programs::TcAttachType;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nix::net::if_::if_nametoindex;
use probe_common::abi::ABI_VERSION;
use probe_common::compare::WatchSettings;

use crate::backend::ebpf::attach::{Classifier, Place, classifier};
use crate::backend::ebpf::clsact::Abandoned;
use crate::backend::ebpf::object;
use crate::backend::error::ObjectError;

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-anatomy-programs"));

/// Name of the program that stamps at egress.
pub const OUT: &str = "kstamp_watch_out";
/// Name of the program that stamps at ingress.
pub const IN: &str = "kstamp_watch_in";
const SETTINGS: &str = "WATCH";

/// The loaded programs. They are detached when this is dropped.
pub struct Watch {
    ebpf: Ebpf,
    links: Option<[Classifier; 2]>,
}

impl Watch {
    /// Loads the programs and sets the ports that they watch: `near_port` of this host's probes, and `responder_ports` on
    /// which it answers IPv4 and IPv6 probes; 0 for none.
    pub fn load(near_port: u16, responder_ports: [u16; 2]) -> Result<Self, ObjectError> {
        let ebpf = object::parse(OBJECT, &mut EbpfLoader::new())?;
        let mut watch = Self { ebpf, links: None };
        for name in [OUT, IN] {
            let program = object::classifier(&mut watch.ebpf, name)?;
            object::load(name, || program.load())?;
        }
        watch.set_ports(near_port, responder_ports)?;
        Ok(watch)
    }

    /// Sets other ports, as [`Watch::load`] does.
    pub fn set_ports(&mut self, near_port: u16, responder_ports: [u16; 2]) -> Result<(), ObjectError> {
        let [responder_port_v4, responder_port_v6] = responder_ports;
        let settings = WatchSettings {
            abi_version: ABI_VERSION,
            near_port,
            responder_port_v4,
            responder_port_v6,
            reserved: 0,
        };
        let mut map: Array<&mut MapData, WatchSettings> = object::map(&mut self.ebpf, SETTINGS)?;
        map.set(0, settings, 0).map_err(ObjectError::map(SETTINGS))
    }

    /// The whole object, for benches.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Attaches the programs if they are detached: last at egress and first at ingress, so that the stamps exclude the cost
    /// of other programs.
    pub fn attach(&mut self, interface: &str) -> Result<(), ObjectError> {
        if self.links.is_some() {
            return Ok(());
        }
        let index =
            if_nametoindex(interface).map_err(|error| ObjectError::program(OUT)(io::Error::from(error).into()))?;
        let mut link = |name, direction, place| {
            let program = object::classifier(&mut self.ebpf, name)?;
            let attached = classifier(program, interface, index, direction, place, Abandoned::Remove);
            attached.map_err(ObjectError::program(name))
        };
        let out = link(OUT, TcAttachType::Egress, Place::AfterOthers)?;
        let into = link(IN, TcAttachType::Ingress, Place::BeforeOthers)?;
        self.links = Some([out, into]);
        Ok(())
    }

    pub fn detach(&mut self) {
        self.links = None;
    }
}
