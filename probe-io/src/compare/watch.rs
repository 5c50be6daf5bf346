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

use crate::backend::ebpf::attach;
use crate::backend::ebpf::object::ObjectError;

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
    links: Option<[attach::Classifier; 2]>,
}

impl Watch {
    /// Loads the programs and tells them which ports to watch: `near_port` of this host's probes, and `echo_ports` on
    /// which it answers IPv4 and IPv6 probes; 0 for none.
    ///
    /// # Errors
    /// What aya or the kernel said.
    pub fn load(near_port: u16, echo_ports: [u16; 2]) -> Result<Self, ObjectError> {
        if OBJECT.is_empty() {
            return Err(ObjectError::Stub);
        }
        let ebpf = EbpfLoader::new().load(OBJECT).map_err(Box::new)?;
        let mut watch = Self { ebpf, links: None };
        for name in [OUT, IN] {
            watch.program(name)?.load().map_err(failed(name))?;
        }
        watch.tell(near_port, echo_ports)?;
        Ok(watch)
    }

    /// Tells the programs which ports to watch, as [`Watch::load`] does.
    ///
    /// # Errors
    /// The map's.
    pub fn tell(&mut self, near_port: u16, echo_ports: [u16; 2]) -> Result<(), ObjectError> {
        let [responder_port_v4, responder_port_v6] = echo_ports;
        let settings = WatchSettings {
            abi_version: ABI_VERSION,
            near_port,
            responder_port_v4,
            responder_port_v6,
            reserved: 0,
        };
        let map = self.ebpf.map_mut(SETTINGS).ok_or(ObjectError::Missing(SETTINGS))?;
        let told = Array::<&mut MapData, WatchSettings>::try_from(map).and_then(|mut map| map.set(0, settings, 0));
        told.map_err(|source| ObjectError::Map { name: SETTINGS, source })
    }

    /// The whole object, for benches.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// A program, [`OUT`] or [`IN`].
    fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, ObjectError> {
        let program = self.ebpf.program_mut(name).ok_or(ObjectError::Missing(name))?;
        program.try_into().map_err(|_| ObjectError::Missing(name))
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
        let index = if_nametoindex(interface).map_err(|error| failed(OUT)(io::Error::from(error).into()))?;
        let (egress, ingress) = (TcAttachType::Egress, TcAttachType::Ingress);
        let out = attach::classifier(self.program(OUT)?, interface, index, egress, LinkOrder::last());
        let out = out.map_err(failed(OUT))?;
        let into = attach::classifier(self.program(IN)?, interface, index, ingress, LinkOrder::first());
        self.links = Some([out, into.map_err(failed(IN))?]);
        Ok(())
    }

    /// Watches no more.
    pub fn detach(&mut self) {
        self.links = None;
    }
}

fn failed(name: &'static str) -> impl FnOnce(ProgramError) -> ObjectError {
    move |source| ObjectError::Program {
        name,
        source: Box::new(source),
    }
}
