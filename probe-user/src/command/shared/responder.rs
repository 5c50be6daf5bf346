//! The far end of `kstamp compare`: threads that answer in userspace, and programs that stamp their packets on request.

use log::{debug, warn};
use probe_common::family::Family;
use probe_core::identity::ResponderPorts;
use probe_io::backend::error::ObjectError;
use probe_io::compare::priority::Priority;
use probe_io::compare::responder::Responder;
use probe_io::compare::watch::Watch;
use probe_io::port::{Port, PortEvent};

/// The programs are detached after this many polls, half a second apart, without a request.
const IDLE_POLLS: u32 = 20;

/// The responder of one interface, if there is one.
pub struct ResponderService {
    interface: String,
    priority: Option<Priority>,
    responder: Option<Responder>,
    watch: Option<Watch>,
    watched: u64,
    idle_polls: u32,
}

impl ResponderService {
    /// Loads what takes privileges; answers nothing yet, and never without a `priority`.
    pub fn load(interface: &str, priority: Option<Priority>) -> Self {
        let watch = priority.and_then(|_| {
            let watch = Watch::load(0, [0; 2]);
            watch.inspect_err(not_watched).ok()
        });
        Self {
            interface: interface.to_owned(),
            priority,
            responder: None,
            watch,
            watched: 0,
            idle_polls: 0,
        }
    }

    /// Whether its threads need a real-time priority, which takes a privilege.
    pub fn is_realtime(&self) -> bool {
        self.priority == Some(Priority::Realtime)
    }

    /// Starts to answer. Failures are logged; the run goes on without a responder.
    pub fn start(&mut self, port: &Port) {
        let Some(priority) = self.priority else { return };
        (self.responder, self.watched) = (None, 0);
        let families: Vec<_> = [Family::V4, Family::V6]
            .into_iter()
            .filter(|&family| port.sockets(family).is_some())
            .collect();
        match Responder::start(&self.interface, &families, port.policy(), priority) {
            Ok(responder) => self.responder = Some(responder),
            Err(error) => warn!("no responder for kstamp compare: {error}"),
        }
        let ports = [Family::V4, Family::V6].map(|family| self.ports(family).map_or(0, |ports| ports.userspace));
        if let Some(watch) = &mut self.watch {
            watch.detach();
            if let Err(error) = watch.set_ports(0, ports) {
                not_watched(&error);
            }
        }
    }

    /// Its ports of one IP version.
    pub fn ports(&self, family: Family) -> Option<ResponderPorts> {
        self.responder.as_ref()?.ports(family)
    }

    /// Follows the interface, and attaches the programs while they are requested. Call it twice a second.
    pub fn poll(&mut self, port: &Port, events: &[PortEvent]) {
        if events.contains(&PortEvent::Back) {
            self.start(port);
        }
        let Some(responder) = &mut self.responder else { return };
        responder.follow(port.policy());
        let Some(watch) = &mut self.watch else { return };
        let watched = responder.watched();
        if watched == self.watched {
            self.idle_polls += 1;
            if self.idle_polls == IDLE_POLLS {
                watch.detach();
            }
            return;
        }
        (self.watched, self.idle_polls) = (watched, 0);
        if let Err(error) = watch.attach(&self.interface) {
            not_watched(&error);
        }
    }
}

fn not_watched(error: &ObjectError) {
    debug!("the packets of the responder are not stamped on their way: {error}");
}
