//! `kstamp agent`: discover, probe, reflect, report. Wiring only: what is concluded is concluded in the core.

use anyhow::{Context as _, Result, bail};
use log::warn;
use probe_common::abi::{COUNTER_NAMES, Counter};
use probe_common::family::Family;
use probe_core::agent::Agent;
use probe_core::agent::event::{Destination, Event};
use probe_host::clock::monotonic_ns;
use probe_host::timer::Timer;
use probe_host::wall::StepDetector;
use probe_io::udp::sockets::PassedUp;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::command::config::AgentConfig;
use crate::command::echo_peers::EchoPeers;
use crate::command::reporter::Reporter;
use crate::command::shutdown::Shutdown;
use crate::command::station::Station;
use crate::command::{LOOK_AFTER, addresses_of, echo_peers, families_of, passed_up};

/// The least time to sleep: shorter intervals are sent in bursts of what has become due, or each probe would cost a
/// wake-up, several times the rest of its cost.
const BREATH_NS: u64 = 50_000;

/// Samples need wake nobody whom the timer wakes within this time.
const SOON_NS: u64 = 1_000_000;

/// Why the agent woke up.
enum Wake {
    /// A deadline of the core was reached, or there are samples.
    Work,
    /// A packet for userspace.
    PassedUp(PassedUp),
    /// It is time to look after the interface.
    LookAfter,
    /// A signal.
    Shutdown,
}

/// Runs until the duration or count is reached, or a signal comes; then reports the summary.
pub async fn run(mut config: AgentConfig) -> Result<()> {
    let mut reporter = Reporter::open(&config.output)?;
    let interface = &config.station.port.interface;
    let addresses = addresses_of(interface).await?;
    if let Some(own) = config.core.static_peers.iter().find(|peer| addresses.contains(peer)) {
        bail!("--peer {own} is an address of {interface} itself; name the other end");
    }
    config.limit_to(families_of(&addresses));
    let mut shutdown = Shutdown::new().context("cannot catch signals")?;
    let (station, privileges) = Station::open(&config.station).await?;
    let older = EchoPeers::open(&config, &station.engine, monotonic_ns()).await?;
    reporter.start(&config, &station.engine, privileges)?;
    let started_ns = monotonic_ns();
    let mut run = Run {
        older,
        agent: Agent::new(config.core.clone(), started_ns),
        over_ns: config
            .duration_ns
            .map_or(u64::MAX, |duration_ns| started_ns + duration_ns),
        station,
        reporter,
        config,
        warned_of_refusals: false,
        wall_clock: StepDetector::new(),
    };
    let outcome = run.until_done(&mut shutdown).await;
    // Whatever ended the run, what was measured is reported.
    run.finish().and(outcome)
}

struct Run {
    config: AgentConfig,
    station: Station,
    agent: Agent,
    older: Option<EchoPeers>,
    reporter: Reporter,
    /// When `--duration` ends; the maximum if there is none, or it has.
    over_ns: u64,
    warned_of_refusals: bool,
    wall_clock: StepDetector,
}

impl Run {
    async fn until_done(&mut self, shutdown: &mut Shutdown) -> Result<()> {
        let timer = Timer::new().context("cannot make a timer")?;
        let mut look_after = interval(LOOK_AFTER);
        look_after.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(self.agent.is_settled() && self.older.as_ref().is_none_or(EchoPeers::is_settled)) {
            self.work()?;
            match self.wake(&timer, &mut look_after, shutdown).await? {
                Wake::Work => {}
                Wake::PassedUp(PassedUp::TestPort { packet, received }) => {
                    self.station.answer(packet, &received);
                }
                Wake::PassedUp(PassedUp::Control { packet, from }) => {
                    if let Some((peer, identity)) = self.station.introductions.take(&packet, from, &mut self.agent) {
                        self.reporter.introduced(peer, &identity);
                    }
                }
                Wake::LookAfter => self.look_after().await?,
                Wake::Shutdown => break,
            }
        }
        Ok(())
    }

    /// Takes what came, gives up what did not, sends what is due, and reports what there is to report.
    fn work(&mut self) -> Result<()> {
        // The clock is read before the ring is: a reply stamped before `now_ns` is then seen before its probe expires.
        let now_ns = monotonic_ns();
        self.take_samples();
        if let Some(by_ns) = self.wall_clock.step() {
            self.agent.own_clock_stepped(by_ns);
        }
        self.agent
            .expire(now_ns, &mut |ssid, seq, peer| self.station.engine.fate(ssid, seq, peer));
        if now_ns >= self.over_ns {
            self.over_ns = u64::MAX;
            self.agent.stop_sending();
            self.older.iter_mut().for_each(EchoPeers::stop_sending);
        }
        while let Some(transmit) = self.agent.poll_transmit(now_ns) {
            let to = match transmit.destination {
                Destination::Peer(peer) => Some(peer),
                Destination::Group(family) => {
                    let v6 = family == Family::V6;
                    let groups = &self.config.station.port.groups;
                    groups.iter().copied().find(|group| group.is_ipv6() == v6)
                }
            };
            let sent = to.map(|to| self.station.engine.send(to, transmit.ssid, transmit.seq));
            if !matches!(sent, Some(Ok(()))) {
                self.agent.transmit_failed(&transmit);
            }
        }
        if let Some(older) = &mut self.older {
            older.work(&self.agent, now_ns);
        }
        // In authenticated mode nobody is told anything, nor believed, without a signature.
        if self.config.station.stamping.key.is_none() {
            self.station.introductions.ask(&self.station.engine, now_ns);
        }
        self.report_events(now_ns)
    }

    fn take_samples(&mut self) {
        let now_ns = monotonic_ns();
        self.station.engine.drain(|reply| self.agent.reply(reply, now_ns));
    }

    fn report_events(&mut self, now_ns: u64) -> Result<()> {
        while let Some(event) = self.agent.poll_event() {
            match &event {
                Event::PeerUp { peer, .. } => {
                    self.station.introductions.peer_up(*peer, now_ns);
                    self.older.iter_mut().for_each(|older| older.retire(*peer));
                }
                Event::PeerDown { peer, .. } => self.station.introductions.peer_down(*peer),
                _ => {}
            }
            self.reporter.event(event)?;
        }
        if let Some(older) = &mut self.older {
            older.report(&mut self.reporter)?;
        }
        if self.reporter.has_windows() {
            let held = [
                self.agent.held_window_end_ns(),
                self.older.as_ref().and_then(EchoPeers::held_window_end_ns),
            ];
            self.reporter.flush_windows(held.into_iter().flatten().min())?;
        }
        Ok(())
    }

    async fn wake(&self, timer: &Timer, look_after: &mut Interval, shutdown: &mut Shutdown) -> Result<Wake> {
        let now_ns = monotonic_ns();
        let deadline_ns = self.agent.next_deadline().unwrap_or(u64::MAX).min(self.over_ns);
        let echo_ns = self.older.as_ref().and_then(EchoPeers::next_deadline);
        let deadline_ns = deadline_ns.min(echo_ns.unwrap_or(u64::MAX));
        let deadline_ns = deadline_ns.max(now_ns + BREATH_NS);
        tokio::select! {
            biased;
            () = shutdown.requested() => Ok(Wake::Shutdown),
            // Before the timer, which is always due where the agent cannot keep up with its interval.
            _ = look_after.tick() => Ok(Wake::LookAfter),
            packet = passed_up(&self.station.engine) => Ok(Wake::PassedUp(packet)),
            reached = timer.until(deadline_ns) => {
                reached.context("the timer failed")?;
                Ok(Wake::Work)
            }
            ready = self.station.engine.ready(), if deadline_ns - now_ns > SOON_NS => {
                ready.context("waiting for replies failed")?;
                Ok(Wake::Work)
            }
            ready = echo_peers::ready(self.older.as_ref()), if deadline_ns - now_ns > SOON_NS => {
                ready.context("waiting for older agents failed")?;
                Ok(Wake::Work)
            }
        }
    }

    async fn look_after(&mut self) -> Result<()> {
        let events = self.station.look_after().await;
        for event in &events {
            self.reporter.port_event(&self.config.station.port.interface, event)?;
        }
        if let Some(older) = &mut self.older {
            older.follow(&events, &self.station.engine).await;
        }
        let refused = self.agent.refused();
        if refused > 0 && !self.warned_of_refusals {
            self.warned_of_refusals = true;
            let most = self.config.core.max_peers;
            warn!("more than {most} peers answer, and no more are measured; a longer --interval makes room for more");
        }
        Ok(())
    }

    /// The summary of the whole run.
    fn finish(&mut self) -> Result<()> {
        self.take_samples();
        let now_ns = monotonic_ns();
        let summaries = self.agent.finish(now_ns);
        let echoed = self.older.as_mut().map(|older| older.finish(&self.agent, now_ns));
        self.reporter.echoed(echoed.unwrap_or_default());
        self.report_events(now_ns)?;
        let mut counters = self.station.counters()?;
        // What the programs let through as ours, but no session had asked for.
        *counters.entry(COUNTER_NAMES[Counter::Unmatched as usize]).or_default() += self.agent.unmatched();
        if let Some(older) = &self.older {
            counters.insert("echo_unmatched", older.unmatched());
        }
        Ok(self.reporter.end(&summaries, &counters)?)
    }
}
