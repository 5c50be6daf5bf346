//! Drives the core: passes in replies and the time, sends its probes, reports its events.

mod assign;
mod reload;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use log::{debug, warn};
use probe_common::abi::{COUNTER_NAMES, Counter};
use probe_common::family::Family;
use probe_core::agent::Agent;
use probe_core::agent::event::{Destination, Event};
use probe_core::observation::{Fate, SendFailure};
use probe_host::clock::monotonic_ns;
use probe_host::process::take_short_slices;
use probe_host::timer::{Timer, sleep_until, sleep_without_slack};
use probe_host::wall::StepDetector;
use probe_io::port::{Engine, Outgoing, PortEvent};
use probe_io::udp::batch::MAX_BATCH;
use probe_io::udp::sockets::PassedUp;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::command::agent::cold::ColdProbes;
use crate::command::agent::config::AgentConfig;
use crate::command::agent::fleet::{self, Fleet, Work};
use crate::command::agent::follow::follow;
use crate::command::agent::legacy::{self, LegacyPeers};
use crate::command::agent::site::AgentSite;
use crate::command::shared::endpoint::Endpoint;
use crate::command::shared::families::{families_of, warn_of_late};
use crate::command::shared::hops::HopStamps;
use crate::command::shared::host::{POLL_INTERVAL, addresses_of, check_peers, host_name};
use crate::command::shared::ovs::Switch;
use crate::command::shared::reload::Reloader;
use crate::command::shared::replies::MismatchWarnings;
use crate::command::shared::reporter::Reporter;
use crate::command::shared::shutdown::{Request, Shutdown};
use crate::command::shared::unsent::UnsentWarnings;
use crate::command::shared::update::Update;
use crate::otlp::Exporter;
use crate::output::metrics::{Metrics, State};
use crate::output::progress::Progress;
use crate::serve::{Feed, Server};
use crate::service::Service;

/// The agent wakes up for its deadlines at most once in this time, and then sends all due probes: a wake-up for each probe
/// would cost several times as much as the probe.
const MIN_ROUND_NS: u64 = 50_000;

/// Probes that are sent before replies are looked at. Sent in a row, they find their code and data in the cache, and take less
/// than [`MIN_ROUND_NS`].
const MAX_AHEAD: usize = 16;

/// Skip the ring wake-up if the timer fires within this time.
const RING_WAKE_UP_NS: u64 = 1_000_000;

/// While probes are due close together, all else waits for this time at most: replies, which the kernel has stamped, losses,
/// signals, packets for the process and changes of the interface. To look for all of that takes several times as long as to
/// send a probe.
const TURN_NS: u64 = 1_000_000;

/// Most drains of replies at the end of the run. The ring buffer holds fewer replies than they take.
const MAX_LAST_DRAINS: usize = 8;

/// Time between two updates of the counters in the metrics: reading them takes a system call for each.
const STATE_INTERVAL_NS: u64 = 5_000_000_000;

/// Why the agent woke up.
enum Wake {
    /// A deadline of the core, or samples.
    Work,
    PassedUp(PassedUp),
    Fleet(Work),
    PollInterface,
    Reload,
    Shutdown,
}

/// Runs until the duration or count is reached or a signal comes, then reports the summary.
pub async fn run(mut config: AgentConfig, reloader: Reloader<AgentConfig>) -> Result<()> {
    let mut reporter = Reporter::open(&config.output)?;
    let interface = &config.endpoint.port.interface;
    let addresses = addresses_of(interface).await?;
    check_peers(interface, &addresses, &config.core.static_peers).await?;
    config.limit_to(families_of(&addresses));
    let (results, samples) = reporter.controls();
    let mut shutdown = Shutdown::new(results, samples).context("cannot catch signals")?;
    shutdown.set_reloads(reloader.has_files());
    let server = config.serve.as_ref().map(Server::listen).transpose()?;
    let mut service = Service::new();
    let user = config.endpoint.user.as_deref();
    let fleet_thread = config
        .fleet
        .as_ref()
        .map(|fleet| fleet::prepare(fleet, user))
        .transpose()?;
    let ovsdb = config.ovsdb.connect();
    let (endpoint, privileges) = Endpoint::open(&config.endpoint, &mut service).await?;
    // Threads inherit the privileges that are left.
    let metrics = Arc::new(Mutex::new(Metrics::new(
        config.metrics_detail,
        config.noise_floor.take(),
    )));
    let feed = match server {
        Some(server) => {
            let site = AgentSite::new(&config.output.agent, Arc::clone(&metrics), config.core.report_ns);
            Some(server.start(site)?)
        }
        None if config.otlp.is_some() => Some(follow(Arc::clone(&metrics))?),
        None => None,
    };
    let report = Duration::from_nanos(config.core.report_ns);
    let start_exporter = |otlp| Exporter::start(otlp, metrics, host_name(), report);
    let exporter = config.otlp.take().map(start_exporter).transpose()?;
    reporter.set_feed(feed.clone());
    warn_of_late(&config.endpoint.port);
    let legacy = LegacyPeers::open(&config, &endpoint.port, monotonic_ns()).await?;
    let switch = match ovsdb {
        Some(source) => Some(Switch::follow(source, &config.endpoint.port.interface).await?),
        None => None,
    };
    let facts = switch.as_ref().and_then(Switch::facts);
    let fleet = config.fleet.as_ref().zip(fleet_thread);
    let fleet = fleet
        .map(|(fleet, thread)| Fleet::start(thread, fleet, &config, &endpoint.port, facts))
        .transpose()?;
    reporter.set_ovs(facts);
    reporter.set_fleet(fleet.as_ref().map(Fleet::port));
    reporter.start(&config.endpoint, Some(&config.core), &endpoint.port, privileges)?;
    let started_ns = monotonic_ns();
    let mut agent = Agent::new(config.core.clone(), started_ns);
    agent.set_policy(endpoint.port.policy());
    let mut run = Run {
        cold: ColdProbes::new(&config, started_ns),
        legacy,
        agent,
        fleet,
        switch,
        over_ns: config
            .duration_ns
            .map_or(u64::MAX, |duration_ns| started_ns + duration_ns),
        endpoint,
        reporter,
        config,
        unsent: UnsentWarnings::default(),
        warned_of_refusals: false,
        worked_ns: started_ns,
        turned_ns: 0,
        has_more: false,
        outgoing: Vec::with_capacity(MAX_BATCH),
        mismatches: MismatchWarnings::default(),
        wall_clock: StepDetector::new(),
        feed,
        service,
        exporter,
        reloader,
        state_due_ns: 0,
    };
    run.endpoint.keep(&mut run.service);
    run.service.ready(run.status());
    let length = run.config.length();
    let progress = length.map(|length| Progress::show("measuring", length));
    let outcome = run.until_done(&mut shutdown).await;
    run.service.stopping();
    drop(progress);
    // Results are reported even if the run failed.
    let outcome = run.finish(shutdown.is_followed()).and(outcome);
    let Run {
        endpoint,
        reporter,
        exporter,
        fleet,
        ..
    } = run;
    // Detach first: the reader may take long for the rest.
    drop(endpoint);
    let (results, samples) = reporter.into_sinks();
    let delivered = shutdown.deliver(results, samples).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    if let Some(fleet) = fleet {
        fleet.finish().await;
    }
    outcome.and(Ok(delivered?))
}

struct Run {
    config: AgentConfig,
    endpoint: Endpoint,
    agent: Agent,
    legacy: Option<LegacyPeers>,
    /// With `--cold`.
    cold: Option<ColdProbes>,
    /// With `--hub-credentials`.
    fleet: Option<Fleet>,
    /// Where Open vSwitch has a database.
    switch: Option<Switch>,
    reporter: Reporter,
    /// When `--duration` ends; the maximum without one, or after its end.
    over_ns: u64,
    unsent: UnsentWarnings,
    warned_of_refusals: bool,
    mismatches: MismatchWarnings,
    wall_clock: StepDetector,
    /// With `--listen` or `--otlp`.
    feed: Option<Feed<Update>>,
    service: Service,
    /// With `--otlp`.
    exporter: Option<Exporter>,
    reloader: Reloader<AgentConfig>,
    /// When counters and the state of the clock are next passed to the feed.
    state_due_ns: u64,
    /// Start of the last round, in which replies were taken and probes sent.
    worked_ns: u64,
    /// When a turn of the runtime last had only the deadline to wait for.
    turned_ns: u64,
    /// More replies are waiting than were taken at once.
    has_more: bool,
    /// The probes that are being sent. Kept between calls, so that sending allocates nothing.
    outgoing: Vec<Outgoing>,
}

impl Run {
    async fn until_done(&mut self, shutdown: &mut Shutdown) -> Result<()> {
        let timer = Timer::new().context("cannot make a timer")?;
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sleep_without_slack();
        if let Err(error) = take_short_slices() {
            debug!("probes may leave late beside other processes: {error}");
        }
        while !self.is_over() {
            self.work()?;
            let deadline_ns = self.deadline_ns();
            // With sockets the process answers probes, which must not wait.
            let is_quiet = deadline_ns < self.turned_ns + TURN_NS;
            if is_quiet && self.endpoint.port.engine() == Engine::Ebpf {
                sleep_until(deadline_ns);
                self.send_ahead();
                continue;
            }
            match self.wake(deadline_ns, &timer, &mut poll, shutdown).await? {
                Wake::Work => self.turned_ns = monotonic_ns(),
                Wake::PassedUp(PassedUp::TestPort { port, packet, received }) => {
                    self.endpoint.answer(port, packet, &received);
                }
                Wake::PassedUp(PassedUp::Control { packet, from }) => {
                    let Endpoint {
                        introductions,
                        port,
                        hops,
                        ..
                    } = &mut self.endpoint;
                    let is_of_hops = hops.as_mut().is_some_and(|hops| hops.take_answer(&packet));
                    if !is_of_hops
                        && let Some((peer, identity)) = introductions.take(&packet, from, port, &mut self.agent)
                    {
                        self.reporter.introduced(peer, &identity);
                    }
                }
                Wake::Fleet(work) => self.work_for_fleet(work).await?,
                Wake::PollInterface => self.poll_interface().await?,
                Wake::Reload => self.reload(shutdown).await?,
                Wake::Shutdown => break,
            }
        }
        Ok(())
    }

    /// Whether the run is over. The far halves of the last probes are still waited for.
    fn is_over(&mut self) -> bool {
        if !self.is_settled() {
            return false;
        }
        let hops = self.endpoint.hops.as_mut();
        hops.is_none_or(|hops| hops.has_waited(monotonic_ns()))
    }

    /// Whether nothing more will be sent or expected. A hub may assign peers at any time.
    fn is_settled(&self) -> bool {
        (self.agent.has_stopped() || self.fleet.is_none())
            && self.agent.is_settled()
            && self.legacy.as_ref().is_none_or(LegacyPeers::is_settled)
            && self.cold.as_ref().is_none_or(ColdProbes::is_settled)
    }

    /// Sends the probes that are due, and the next ones on time, before replies are looked at. A turn of the runtime, another
    /// deadline, or a stall, in which probes were missed, ends it.
    fn send_ahead(&mut self) {
        let end_ns = self.other_deadline_ns().min(self.over_ns).min(self.turned_ns + TURN_NS);
        let mut sent = 0;
        loop {
            let now_ns = monotonic_ns();
            if now_ns >= end_ns {
                return;
            }
            self.worked_ns = now_ns;
            sent += self.send_due(now_ns);
            let due_ns = self.next_round_ns(self.agent.next_transmit().unwrap_or(u64::MAX));
            if self.has_more || !is_sent_ahead(sent, due_ns, end_ns) {
                return;
            }
            sleep_until(due_ns);
        }
    }

    /// Takes replies, expires probes, sends what is due, reports events.
    fn work(&mut self) -> Result<()> {
        // Read before the ring, so that a reply stamped before then is taken before its probe expires.
        let now_ns = monotonic_ns();
        self.worked_ns = now_ns;
        let more_since_ns = self.take_samples();
        self.has_more = more_since_ns.is_some();
        let taken_until_ns = more_since_ns.map_or(now_ns, |since_ns| since_ns.min(now_ns));
        if let Some(by_ns) = self.wall_clock.step() {
            self.agent.own_clock_stepped(by_ns);
        }
        self.expire(taken_until_ns);
        if now_ns >= self.over_ns {
            self.over_ns = u64::MAX;
            self.agent.stop_sending();
            self.legacy.iter_mut().for_each(LegacyPeers::stop_sending);
            self.cold.iter_mut().for_each(ColdProbes::stop_sending);
        }
        self.send_due(now_ns);
        if let Some(cold) = &mut self.cold {
            cold.work(&mut self.endpoint.port, now_ns, taken_until_ns);
        }
        if let Some(legacy) = &mut self.legacy {
            legacy.work(&self.agent, now_ns);
        }
        if let Some(hops) = &mut self.endpoint.hops {
            hops.take(now_ns);
        }
        self.report_events(now_ns)?;
        let test_port = self.config.endpoint.port.test_port;
        if let Some(hops) = &mut self.endpoint.hops {
            hops.expire(now_ns);
            hops.ask_by(&self.endpoint.port, test_port, now_ns);
        }
        self.report_hops()?;
        // A peer that has just come up is asked at once: it can say goodbye only then. Authenticated mode has no identity exchange.
        if self.config.endpoint.stamping.key.is_none() {
            let Endpoint {
                introductions, port, ..
            } = &mut self.endpoint;
            introductions.ask(port, &self.agent, now_ns);
        }
        Ok(())
    }

    fn expire(&mut self, now_ns: u64) {
        let Self {
            agent,
            endpoint,
            unsent,
            config,
            ..
        } = self;
        let interface = &config.endpoint.port.interface;
        agent.expire(now_ns, &mut |ssid, seq, peer, sent_ns| {
            let fate = endpoint.port.fate(ssid, seq, peer, sent_ns);
            if let Fate::NeverLeft(why) = fate {
                unsent.note(peer, why, interface, || endpoint.port.preceding());
            }
            fate
        });
    }

    /// Sends the due probes, in batches. Returns their number.
    fn send_due(&mut self, now_ns: u64) -> usize {
        let mut sent = 0;
        loop {
            self.collect_due(now_ns);
            if self.outgoing.is_empty() {
                return sent;
            }
            sent += self.outgoing.len();
            let Self {
                agent,
                endpoint,
                unsent,
                config,
                outgoing,
                ..
            } = self;
            let interface = &config.endpoint.port.interface;
            endpoint.port.send(outgoing, |probe, why| {
                // No program has seen a probe that a socket refused.
                unsent.note(probe.to, why, interface, Vec::new);
                agent.transmit_failed(&probe.transmit, why, now_ns);
            });
        }
    }

    fn collect_due(&mut self, now_ns: u64) {
        self.outgoing.clear();
        while self.outgoing.len() < MAX_BATCH
            && let Some(transmit) = self.agent.poll_transmit(now_ns)
        {
            let groups = self.endpoint.port.groups();
            let to = match transmit.destination {
                Destination::Peer(peer) => Some(peer),
                Destination::Group(family) => groups.iter().copied().find(|group| Family::of(*group) == family),
            };
            match to {
                Some(to) => self.outgoing.push(Outgoing { transmit, to }),
                None => self.agent.transmit_failed(&transmit, SendFailure::NoAddress, now_ns),
            }
        }
    }

    /// Returns T4 of the last reply taken if more are waiting.
    fn take_samples(&mut self) -> Option<u64> {
        let now_ns = monotonic_ns();
        let Self {
            agent, cold, endpoint, ..
        } = self;
        endpoint.port.drain(|reply| {
            if !cold.as_mut().is_some_and(|cold| cold.take(reply, now_ns)) {
                agent.reply(reply, now_ns);
            }
        })
    }

    fn report_events(&mut self, now_ns: u64) -> Result<()> {
        while let Some(event) = self.agent.poll_event() {
            match &event {
                Event::PeerUp { peer, .. } => {
                    self.endpoint.introductions.peer_up(*peer, now_ns);
                    self.legacy.iter_mut().for_each(|legacy| legacy.retire(*peer));
                }
                Event::PeerDown { peer, .. } => self.endpoint.introductions.peer_down(*peer),
                _ => {}
            }
            if let Some(fleet) = &mut self.fleet {
                fleet.note(&event, &self.agent, &self.endpoint.port);
            }
            if let Some(hops) = &mut self.endpoint.hops {
                hops.note(&event, now_ns);
            }
            self.reporter.event(event)?;
        }
        if let Some(legacy) = &mut self.legacy {
            legacy.report(&mut self.reporter)?;
        }
        while let Some(event) = self.cold.as_mut().and_then(ColdProbes::poll_event) {
            if let Some(hops) = &mut self.endpoint.hops {
                hops.note(&event, now_ns);
            }
            self.reporter.event(event)?;
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.flush(self.agent.held_window_end_ns());
        }
        if self.reporter.has_windows() {
            let held = [
                self.agent.held_window_end_ns(),
                self.legacy.as_ref().and_then(LegacyPeers::held_window_end_ns),
                self.cold.as_ref().and_then(ColdProbes::held_window_end_ns),
            ];
            self.reporter.flush_windows(held.into_iter().flatten().min())?;
        }
        Ok(())
    }

    fn report_hops(&mut self) -> Result<()> {
        while let Some(event) = self.endpoint.hops.as_mut().and_then(HopStamps::poll_event) {
            self.reporter.hop_event(&event)?;
        }
        Ok(())
    }

    /// When the next round begins.
    fn deadline_ns(&self) -> u64 {
        if self.has_more {
            return self.next_round_ns(0);
        }
        let hops_ns = self.endpoint.hops.as_ref().map(HopStamps::next_deadline_ns);
        let deadline_ns = self.agent.next_deadline().into_iter().chain(hops_ns).min();
        let deadline_ns = deadline_ns.unwrap_or(u64::MAX);
        self.next_round_ns(deadline_ns.min(self.other_deadline_ns()).min(self.over_ns))
    }

    /// The next deadline beside those of the warm sessions.
    fn other_deadline_ns(&self) -> u64 {
        let legacy_ns = self.legacy.as_ref().and_then(LegacyPeers::next_deadline);
        let cold_ns = self.cold.as_ref().and_then(ColdProbes::next_deadline);
        legacy_ns.into_iter().chain(cold_ns).min().unwrap_or(u64::MAX)
    }

    /// When the round for a deadline begins. A round that took longer than [`MIN_ROUND_NS`] is followed by the next at once.
    fn next_round_ns(&self, deadline_ns: u64) -> u64 {
        deadline_ns.max(self.worked_ns + MIN_ROUND_NS)
    }

    async fn wake(
        &self,
        deadline_ns: u64,
        timer: &Timer,
        poll: &mut Interval,
        shutdown: &mut Shutdown,
    ) -> Result<Wake> {
        let now_ns = monotonic_ns();
        if deadline_ns <= now_ns {
            // The timer is due already, so the runtime would see no signals and packets without this.
            tokio::task::yield_now().await;
        }
        let is_far = deadline_ns.saturating_sub(now_ns) > RING_WAKE_UP_NS;
        tokio::select! {
            biased;
            request = shutdown.request() => Ok(match request {
                Request::Reload => Wake::Reload,
                Request::End => Wake::Shutdown,
            }),
            // Before the timer, which is always due if the agent cannot keep up with its interval.
            () = self.endpoint.poll_is_due(poll) => Ok(Wake::PollInterface),
            packet = self.endpoint.port.passed_up() => Ok(Wake::PassedUp(packet)),
            work = fleet_work(self.fleet.as_ref()) => Ok(Wake::Fleet(work)),
            reached = timer.until(deadline_ns) => {
                reached.context("the timer failed")?;
                Ok(Wake::Work)
            }
            ready = self.endpoint.port.ready(), if is_far => {
                ready.context("waiting for replies failed")?;
                Ok(Wake::Work)
            }
            ready = legacy::ready(self.legacy.as_ref()), if is_far => {
                ready.context("waiting for legacy agents failed")?;
                Ok(Wake::Work)
            }
        }
    }

    async fn poll_interface(&mut self) -> Result<()> {
        let events = self.endpoint.poll().await;
        self.agent.set_policy(self.endpoint.port.policy());
        for event in &events {
            self.reporter.port_event(&self.config.endpoint.port.interface, event)?;
            if let PortEvent::Joined { group } = event
                && self.config.group_probes
            {
                self.agent.add_group(Family::of(*group), monotonic_ns());
            }
        }
        if let Some(legacy) = &mut self.legacy {
            legacy.follow(&events, &self.endpoint.port).await;
        }
        if let Some(cold) = &mut self.cold {
            cold.follow(&self.agent, monotonic_ns());
        }
        if let Some(switch) = &mut self.switch
            && switch.poll(!events.is_empty()).await
        {
            let interface = &self.config.endpoint.port.interface;
            self.reporter.ovs_changed(interface, switch.facts())?;
        }
        let interval_ns = self.config.core.interval_ns;
        let facts = self.switch.as_ref().and_then(Switch::facts);
        if self
            .fleet
            .as_mut()
            .is_some_and(|fleet| fleet.follow(&self.endpoint.port, interval_ns, facts))
        {
            self.assign();
        }
        let test_port = self.config.endpoint.port.test_port;
        self.mismatches.follow(&self.endpoint.port.mismatches(), test_port);
        if !events.is_empty() {
            self.endpoint.keep(&mut self.service);
        }
        if !events.is_empty() || self.fleet.is_some() {
            self.service.status(self.status());
        }
        self.feed_state()?;
        let refused = self.agent.refused();
        if refused > 0 && !self.warned_of_refusals {
            self.warned_of_refusals = true;
            let max = self.config.core.max_peers;
            warn!("more than {max} peers answer; only {max} are measured, a longer --interval makes room for more");
        }
        Ok(())
    }

    fn status(&self) -> String {
        let status = self.endpoint.status("measuring", &self.config.endpoint);
        match &self.fleet {
            Some(fleet) => format!("{status}; {}", fleet.status_line()),
            None => status,
        }
    }

    /// Notes for the server and the service manager that the agent runs, and passes its counters from time to time.
    fn feed_state(&mut self) -> Result<()> {
        let now_ns = monotonic_ns();
        self.service.beat(now_ns);
        let Some(feed) = &self.feed else { return Ok(()) };
        feed.beat(now_ns);
        if now_ns < self.state_due_ns {
            return Ok(());
        }
        self.state_due_ns = now_ns + STATE_INTERVAL_NS;
        let counters = self.counters()?;
        self.send_state(counters, false);
        Ok(())
    }

    fn send_state(&self, counters: BTreeMap<&'static str, u64>, has_ended: bool) {
        let Some(feed) = &self.feed else { return };
        feed.send(Update::State(Box::new(State {
            clock: Some(self.endpoint.port.clock()),
            hub: self.fleet.as_ref().map(Fleet::status),
            counters,
            events_lost: feed.lost(),
            has_ended,
        })));
    }

    /// The packets since the start, by counter.
    fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counters = self.endpoint.counters()?;
        // Replies that the programs accepted, but no session had sent a probe for.
        *counters.entry(COUNTER_NAMES[Counter::Unmatched as usize]).or_default() += self.agent.unmatched();
        *counters
            .entry(COUNTER_NAMES[Counter::ReplyNotAllowed as usize])
            .or_default() += self.agent.not_allowed();
        counters.insert("peers_evicted", self.agent.evicted());
        if let Some(legacy) = &self.legacy {
            counters.insert("echo_unmatched", legacy.unmatched());
        }
        Ok(counters)
    }

    /// The summary of the whole run.
    fn finish(&mut self, is_followed: bool) -> Result<()> {
        // As many as fit the ring buffer: a flood must not keep the run from its end.
        for _ in 0..MAX_LAST_DRAINS {
            if self.take_samples().is_none() {
                break;
            }
        }
        self.endpoint.end(&mut self.service, is_followed);
        let now_ns = monotonic_ns();
        let mut summaries = self.agent.finish(now_ns);
        summaries.extend(self.cold.iter_mut().flat_map(|cold| cold.finish(now_ns)));
        let legacy_summaries = self.legacy.as_mut().map(|legacy| legacy.finish(&self.agent, now_ns));
        let legacy_summaries = legacy_summaries.unwrap_or_default();
        if let Some(hops) = &mut self.endpoint.hops {
            hops.take(now_ns);
        }
        self.report_events(now_ns)?;
        if let Some(hops) = &mut self.endpoint.hops {
            hops.finish(now_ns);
        }
        self.report_hops()?;
        let test_port = self.config.endpoint.port.test_port;
        self.mismatches.follow(&self.endpoint.port.mismatches(), test_port);
        let counters = self.counters()?;
        self.send_state(counters.clone(), true);
        Ok(self.reporter.end(&summaries, &legacy_summaries, &counters)?)
    }
}

/// Pending without a fleet. Cancel safe.
async fn fleet_work(fleet: Option<&Fleet>) -> Work {
    match fleet {
        Some(fleet) => fleet.work().await,
        None => pending().await,
    }
}

/// Whether the probe that is due at `due_ns` is sent before replies are looked at, after `sent` others. That ends at `end_ns`.
fn is_sent_ahead(sent: usize, due_ns: u64, end_ns: u64) -> bool {
    sent < MAX_AHEAD && due_ns < end_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_wait_for_16_probes_or_a_millisecond() {
        let sent_ahead = |every_ns: u64| {
            let is_ahead = |&sent: &usize| is_sent_ahead(sent, sent as u64 * every_ns, TURN_NS);
            (0..).take_while(is_ahead).count()
        };
        let every_ns = [1, 50_000, 100_000, 400_000, 1_000_000];
        assert_eq!(every_ns.map(sent_ahead), [16, 16, 10, 3, 1]);
    }
}
