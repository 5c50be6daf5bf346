//! Observers: programs at the devices of a host that stamp probes on their way, and change nothing.
//!
//! They are in the network namespace of the host, and the measured interface may be in another one. Which devices probes
//! pass is found out.

pub mod upcalls;

use std::net::IpAddr;
use std::path::PathBuf;

use probe_core::hops::{Hook, HopStamp};

use crate::backend::error::ObjectError;

/// What to observe.
#[derive(Debug, Clone)]
pub struct HopConfig {
    /// File of the host's network namespace. `None`: that of process 1, or that of the calling thread without permission.
    pub host_netns: Option<PathBuf>,
    /// Name of the measured interface, in the network namespace of the calling thread. It needs no observer.
    pub port: String,
    /// Its addresses. Probes to and from other addresses are not recorded.
    pub addresses: Vec<IpAddr>,
    /// The ports on which reflectors listen.
    pub test_ports: Vec<u16>,
}

#[derive(Debug, thiserror::Error)]
pub enum HopError {
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// The observers of this host. Dropping it detaches them.
pub struct Observers {
    hooks: Vec<Hook>,
}

impl Observers {
    /// Loads the programs and attaches them. Call it before privileges are dropped.
    pub fn attach(_config: HopConfig) -> Result<Self, HopError> {
        Err(ObjectError::Stub.into())
    }

    /// Takes the stamps so far.
    pub fn drain(&mut self, _each: impl FnMut(HopStamp)) {}

    /// The devices that have seen probes, by [`HookId`](probe_core::hops::HookId). A device keeps its place while it is gone.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Follows devices and addresses: call it twice a second, for the first time after privileges were dropped. It does not
    /// block.
    pub fn upkeep(&mut self, _now_ns: u64, _addresses: &[IpAddr]) {}

    /// Stamps that were lost so far because nobody drained in time.
    pub fn lost(&self) -> u64 {
        0
    }
}
