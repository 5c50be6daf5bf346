//! The programs that watch the probes of the method `userspace` at each hook: loaded, told the ports, attached while
//! somebody compares.

use std::io;

use aya::maps::{Array, MapData};
use aya::programs::links::LinkOrder;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nix::net::if_::if_nametoindex;
use probe_common::abi::ABI_VERSION;
use probe_common::compare::WatchSettings;

use crate::backend::ebpf::attach::{Classifier, classifier};
use crate::backend::ebpf::object;
use crate::backend::error::ObjectError;

/// The compiled programs; empty if the crate was built without them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-anatomy-programs"));

/// Name of the program that stamps what leaves.
pub const OUT: &str = "kstamp_watch_out";
/// Name of the program that stamps what arrives.
pub const IN: &str = "kstamp_watch_in";
const SETTINGS: &str = "WATCH";

/// The loaded programs. They are detached when this is dropped.
pub struct Watch {
    ebpf: Ebpf,
    links: Option<[Classifier; 2]>,
}

impl Watch {
    /// Loads the programs and tells them which ports to watch: `near_port` of this host's probes, and `responder_ports` on
    /// which it answers IPv4 and IPv6 probes; 0 for none.
    ///
    /// # Errors
    /// What aya or the kernel said.
    pub fn load(near_port: u16, responder_ports: [u16; 2]) -> Result<Self, ObjectError> {
        let ebpf = object::parse(OBJECT, &mut EbpfLoader::new())?;
        let mut watch = Self { ebpf, links: None };
        for name in [OUT, IN] {
            watch.program(name)?.load().map_err(ObjectError::program(name))?;
        }
        watch.tell(near_port, responder_ports)?;
        Ok(watch)
    }

    /// Tells the programs which ports to watch, as [`Watch::load`] does.
    ///
    /// # Errors
    /// The map's.
    pub fn tell(&mut self, near_port: u16, responder_ports: [u16; 2]) -> Result<(), ObjectError> {
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

    /// A program, [`OUT`] or [`IN`].
    fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, ObjectError> {
        object::classifier(&mut self.ebpf, name)
    }

    /// Watches from now on, if it does not yet: as the last on the way out, and the first on the way in, so that what
    /// other programs cost is outside.
    ///
    /// # Errors
    /// The kernel's.
    pub fn attach(&mut self, interface: &str) -> Result<(), ObjectError> {
        if self.links.is_some() {
            return Ok(());
        }
        let index =
            if_nametoindex(interface).map_err(|error| ObjectError::program(OUT)(io::Error::from(error).into()))?;
        let (egress, ingress) = (TcAttachType::Egress, TcAttachType::Ingress);
        let out = classifier(self.program(OUT)?, interface, index, egress, LinkOrder::last());
        let out = out.map_err(ObjectError::program(OUT))?;
        let into = classifier(self.program(IN)?, interface, index, ingress, LinkOrder::first());
        self.links = Some([out, into.map_err(ObjectError::program(IN))?]);
        Ok(())
    }

    /// Watches no more.
    pub fn detach(&mut self) {
        self.links = None;
    }
}
