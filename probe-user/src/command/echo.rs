//! What an agent does for `kstamp compare` at the other end: echo threads, and the programs that watch their packets
//! while packets ask for it.

use log::{debug, warn};
use probe_core::identity::ResponderPorts;
use probe_io::backend::ebpf::PortEvent;
use probe_io::backend::ebpf::object::ObjectError;
use probe_io::compare::echo::Echo;
use probe_io::compare::priority::Priority;
use probe_io::compare::watch::Watch;
use probe_io::port::Engine;

/// Looks, half a second apart, without a packet that asks, after which watching ends.
const IDLE_LOOKS: u32 = 20;

/// The echo of one interface, if there is one.
pub struct EchoService {
    interface: String,
    priority: Option<Priority>,
    echo: Option<Echo>,
    watch: Option<Watch>,
    watched: u64,
    idle_looks: u32,
}

impl EchoService {
    /// Loads what takes privileges; answers nobody yet. With no `priority` it never will.
    pub fn load(interface: &str, priority: Option<Priority>) -> Self {
        let watch = priority.and_then(|_| {
            let watch = Watch::load(0, [0; 2]);
            watch.inspect_err(not_watched).ok()
        });
        Self {
            interface: interface.to_owned(),
            priority,
            echo: None,
            watch,
            watched: 0,
            idle_looks: 0,
        }
    }

    /// Whether its threads are to have a real-time priority, which takes a privilege.
    pub fn is_realtime(&self) -> bool {
        self.priority == Some(Priority::Realtime)
    }

    /// Answers from now on. What fails is said, and is no reason not to go on.
    pub fn start(&mut self, engine: &Engine) {
        let Some(priority) = self.priority else { return };
        (self.echo, self.watched) = (None, 0);
        let families: Vec<bool> = [false, true]
            .into_iter()
            .filter(|&v6| engine.sockets(v6).is_some())
            .collect();
        match Echo::start(&self.interface, &families, engine.policy(), priority) {
            Ok(echo) => self.echo = Some(echo),
            Err(error) => warn!("the probes of kstamp compare are not answered by processes: {error}"),
        }
        let ports = [false, true].map(|v6| self.ports(v6).map_or(0, |ports| ports.userspace));
        if let Some(watch) = &mut self.watch {
            watch.detach();
            if let Err(error) = watch.tell(0, ports) {
                not_watched(&error);
            }
        }
    }

    /// On which ports it answers probes of one IP version.
    pub fn ports(&self, v6: bool) -> Option<ResponderPorts> {
        self.echo.as_ref()?.ports(v6)
    }

    /// Follows the interface, of which `events` tell, and watches while it is asked for. Call it twice a second.
    pub fn look_after(&mut self, engine: &Engine, events: &[PortEvent]) {
        if events.contains(&PortEvent::Back) {
            self.start(engine);
        }
        let Some(echo) = &mut self.echo else { return };
        echo.follow(engine.policy());
        let Some(watch) = &mut self.watch else { return };
        let watched = echo.watched();
        if watched == self.watched {
            self.idle_looks += 1;
            if self.idle_looks == IDLE_LOOKS {
                watch.detach();
            }
            return;
        }
        (self.watched, self.idle_looks) = (watched, 0);
        if let Err(error) = watch.attach(&self.interface) {
            not_watched(&error);
        }
    }
}

fn not_watched(error: &ObjectError) {
    debug!("the probes of kstamp compare are not watched: {error}");
}
