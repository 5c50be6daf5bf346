//! Turns events of the core and of the interface into records of the output.

mod downs;

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;

use anyhow::Result;
use log::warn;
use probe_core::agent::config::{MAX_PEERS, ProbeConfig};
use probe_core::agent::event::{Event, Found};
use probe_core::attach::AttachMode;
use probe_core::hops::HopEvent;
use probe_core::identity::Identity;
use probe_core::lru::Lru;
use probe_core::reflector::userspace_rates;
use probe_core::stats::report::Report;
use probe_host::clock::monotonic_ns;
use probe_host::ovs::PortFacts;
use probe_host::privileges::Privileges;
use probe_host::process::in_background;
use probe_hub::name::PortName;
use probe_io::port::{Engine, Port, PortEvent};

use crate::command::shared::endpoint::config::EndpointConfig;
use crate::command::shared::host::kernel_release;
use crate::command::shared::replies::wrong_timestamp_format;
use crate::command::shared::reporter::downs::Downs;
use crate::command::shared::update::Update;
use crate::output::file::OutputFile;
use crate::output::model::hops::{Hops, Outlier, Probe};
use crate::output::model::{self, Context, Results, Sample};
use crate::output::samples::Samples;
use crate::output::sink::{Control, OutputError, Sink};
use crate::output::time::{Utc, UtcOffset};
use crate::output::{AgentFormat, Output, OutputConfig};
use crate::serve::Feed;

/// Two readings of both clocks differ by less, unless a clock was set.
const WALL_CLOCK_STEP_NS: u128 = 1_000_000;

/// Peers whose names and downtimes are remembered, beside those that the user named: several times as many as are measured.
const MAX_KNOWN_PEERS: usize = 4 * MAX_PEERS;

pub struct Reporter {
    output: Output,
    samples: Option<Samples>,
    engine: Engine,
    attach: model::Attach,
    peers: Lru<IpAddr, Identity>,
    /// The address that each peer has given up, of those that have moved.
    moved_from: Lru<IpAddr, IpAddr>,
    downs: Downs<IpAddr>,
    interface_downs: Downs<()>,
    windows: Vec<(model::Method, Report)>,
    /// End of the oldest window in `windows`; `u64::MAX` if there is none.
    oldest_window_ns: u64,
    utc: UtcOffset,
    /// With `--listen`.
    feed: Option<Feed<Update>>,
    /// Name of the port in its fleet.
    fleet: Option<String>,
    ovs: Option<PortFacts>,
    /// For outputs that are opened later.
    start: Option<model::Start>,
}

fn open_samples(file: OutputFile, config: &OutputConfig) -> Result<Samples, OutputError> {
    match config.format {
        AgentFormat::Csv => Samples::csv(file, &config.agent),
        AgentFormat::Text | AgentFormat::Jsonl => Samples::new(file, &config.agent),
    }
}

impl Reporter {
    /// Opens the files, before anything is measured.
    pub fn open(config: &OutputConfig) -> Result<Self, OutputError> {
        let output = OutputFile::open(config.output.as_deref())?;
        let samples = config.samples.as_deref();
        let samples = samples.map(|path| output.open_other("--samples", path)).transpose()?;
        Ok(Self {
            output: Output::new(config.format, &config.agent, output)?,
            samples: samples.map(|file| open_samples(file, config)).transpose()?,
            engine: Engine::Ebpf,
            attach: model::Attach {
                egress: None,
                receive: AttachMode::Tc,
            },
            peers: Lru::new(MAX_KNOWN_PEERS),
            moved_from: Lru::new(MAX_KNOWN_PEERS),
            downs: Downs::new(MAX_KNOWN_PEERS),
            interface_downs: Downs::new(1),
            windows: Vec::new(),
            oldest_window_ns: u64::MAX,
            utc: UtcOffset::now(),
            feed: None,
            fleet: None,
            ovs: None,
            start: None,
        })
    }

    /// Writes the samples, and `with_results` also the results, to the outputs of `config` from now on, and keeps the contents
    /// of their files. The outputs before are finished in the background.
    pub fn set_outputs(&mut self, config: &OutputConfig, with_results: bool) -> Result<()> {
        let file = OutputFile::open_at_once(config.output.as_deref())?.kept();
        let samples = config.samples.as_deref();
        let samples = samples.map(|path| file.open_other("--samples", path)).transpose()?;
        let samples = samples.map(|file| open_samples(file.kept(), config)).transpose()?;
        let samples_before = mem::replace(&mut self.samples, samples);
        let mut output_before = None;
        if with_results {
            let output = Output::new(config.format, &config.agent, file)?;
            output_before = Some(mem::replace(&mut self.output, output));
            if let Some(start) = &self.start {
                self.output.export(&model::Event::Start(start.clone()))?;
            }
        }
        in_background("kstamp-output", move || drop((output_before, samples_before)))?;
        Ok(())
    }

    /// From now on, the server gets each event too.
    pub fn set_feed(&mut self, feed: Option<Feed<Update>>) {
        self.feed = feed;
    }

    /// The port has this name in its fleet.
    pub fn set_fleet(&mut self, port: Option<&PortName>) {
        self.fleet = port.map(ToString::to_string);
    }

    /// The port is this one in Open vSwitch.
    pub fn set_ovs(&mut self, facts: Option<&PortFacts>) {
        self.ovs = facts.cloned();
    }

    /// The port is another one in Open vSwitch, or none any more.
    pub fn ovs_changed(&mut self, interface: &str, facts: Option<&PortFacts>) -> Result<(), OutputError> {
        if let Some(start) = &mut self.start {
            start.ovs = facts.cloned().map(Box::new);
        }
        self.export(model::Event::Ovs(model::OvsChange {
            interface: interface.to_owned(),
            ovs: facts.cloned(),
            time: Utc::now(),
        }))
    }

    fn export(&mut self, event: model::Event) -> Result<(), OutputError> {
        self.output.export(&event)?;
        if let Some(feed) = &self.feed {
            feed.send(Update::Event(Box::new(event)));
        }
        Ok(())
    }

    /// The controls of the results and of the samples.
    pub fn controls(&self) -> (Control, Option<Control>) {
        (self.output.control(), self.samples.as_ref().map(Samples::control))
    }

    /// Writes the start record; `probing` is `None` for a reflector.
    pub fn start(
        &mut self,
        endpoint: &EndpointConfig,
        probing: Option<&ProbeConfig>,
        port: &Port,
        privileges: Privileges,
    ) -> Result<(), OutputError> {
        let config = &endpoint.port;
        let (group_probes, peers) = probed(probing);
        let known = MAX_KNOWN_PEERS + peers.len();
        self.peers = Lru::new(known);
        self.moved_from = Lru::new(known);
        self.downs = Downs::new(known);
        let (receive, reason) = port.attachment().unwrap_or((AttachMode::Tc, ""));
        self.engine = port.engine();
        let egress = self.engine.egress_mode();
        let rates = match self.engine {
            Engine::Ebpf => config.answering.rates,
            Engine::Socket => userspace_rates(config.answering.rates),
        };
        self.attach = model::Attach {
            egress: config.probing.then_some(egress),
            receive,
        };
        let start = model::Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interface: config.interface.clone(),
            attach: self.attach,
            attach_reason: reason.to_owned(),
            engine: self.engine,
            authenticated: endpoint.stamping.key.is_some(),
            clock: port.clock().into(),
            kernel: kernel_release(),
            name: endpoint.name.clone(),
            fleet: self.fleet.clone(),
            ovs: self.ovs.clone().map(Box::new),
            addresses: port.addresses(),
            port: config.test_port,
            ports: port.test_ports(),
            groups: config.groups.clone(),
            peers,
            group_probes,
            interval_ns: probing.map(|core| core.interval_ns),
            timeout_ns: probing.map(|core| core.timeout_ns),
            allowed: port.policy().prefixes().map(|prefix| prefix.to_string()).collect(),
            rate: rates.port,
            rate_source: rates.source,
            rate_group: rates.group,
            volley_limit: endpoint.volley_limit,
            user: privileges.user,
            capabilities: privileges.capabilities,
            time: Utc::now(),
        };
        self.start = Some(start.clone());
        self.export(model::Event::Start(start))
    }

    pub fn introduced(&mut self, peer: IpAddr, identity: &Identity) {
        self.peers.insert(peer, identity.clone());
    }

    pub fn port_event(&mut self, interface: &str, event: &PortEvent) -> Result<(), OutputError> {
        match event {
            PortEvent::Down | PortEvent::Deleted => self.interface_downs.down((), monotonic_ns()),
            PortEvent::Up | PortEvent::Back => self.interface_downs.up((), monotonic_ns()),
            PortEvent::Joined { .. } | PortEvent::Reattached { .. } => {}
        }
        let about = |event, group| {
            model::Event::Interface(model::InterfaceChange {
                event,
                interface: interface.to_owned(),
                group,
                time: Utc::now(),
            })
        };
        let change = |event| about(event, None);
        let event = match event {
            PortEvent::Down => change(model::InterfaceEvent::Down),
            PortEvent::Up => change(model::InterfaceEvent::Up),
            PortEvent::Deleted => change(model::InterfaceEvent::Deleted),
            PortEvent::Back => change(model::InterfaceEvent::Back),
            PortEvent::Joined { group } => about(model::InterfaceEvent::Joined, Some(*group)),
            PortEvent::Reattached { mode, reason } => {
                self.attach.receive = *mode;
                model::Event::Attach(model::AttachChange {
                    receive: self.attach.receive,
                    reason: reason.clone(),
                    time: Utc::now(),
                })
            }
        };
        self.export(event)
    }

    /// Writes an event. Windows are kept until [`Reporter::flush_windows`].
    pub fn event(&mut self, event: Event) -> Result<(), OutputError> {
        self.event_by(model::Method::Stamp, event)
    }

    /// Writes an event about a legacy agent.
    pub fn legacy_event(&mut self, event: Event) -> Result<(), OutputError> {
        self.event_by(model::Method::Echo, event)
    }

    fn event_by(&mut self, method: model::Method, event: Event) -> Result<(), OutputError> {
        match event {
            Event::PeerUp { peer, found } => {
                self.downs.up(peer, monotonic_ns());
                let change = self.peer(model::PeerEvent::Up, peer, found, method);
                self.export(model::Event::Peer(change))
            }
            Event::PeerDown { peer, found, reason } => {
                self.downs.down(peer, monotonic_ns());
                let mut change = self.peer(model::PeerEvent::Down, peer, found, method);
                change.reason = Some(reason);
                self.export(model::Event::Peer(change))
            }
            Event::PeerMoved { peer, found, from } => {
                self.downs.take_back(from);
                *self.moved_from.get_or(peer, || from) = from;
                let mut change = self.peer(model::PeerEvent::Moved, peer, found, method);
                change.moved_from = Some(from);
                self.export(model::Event::Peer(change))
            }
            Event::ClockStep { peer, by_ns, left_out } => self.export(model::Event::Clock(model::ClockStep {
                peer,
                by_ns,
                left_out,
                time: Utc::now(),
            })),
            Event::SameClockRefuted { peer, by } => {
                warn!(
                    "{peer} proves that it reads this host's clock, but its stamps cannot be from it (delays of {} ns forward \
                     and {} ns backward): a clone of this virtual machine? Its one-way delays are no longer taken for exact",
                    by.forward_ns, by.backward_ns
                );
                Ok(())
            }
            Event::TimestampFormat { peer } => {
                warn!("{}", wrong_timestamp_format(peer));
                Ok(())
            }
            Event::Window(report) => {
                self.oldest_window_ns = self.oldest_window_ns.min(report.end_ns);
                self.windows.push((method, *report));
                Ok(())
            }
            Event::Sample {
                peer,
                path,
                seq,
                sent_ns,
                reply,
                outcome,
                ..
            } => {
                if let Some(samples) = &mut self.samples {
                    let sent = sent_ns.map(|sent_ns| self.utc.utc(sent_ns));
                    samples.add(&Sample::new(peer, path, seq, sent, reply.as_ref(), outcome));
                }
                Ok(())
            }
        }
    }

    /// Writes what is known of the hops of a peer, after the windows that it is about.
    pub fn hop_event(&mut self, event: &HopEvent) -> Result<(), OutputError> {
        let name = |peer| self.peers.peek(peer).map(|identity| identity.name.clone());
        match event {
            HopEvent::Probe(sample) => {
                if let Some(samples) = &mut self.samples {
                    samples.add_hops(&Probe::new(sample, self.utc));
                }
                Ok(())
            }
            HopEvent::Window(window) => {
                let name = name(&window.peer);
                let hops = Hops::new(window, name, self.utc);
                self.export(model::Event::Hops(hops))
            }
            HopEvent::Outlier(outlier) => {
                let outlier = Outlier::new(outlier, name(&outlier.peer), self.utc);
                self.export(model::Event::Outlier(outlier))
            }
        }
    }

    pub fn has_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Writes the windows that ended before `held_ns`, or all: one table for each interval. Later ones wait for windows of
    /// the same interval whose probes may still be answered.
    pub fn flush_windows(&mut self, held_ns: Option<u64>) -> Result<(), OutputError> {
        // Cheap, because this is called at each wake-up while a window waits.
        if held_ns.is_some_and(|held_ns| held_ns <= self.oldest_window_ns) {
            return Ok(());
        }
        let complete =
            |(_, report): &mut (model::Method, Report)| held_ns.is_none_or(|held_ns| report.end_ns < held_ns);
        let mut windows: Vec<(model::Method, Report)> = self.windows.extract_if(.., complete).collect();
        let left = self.windows.iter().map(|(_, report)| report.end_ns);
        self.oldest_window_ns = left.min().unwrap_or(u64::MAX);
        windows.sort_by_key(|(method, report)| (report.end_ns, report.peer, *method, report.path));
        for interval in windows.chunk_by(|(_, a), (_, b)| a.end_ns == b.end_ns) {
            let results = self.results(interval);
            self.export(model::Event::Windows(model::Windows {
                time: Utc::now(),
                results,
            }))?;
        }
        if !windows.is_empty() {
            self.samples.iter_mut().for_each(Samples::flush);
        }
        Ok(())
    }

    pub fn counters(&mut self, counters: &BTreeMap<&'static str, u64>) -> Result<(), OutputError> {
        self.output.export(&model::Event::Counters(named(counters)))
    }

    /// Writes the summaries of the whole run.
    pub fn end(
        &mut self,
        stamp: &[Report],
        legacy: &[Report],
        counters: &BTreeMap<&'static str, u64>,
    ) -> Result<(), OutputError> {
        self.flush_windows(None)?;
        let stamp = stamp.iter().cloned().map(|report| (model::Method::Stamp, report));
        let legacy = legacy.iter().cloned().map(|report| (model::Method::Echo, report));
        let mut summaries: Vec<_> = stamp.chain(legacy).collect();
        summaries.sort_by_key(|(method, report)| (report.peer, *method, report.path));
        let results = self.results(&summaries);
        let end = model::End {
            results,
            counters: named(counters),
        };
        let mut left_out = BTreeMap::new();
        if let Some(samples) = &mut self.samples {
            samples.end();
            left_out.clone_from(samples.left_out());
        }
        self.output.end(end, &left_out)
    }

    /// Hands over the outputs, whose readers have yet to take the rest.
    pub fn into_sinks(self) -> (Sink, Option<Sink>) {
        (self.output.into_sink(), self.samples.map(Samples::into_sink))
    }

    fn peer(&self, event: model::PeerEvent, peer: IpAddr, found: Found, method: model::Method) -> model::PeerChange {
        let identity = self.peers.peek(&peer);
        model::PeerChange {
            event,
            reason: None,
            peer,
            moved_from: None,
            found,
            method,
            name: identity.map(|identity| identity.name.clone()),
            version: identity.map(|identity| identity.version.clone()),
            time: Utc::now(),
        }
    }

    /// One offset for all times until the wall clock is stepped, so that adjacent intervals meet to the nanosecond. Records that
    /// follow the windows of their interval use `self.utc` as it is, so that they have the same times.
    fn follow_wall_clock(&mut self) -> UtcOffset {
        let current = UtcOffset::now();
        if self.utc.distance_ns(current) > WALL_CLOCK_STEP_NS {
            self.utc = current;
        }
        self.utc
    }

    fn results(&mut self, reports: &[(model::Method, Report)]) -> Vec<Results> {
        let utc = self.follow_wall_clock();
        let result = |(method, report): &(model::Method, Report)| {
            let (engine, attach) = match method {
                model::Method::Stamp => (self.engine, self.attach),
                model::Method::Echo => (Engine::Socket, model::Attach::SOCKETS),
            };
            let context = Context {
                utc,
                method: *method,
                engine,
                attach,
                peer: self.peers.peek(&report.peer),
                moved_from: self.moved_from.peek(&report.peer).copied(),
                downtime: self.downs.during(report.peer, report.start_ns, report.end_ns),
                interface_down_ns: self.interface_downs.during((), report.start_ns, report.end_ns).down_ns,
            };
            Results::new(report, context)
        };
        reports.iter().map(result).collect()
    }
}

fn named(counters: &BTreeMap<&'static str, u64>) -> model::Counters {
    model::Counters {
        values: counters
            .iter()
            .map(|(&name, &value)| (name.to_owned(), value))
            .collect(),
        time: Utc::now(),
    }
}

/// Whether the groups are probed, and the peers that are probed from the start.
fn probed(probing: Option<&ProbeConfig>) -> (bool, Vec<IpAddr>) {
    match probing {
        Some(core) => (core.group.v4 || core.group.v6, core.static_peers.clone()),
        None => (false, Vec::new()),
    }
}

#[cfg(test)]
mod tests;
