//! The thread that attaches observers, in the network namespace of the host.
//!
//! It works only when it is asked to, and gives up the privileges that it does not need when it is asked for the first time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use aya::programs::{ProgramError, TcAttachType};
use log::{debug, warn};
use nix::net::if_::if_nametoindex;
use probe_common::hops::HopSettings;
use probe_core::hops::MAX_HOOKS;
use probe_host::clock::monotonic_ns;
use probe_host::link::{Notices, links};
use probe_host::netns;
use probe_host::privileges::{Capability, hold_capabilities, keep_of_thread};

use crate::backend::ebpf::attach::{Classifier, Place, classifier};
use crate::backend::ebpf::clsact::{self, Abandoned};
use crate::backend::ebpf::hooks::has_tcx;
use crate::backend::ebpf::object::{HOPS_EGRESS, HOPS_INGRESS};
use crate::backend::error::root_cause;
use crate::hops::devices::{Census, Device, candidates};
use crate::hops::error::HopError;
use crate::hops::object::{self, HopMaps, HopPrograms};

/// Others detach programs without a notice, so these are looked for now and then.
const CHECK_NS: u64 = 10_000_000_000;

/// Devices whose refusal is reported.
const MAX_REFUSALS: usize = 64;

/// Asks for one round.
pub(super) struct Order {
    pub(super) now_ns: u64,
    /// When devices have seen the last probe, by index.
    pub(super) seen: BTreeMap<u32, u64>,
}

/// The devices that are observed after a round.
type Outcome = Result<Vec<Device>, HopError>;

/// The thread. Dropping it detaches all observers.
pub(super) struct Watcher {
    /// `None` at the end.
    orders: Option<Sender<Order>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins in the network namespace whose file is `netns`, or in the caller's, from which `port` is left out if it is
    /// there. Returns when the first devices are observed.
    pub(super) fn start(
        netns: Option<&Path>,
        port: &str,
        settings: HopSettings,
    ) -> Result<(Self, HopMaps, Vec<Device>), HopError> {
        let (port, home) = (port.to_owned(), netns::current().map_err(HopError::Devices)?);
        let (begun_sender, begun) = channel();
        let (order_sender, orders) = channel::<Order>();
        let (outcome_sender, outcomes) = channel();
        let thread = netns::spawn("kstamp-hops", netns, move || {
            let outcome = Rounds::begin(port, home, settings);
            let (mut rounds, outcome) = match outcome {
                Ok((rounds, maps, devices)) => (Some(rounds), Ok((maps, devices))),
                Err(error) => (None, Err(error)),
            };
            let _ = begun_sender.send(outcome);
            if let Some(rounds) = &mut rounds {
                for order in orders {
                    let _ = outcome_sender.send(rounds.follow_order(&order));
                }
            }
        })?;
        let watcher = Self {
            orders: Some(order_sender),
            outcomes,
            thread: Some(thread),
        };
        let (maps, devices) = begun.recv().unwrap_or(Err(HopError::Ended))?;
        Ok((watcher, maps, devices))
    }

    /// Asks for a round, and does not wait for its outcome.
    pub(super) fn ask(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // Its end is noticed where outcomes are taken.
            let _ = orders.send(order);
        }
    }

    /// The outcome of a round, if it is there.
    pub(super) fn take(&self) -> Option<Outcome> {
        match self.outcomes.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(HopError::Ended)),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Both programs on one device. The egress program was attached first: below Linux 6.6 it owns the qdisc, and is dropped
/// last.
struct Observer {
    ingress: Classifier,
    egress: Classifier,
}

impl Observer {
    fn is_attached(&self, index: u32) -> bool {
        self.ingress.is_attached(index) && self.egress.is_attached(index)
    }
}

struct Rounds {
    programs: HopPrograms,
    /// The measured interface, if it is in this namespace.
    port: Option<String>,
    notices: Notices,
    census: Census,
    observers: BTreeMap<u32, Observer>,
    checked_ns: u64,
    is_reduced: bool,
    /// Names of the devices that could not be observed.
    refusals: BTreeSet<String>,
    has_warned_of_number: bool,
}

impl Rounds {
    /// Loads the programs, and attaches them to the first devices.
    fn begin(port: String, home: (u64, u64), settings: HopSettings) -> Result<(Self, HopMaps, Vec<Device>), HopError> {
        hold_capabilities()?;
        let is_home = netns::current().map_err(HopError::Devices)? == home;
        let (mut programs, maps) = object::load(settings)?;
        if let Err(error) = programs.watch_softirqs() {
            warn!(
                "--hops: outliers cannot have the cause cpu, because softirqs are not seen: {}",
                root_cause(&error)
            );
        }
        let mut rounds = Self {
            programs,
            port: Some(port).filter(|_| is_home),
            notices: Notices::open().map_err(HopError::Devices)?,
            census: Census::default(),
            observers: BTreeMap::new(),
            checked_ns: 0,
            is_reduced: false,
            refusals: BTreeSet::new(),
            has_warned_of_number: false,
        };
        rounds.look()?;
        let devices = rounds.attach(monotonic_ns())?;
        rounds.clean();
        Ok((rounds, maps, devices))
    }

    /// Removes what a killed agent has left at devices that are not observed yet.
    fn clean(&self) {
        if !has_tcx() {
            for device in self.census.waiting() {
                clsact::clean(&device.name, device.index.cast_signed());
            }
        }
    }

    fn follow_order(&mut self, order: &Order) -> Outcome {
        if !self.is_reduced {
            keep_of_thread(&[Capability::CAP_NET_ADMIN])?;
            self.is_reduced = true;
        }
        for (&index, &seen_ns) in &order.seen {
            self.census.note_seen(index, seen_ns);
        }
        let has_changed = self.notices.take_changed();
        if has_changed {
            self.look()?;
        }
        if has_changed || order.now_ns >= self.checked_ns + CHECK_NS {
            self.checked_ns = order.now_ns;
            self.forget_detached();
        }
        self.attach(order.now_ns)
    }

    /// Lists the devices.
    fn look(&mut self) -> Result<(), HopError> {
        let links = links().map_err(HopError::Devices)?;
        self.census.follow(candidates(&links, self.port.as_deref()));
        let number = self.census.number();
        if number > MAX_HOOKS && !std::mem::replace(&mut self.has_warned_of_number, true) {
            warn!(
                "--hops: probes may pass {number} devices, and {MAX_HOOKS} are observed at a time: tunnel devices and NICs \
                 first, and those that see probes stay"
            );
        }
        Ok(())
    }

    fn forget_detached(&mut self) {
        let census = &mut self.census;
        self.observers.retain(|&index, observer| {
            let is_attached = observer.is_attached(index);
            if !is_attached {
                census.note_detached(index);
            }
            is_attached
        });
    }

    fn attach(&mut self, now_ns: u64) -> Outcome {
        let plan = self.census.plan(now_ns);
        for index in plan.detach {
            self.observers.remove(&index);
        }
        let abandoned = match self.is_reduced {
            true => Abandoned::Leave,
            false => Abandoned::Remove,
        };
        for device in plan.attach {
            match observe(&mut self.programs, &device, abandoned) {
                Ok(observer) => {
                    debug!("--hops: observing {}", device.name);
                    self.observers.insert(device.index, observer);
                }
                Err(error) => {
                    self.census.note_refused(device.index);
                    self.report(&device, &error);
                }
            }
        }
        Ok(self.census.observed())
    }

    fn report(&mut self, device: &Device, error: &ProgramError) {
        let name = &device.name;
        let is_there = if_nametoindex(name.as_str()) == Ok(device.index);
        if is_there && self.refusals.len() < MAX_REFUSALS && self.refusals.insert(name.clone()) {
            warn!(
                "--hops: cannot observe {name}, so its stamps are missing: {}",
                root_cause(error)
            );
        }
    }
}

/// Attaches before all others, which may end the chain or redirect packets.
fn observe(programs: &mut HopPrograms, device: &Device, abandoned: Abandoned) -> Result<Observer, ProgramError> {
    let mut attach = |name, hook| {
        let program = programs.get(name).map_err(|_| ProgramError::NotLoaded)?;
        let place = Place::BeforeOthers;
        classifier(program, &device.name, device.index, hook, place, abandoned)
    };
    let egress = attach(HOPS_EGRESS, TcAttachType::Egress)?;
    let ingress = attach(HOPS_INGRESS, TcAttachType::Ingress)?;
    Ok(Observer { ingress, egress })
}
