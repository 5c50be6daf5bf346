//! What an agent does for `kstamp compare` at the other end: echo threads, and the programs that watch their packets
//! while packets ask for it.

use log::{debug, warn};

use crate::engine::compare::echo::Echo;
use crate::engine::compare::priority::Priority;
use crate::engine::compare::watch::Watch;
use crate::engine::ebpf::{Port, PortEvent};
use crate::identity::EchoPorts;

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
    /// Starts it, unless `priority` is `None`. What fails is said, and is no reason not to go on.
    pub fn start(interface: &str, priority: Option<Priority>, port: &Port) -> Self {
        let mut service = Self {
            interface: interface.to_owned(),
            priority,
            echo: None,
            watch: None,
            watched: 0,
            idle_looks: 0,
        };
        service.restart(port);
        service
    }

    fn restart(&mut self, port: &Port) {
        let Some(priority) = self.priority else { return };
        (self.echo, self.watch, self.watched) = (None, None, 0);
        let families: Vec<bool> = [false, true]
            .into_iter()
            .filter(|&v6| port.sockets(v6).is_some())
            .collect();
        match Echo::start(&self.interface, &families, port.prefixes(), priority) {
            Ok(echo) => self.echo = Some(echo),
            Err(error) => warn!("the probes of kstamp compare are not answered by processes: {error}"),
        }
        let userspace = |v6| self.ports(v6).map_or(0, |ports| ports.userspace);
        match Watch::load(0, [userspace(false), userspace(true)]) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => debug!("the probes of kstamp compare are not watched: {error}"),
        }
    }

    /// On which ports it answers probes of one IP version.
    pub fn ports(&self, v6: bool) -> Option<EchoPorts> {
        self.echo.as_ref()?.ports(v6)
    }

    /// Follows the interface, of which `events` tell, and watches while it is asked for. Call it twice a second.
    pub fn look_after(&mut self, port: &Port, events: &[PortEvent]) {
        if events.contains(&PortEvent::Back) {
            self.restart(port);
        }
        let Some(echo) = &mut self.echo else { return };
        echo.follow(port.prefixes());
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
            debug!("the probes of kstamp compare are not watched: {error}");
        }
    }
}
