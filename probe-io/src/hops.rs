//! Observers: programs at the devices of a host that stamp probes on their way, and change nothing.
//!
//! They are in the network namespace of the host, and the measured interface may be in another one. Which devices probes
//! pass is found out.

mod addresses;
mod devices;
mod error;
mod hooks;
mod object;
mod watcher;

pub mod upcalls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use log::warn;
use probe_core::hops::{Hook, HopStamp, MAX_HOOKS};
use probe_host::clock::monotonic_ns;
use probe_host::link::links;
use probe_host::netns::{self, OF_PROCESS_1};

use crate::hops::devices::candidates;
pub use crate::hops::error::HopError;
use crate::hops::hooks::HookTable;
use crate::hops::object::HopMaps;
pub use crate::hops::object::SOFTIRQ;
use crate::hops::watcher::{Order, Watcher};

/// Devices are followed at most this often.
const MIN_UPKEEP_NS: u64 = 400_000_000;

/// Stamps taken at once, so that a flood of packets does not hold up the caller: as many as fit the ring buffer, and more.
const MAX_AT_ONCE: usize = 8_192;

/// What to observe.
#[derive(Debug, Clone)]
pub struct HopConfig {
    /// File of the host's network namespace. `None`: that of process 1, or the caller's if that may not be entered.
    pub host_netns: Option<PathBuf>,
    /// Name of the measured interface, in the network namespace of the caller. It needs no observer.
    pub port: String,
    /// Its addresses. Probes between other addresses are not recorded.
    pub addresses: Vec<IpAddr>,
    /// The ports on which reflectors listen, at most [`MAX_PORTS`](probe_common::hops::MAX_PORTS).
    pub test_ports: Vec<u16>,
}

/// Which devices of the host `--hops` observes by default, in words; the error says why it needs `--host-netns`.
pub fn examine() -> Result<String, HopError> {
    object::load(object::settings(&[]))?;
    let (sender, receiver) = channel();
    let thread = netns::spawn("kstamp-hops", Some(Path::new(OF_PROCESS_1)), move || {
        let _ = sender.send(links());
    })?;
    let links = receiver
        .recv()
        .map_err(|_| HopError::Ended)?
        .map_err(HopError::Devices)?;
    let _ = thread.join();
    let names: Vec<String> = candidates(&links, None).into_iter().map(|device| device.name).collect();
    Ok(match names.as_slice() {
        [] => "--hops has no device of this host to observe yet".to_owned(),
        [name] => format!("--hops may observe 1 device of this host: {name}"),
        names => {
            let first = &names[..names.len().min(MAX_HOOKS)];
            format!(
                "--hops may observe {} devices of this host: {}",
                names.len(),
                first.join(", ")
            )
        }
    })
}

/// The observers of this host. Dropping it detaches them. With links (TCX, from Linux 6.6 on) the kernel detaches them even
/// if the process is killed.
pub struct Observers {
    /// Dropped first, so that nothing is recorded any more.
    watcher: Watcher,
    maps: HopMaps,
    hooks: HookTable,
    /// When devices have seen the last probe, by index, since the last order.
    seen: BTreeMap<u32, u64>,
    /// A round has been asked for, and has not ended.
    is_waiting: bool,
    asked_ns: u64,
    lost: u64,
    /// Why the last round failed.
    refusal: Option<String>,
    /// What was last reported, so that it is reported once.
    trouble: Option<String>,
}

impl Observers {
    /// Loads the programs and attaches them. Call it before privileges are dropped. Blocks for some tens of milliseconds.
    pub fn attach(config: HopConfig) -> Result<Self, HopError> {
        let settings = object::settings(&config.test_ports);
        let start = |netns| Watcher::start(netns, &config.port, settings);
        let started = match &config.host_netns {
            Some(path) => start(Some(path)),
            None => start(Some(Path::new(OF_PROCESS_1))).or_else(|error| match error {
                HopError::Netns(error) => {
                    warn!(
                        "--hops: {error}; observing the devices in the network namespace of {} instead (--host-netns \
                         names another)",
                        config.port
                    );
                    start(None)
                }
                error => Err(error),
            }),
        };
        let (watcher, maps, devices) = started?;
        let now_ns = monotonic_ns();
        let mut observers = Self {
            watcher,
            maps,
            hooks: HookTable::default(),
            seen: BTreeMap::new(),
            is_waiting: false,
            asked_ns: now_ns,
            lost: 0,
            refusal: None,
            trouble: None,
        };
        observers.hooks.follow(devices, now_ns);
        observers.maps.set_addresses(&config.addresses)?;
        Ok(observers)
    }

    /// Takes the stamps so far, about in their order.
    pub fn drain(&mut self, mut each: impl FnMut(HopStamp)) {
        // Before the first stamps of a new device.
        self.take_outcome();
        for _ in 0..MAX_AT_ONCE {
            let Some((record, softirq_ns)) = self.maps.next() else {
                return;
            };
            if let Some(stamp) = self.hooks.stamp(&record) {
                self.seen.insert(record.interface, stamp.mono_ns);
                each(HopStamp { softirq_ns, ..stamp });
            }
        }
    }

    /// The devices that have seen probes, by [`HookId`](probe_core::hops::HookId). A device keeps its place while it is gone.
    pub fn hooks(&self) -> &[Hook] {
        self.hooks.hooks()
    }

    /// Follows devices and addresses: call it about twice a second, for the first time after privileges were dropped. It
    /// does not block: another thread attaches. `now_ns` is on `CLOCK_MONOTONIC`. A failure is logged once.
    pub fn upkeep(&mut self, now_ns: u64, addresses: &[IpAddr]) {
        let configured = self.maps.set_addresses(addresses).err().map(|error| error.to_string());
        self.follow(now_ns);
        self.lost = self.lost();
        let trouble = configured.or_else(|| self.refusal.clone());
        if let Some(trouble) = trouble.as_ref().filter(|new| self.trouble.as_ref() != Some(new)) {
            warn!("--hops: {trouble}; trying again");
        }
        self.trouble = trouble;
    }

    fn follow(&mut self, now_ns: u64) {
        self.take_outcome();
        if !self.is_waiting && now_ns >= self.asked_ns + MIN_UPKEEP_NS {
            self.is_waiting = true;
            self.asked_ns = now_ns;
            let seen = std::mem::take(&mut self.seen);
            self.watcher.ask(Order { now_ns, seen });
        }
    }

    /// Takes the outcome of a round, if it has ended.
    fn take_outcome(&mut self) {
        let Some(outcome) = self.watcher.take() else { return };
        self.is_waiting = false;
        match outcome {
            Ok(devices) => {
                self.hooks.follow(devices, self.asked_ns);
                self.refusal = None;
            }
            Err(error) => self.refusal = Some(error.to_string()),
        }
    }

    /// Stamps so far for which the ring buffer had no room, because they were not drained in time.
    pub fn lost(&self) -> u64 {
        self.maps.lost().unwrap_or(self.lost)
    }
}
