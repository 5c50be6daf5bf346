//! What becomes of an interface while it is measured: followed, left, taken up again.

use log::warn;
use probe_host::link::Link;

use crate::backend::ebpf::plan::ReceiveMode;
use crate::backend::ebpf::port::live::Live;
use crate::backend::ebpf::port::survey::Survey;
use crate::backend::ebpf::port::{Port, PortError, PortEvent, clock_state, live};
use crate::udp::sockets::SocketPair;

impl Port {
    /// Looks after the interface: call it twice a second. Says what has changed; what fails is said once and tried
    /// again at the next call.
    pub async fn poll(&mut self) -> Vec<PortEvent> {
        self.clock = clock_state();
        let mut events = Vec::new();
        let outcome = self.look_after(&mut events).await;
        let trouble = outcome.err().map(|error| error.to_string());
        if let Some(trouble) = trouble
            .as_ref()
            .filter(|trouble| self.trouble.as_ref() != Some(trouble))
        {
            warn!("{trouble}; trying again");
        }
        self.trouble = trouble;
        events
    }

    async fn look_after(&mut self, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let link = self.netlink.link_by_name(&self.config.interface).await?;
        let known = self.live.as_ref().map(|live| live.link.index);
        if known.is_some() && link.as_ref().map(|link| link.index) != known {
            // The kernel detaches programs from a device that goes; the sockets are bound to an index that is no more.
            self.live = None;
            events.push(PortEvent::Deleted);
        }
        match link {
            Some(link) if self.live.is_some() => self.follow(link, events).await,
            Some(link) if link.up => self.take_up(events).await,
            _ => Ok(()),
        }
    }

    /// The interface is still the same one: follow its state and addresses, and see that replies leave it.
    async fn follow(&mut self, link: Link, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let addresses = self.netlink.addresses(link.index).await?;
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        if self.running != link.running {
            self.running = link.running;
            events.push(if link.running { PortEvent::Up } else { PortEvent::Down });
        }
        live.link = link;
        live.addresses = addresses;
        live::open_missing(&mut live.sockets, &self.config, &live.link, &live.addresses)?;
        self.programs.tell(&live.facts(&self.config, self.clock))?;
        self.leave_a_mode_that_swallows(events)
    }

    fn leave_a_mode_that_swallows(&mut self, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let reflected = self.programs.reflected()?;
        let interface = &self.config.interface;
        let swallows = |live: &mut Live| {
            live.receive.mode == ReceiveMode::XdpNative && live.watch.swallows(reflected, live.link.tx_dropped)
        };
        let Some(live) = self.live.take_if(swallows) else {
            return Ok(());
        };
        let reason = format!("{interface} dropped the replies that native XDP transmitted");
        if live.plan.modes.len() < 2 {
            warn!("{reason}: its other end has no XDP program? --attach auto finds a mode that works");
            self.live = Some(live);
            return Ok(());
        }
        // Should no mode be left that works, the interface is taken up anew at the next call.
        let live = live.in_next_mode(reason.clone(), &mut self.programs, &self.config)?;
        self.programs.tell(&live.facts(&self.config, self.clock))?;
        self.mode = live.receive.mode;
        self.live = Some(live);
        events.push(PortEvent::Reattached {
            mode: self.mode,
            reason,
        });
        Ok(())
    }

    /// The interface is there again.
    async fn take_up(&mut self, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let survey = Survey::of(&self.netlink, &self.config.interface, self.config.choice).await?;
        let mut sockets = SocketPair::default();
        live::open_missing(&mut sockets, &self.config, &survey.link, &survey.addresses)?;
        let live = Live::start(survey, sockets, &mut self.programs, &self.config, self.clock)?;
        events.push(PortEvent::Back);
        if live.receive.mode != self.mode {
            self.mode = live.receive.mode;
            events.push(PortEvent::Reattached {
                mode: self.mode,
                reason: live.reason.clone(),
            });
        }
        self.running = true;
        self.live = Some(live);
        Ok(())
    }
}
