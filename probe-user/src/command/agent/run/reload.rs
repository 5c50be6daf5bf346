//! Applies another configuration to the running agent.

use std::mem;
use std::time::Duration;

use anyhow::Result;
use log::warn;
use probe_host::clock::monotonic_ns;
use probe_io::port::Engine;

use crate::command::agent::config::AgentConfig;
use crate::command::agent::legacy::LegacyPeers;
use crate::command::agent::run::Run;
use crate::command::shared::host::check_peers;
use crate::command::shared::reload::{ANSWERING, RESULTS, Reload};
use crate::command::shared::shutdown::Shutdown;
use crate::command::shared::update::Update;

/// Keys of probing.
const PROBING: [&str; 5] = ["interval", "peer", "peer-expiry", "report", "timeout"];
/// Keys on which the number of probes in flight depends.
const IN_FLIGHT: [&str; 2] = ["interval", "timeout"];
/// Key of the outliers.
const OUTLIERS: [&str; 1] = ["outlier"];
/// Key of the samples.
const SAMPLES: [&str; 1] = ["samples"];

impl Run {
    /// Reads the configuration again, and applies what can change while the agent runs. A wrong one changes nothing.
    /// Fails if the run cannot go on.
    pub(super) async fn reload(&mut self, shutdown: &mut Shutdown) -> Result<()> {
        match self.read_again().await {
            Ok(reload) => self.apply(reload, shutdown).await,
            Err(why) => {
                self.reloader.refused(&why);
                Ok(())
            }
        }
    }

    /// Returns the changes that can be applied, or a line that says why there are none.
    async fn read_again(&self) -> Result<Reload<AgentConfig>, String> {
        let live = [&PROBING[..], &OUTLIERS, &ANSWERING, &RESULTS, &SAMPLES].concat();
        let mut reload = self.reloader.read(&live)?;
        if !self.has_room_for(&reload.config) {
            reload = self.reloader.without(&reload, &live, &IN_FLIGHT)?;
        }
        let known = &self.config.core.static_peers;
        let added = reload
            .config
            .core
            .static_peers
            .iter()
            .filter(|peer| !known.contains(peer));
        let added: Vec<_> = added.copied().collect();
        let port = &self.endpoint.port;
        let checked = check_peers(&self.config.endpoint.port.interface, &port.addresses(), &added).await;
        checked.map_err(|error| reload.placed(&format!("{error:#}")))?;
        Ok(reload)
    }

    /// Whether the rings, which were laid out at the start, have room for the probes in flight.
    fn has_room_for(&self, config: &AgentConfig) -> bool {
        let port = &self.config.endpoint.port;
        let named = config.core.static_peers.len() + self.agent.assigned().len();
        let sessions = port.groups.len() + port.late.len() + named * (1 + usize::from(port.cold));
        self.endpoint.port.engine() == Engine::Socket || port.rings.hold(sessions as u64, config.core.in_flight())
    }

    async fn apply(&mut self, reload: Reload<AgentConfig>, shutdown: &mut Shutdown) -> Result<()> {
        let AgentConfig {
            mut core,
            mut endpoint,
            output,
            ..
        } = reload.config.clone();
        if reload.changes(&RESULTS) || reload.changes(&SAMPLES) {
            // The only step that can fail, so it comes first.
            if let Err(error) = self.reporter.set_outputs(&output, reload.changes(&RESULTS)) {
                self.reloader.refused(&reload.placed(&error.to_string()));
                return Ok(());
            }
            shutdown.set_outputs(self.reporter.controls());
            self.config.output = output;
        }
        // There are rings for as many peers as at the start.
        core.max_peers = core.max_peers.min(self.config.core.max_peers);
        core.group = self.config.core.group;
        let now_ns = monotonic_ns();
        for peer in self.agent.reconfigure(core.clone(), now_ns) {
            warn!("{peer} is not measured: there is no room for another peer");
        }
        self.legacy
            .iter_mut()
            .for_each(|legacy| LegacyPeers::reconfigure(legacy, &core, now_ns));
        self.cold.iter_mut().for_each(|cold| cold.reconfigure(&core, now_ns));
        if let Some((hops, config)) = self.endpoint.hops.as_mut().zip(endpoint.hops.as_ref()) {
            hops.reconfigure(config.core);
        }
        if reload.changes(&["report"]) {
            if let Some(exporter) = &self.exporter {
                exporter.set_report(Duration::from_nanos(core.report_ns));
            }
            if let Some(feed) = &self.feed {
                feed.send(Update::ReportInterval(core.report_ns));
            }
        }
        self.config.core = core;
        if reload.changes(&ANSWERING) {
            let widened = self.answering(&endpoint.port.answering);
            self.config.endpoint.port.answering = mem::replace(&mut endpoint.port.answering, widened);
            self.endpoint.set_answering(&endpoint);
            self.config.endpoint.volley_limit = endpoint.volley_limit;
            self.poll_interface().await?;
        }
        self.reloader.applied(reload);
        Ok(())
    }
}
