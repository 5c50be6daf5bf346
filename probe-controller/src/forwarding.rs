//! Controls the switches: measures links, learns hosts, installs paths. Without I/O: events go in with the time, commands
//! come out.

mod flood;
mod hosts;
mod ledger;
mod links;
mod measure;
mod notice;
mod paths;
mod quota;
mod reports;
mod routes;
mod rules;
mod switches;
mod traffic;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::forwarding::flood::Flood;
pub use crate::forwarding::hosts::Host;
use crate::forwarding::hosts::Hosts;
use crate::forwarding::ledger::Ledger;
pub use crate::forwarding::links::LinkView;
use crate::forwarding::links::Negatives;
use crate::forwarding::notice::Notices;
pub use crate::forwarding::notice::{Notice, Totals};
use crate::forwarding::paths::{Dispatch, Paths};
pub use crate::forwarding::routes::RouteView;
use crate::forwarding::routes::Routes;
pub use crate::forwarding::switches::SwitchView;
use crate::forwarding::switches::{Outbox, Switch, Switches};
use crate::link_delay::{Kernel, LinkDelay, Probe, Refusal, TIMEOUT_NS, TapDirection};
use crate::openflow::cookie;
use crate::openflow::flow::FlowMod;
use crate::openflow::id::{Dpid, MacAddress};
use crate::openflow::lldp::{Key, Kind, LldpProbe, NotOurs};
use crate::openflow::message::{Message, PacketIn};
use crate::openflow::server::{Command, ConnectionId, Event, EventKind};
use crate::topology::{Change, Edge, Graph, Link, PortId, Presence, Topology, choose_tree};

#[derive(Debug, Clone)]
pub struct Config {
    /// Each probe is sent once in this time.
    pub period_ns: u64,
    /// Installs only the rules that measure.
    pub measure_only: bool,
    /// A path must be better by this fraction to replace the present one: 0.1 is 10 %.
    pub reroute_gain: f64,
}

/// Limit per period on frames to unknown hosts, which are sent to all ports of hosts.
const MAX_UNKNOWN_FRAMES: u32 = 64;

/// Probes are planned this far ahead, for few wake-ups; the server sends each at its time.
const PLAN_AHEAD_NS: u64 = 20_000_000;
/// A probe is planned at least this long before its time: evaluating all links takes a few milliseconds.
const MIN_PLAN_AHEAD_NS: u64 = 5_000_000;

/// Between two looks of the ledger for commands that are due.
const LEDGER_NS: u64 = 500_000_000;
/// Least time between two evaluations because of hosts that moved.
const REINSTALL_NS: u64 = 100_000_000;
const AGE_HOSTS_NS: u64 = 10_000_000_000;

pub struct Forwarding {
    config: Config,
    key: Arc<Key>,
    switches: Switches,
    topology: Topology,
    delay: LinkDelay,
    kernel: Kernel,
    hosts: Hosts,
    routes: Routes,
    paths: Paths,
    flood: Flood,
    graph: Graph,
    tree: BTreeSet<Link>,
    views: Vec<LinkView>,
    negatives: Negatives,
    totals: Totals,
    token: u64,
    /// Time of the next evaluation.
    evaluate_ns: u64,
    /// Links changed since the last evaluation.
    is_stale: bool,
    unknown_left: u32,
    outbox: Outbox,
    ledger: Ledger,
    /// When the ledger is asked next.
    ledger_ns: u64,
    notices: Notices,
    /// Time of the last line about a storm.
    storm_said_ns: Option<u64>,
    evaluated_ns: u64,
    /// When paths are to be installed again because hosts have moved.
    reinstall_ns: Option<u64>,
    /// When hosts were last aged.
    aged_ns: u64,
}

impl Forwarding {
    /// Fails if the kernel has no random numbers for the key that signs the LLDP of this run.
    pub fn new(config: Config, now_ns: u64) -> io::Result<Self> {
        Ok(Self {
            key: Arc::new(Key::random()?),
            switches: Switches::default(),
            topology: Topology::new(config.period_ns),
            delay: LinkDelay::new(config.period_ns, now_ns),
            kernel: Kernel::default(),
            hosts: Hosts::default(),
            routes: Routes::new(config.reroute_gain),
            paths: Paths::default(),
            flood: Flood::default(),
            graph: Graph::default(),
            tree: BTreeSet::new(),
            views: Vec::new(),
            negatives: Negatives::default(),
            totals: Totals::default(),
            token: 0,
            evaluate_ns: now_ns + config.period_ns,
            is_stale: false,
            unknown_left: MAX_UNKNOWN_FRAMES,
            outbox: Outbox::new(),
            ledger: Ledger::default(),
            ledger_ns: now_ns + LEDGER_NS,
            notices: Notices::new(now_ns),
            storm_said_ns: None,
            evaluated_ns: now_ns,
            reinstall_ns: None,
            aged_ns: now_ns,
            config,
        })
    }

    pub fn event(&mut self, event: Event) {
        let Event {
            connection,
            at_ns,
            kind,
        } = event;
        match kind {
            EventKind::Connected {
                address,
                features,
                ports,
            } => self.connected(connection, address, features.dpid, ports, at_ns),
            EventKind::Gone { dpid, address, reason } => {
                self.ledger.gone(connection);
                if self.switches.remove(connection).is_some() {
                    self.gone(dpid, at_ns);
                }
                let dpid = Some(dpid);
                let reason = reason.to_string();
                self.notices.push(Notice::SwitchDown { dpid, address, reason });
            }
            EventKind::Refused { address, reason } => {
                let (dpid, reason) = (None, reason.to_string());
                self.notices.push(Notice::SwitchDown { dpid, address, reason });
            }
            other => {
                if let Some(dpid) = self.switches.of(connection) {
                    self.of_switch(dpid, other, at_ns);
                }
            }
        }
    }

    /// Takes a kernel stamp of a frame of any origin.
    pub fn tapped(&mut self, frame: &[u8], direction: TapDirection, stamp_ns: u64) {
        if let Ok(probe) = LldpProbe::decode(&self.key, frame)
            && probe.kind == Kind::Discovery
        {
            let origin = PortId {
                dpid: probe.dpid,
                port: probe.port,
            };
            self.kernel.stamped(origin, probe.sequence, direction, stamp_ns);
        }
    }

    /// Does what is due.
    pub fn work(&mut self, now_ns: u64) {
        self.plan_probes(now_ns);
        if self.topology.next_deadline().is_some_and(|due_ns| due_ns <= now_ns) {
            self.topology.expire(now_ns);
        }
        self.follow_links(now_ns);
        if now_ns >= self.ledger_ns {
            self.ledger_ns = now_ns + LEDGER_NS;
            let (cookie, mask) = cookie::own(self.config.measure_only);
            self.outbox.extend(self.ledger.due(cookie, mask, now_ns));
        }
        if now_ns >= self.evaluate_ns {
            self.evaluate_ns = now_ns + self.config.period_ns;
            self.unknown_left = MAX_UNKNOWN_FRAMES;
            self.delay.expire(now_ns);
            self.kernel.expire(now_ns, self.config.period_ns.saturating_mul(20));
            self.topology.expire(now_ns);
            self.follow_links(now_ns);
            self.notices.refill(now_ns);
            if now_ns.saturating_sub(self.aged_ns) >= AGE_HOSTS_NS {
                self.aged_ns = now_ns;
                self.age_hosts(now_ns);
            }
            self.evaluate(now_ns, true);
        } else if self.is_stale || self.reinstall_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.evaluate(now_ns, false);
        }
    }

    pub fn next_deadline(&self) -> u64 {
        let to_plan_ns = self
            .delay
            .next_deadline()
            .map(|due_ns| due_ns.saturating_sub(MIN_PLAN_AHEAD_NS));
        let due = [to_plan_ns, self.topology.next_deadline(), self.reinstall_ns];
        due.into_iter()
            .flatten()
            .fold(self.evaluate_ns.min(self.ledger_ns), u64::min)
    }

    pub fn poll_command(&mut self) -> Option<(ConnectionId, Command)> {
        let (connection, command) = self.outbox.pop_front()?;
        self.ledger.sent(connection, &command);
        Some((connection, command))
    }

    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Links at the last evaluation.
    pub fn links(&self) -> &[LinkView] {
        &self.views
    }

    pub fn routes(&self) -> Vec<RouteView> {
        self.routes.views(&self.graph)
    }

    pub fn hosts(&self) -> impl Iterator<Item = (MacAddress, &Host)> {
        self.hosts.iter()
    }

    /// Segments that several switches share.
    pub fn segments(&self) -> usize {
        self.topology
            .segments()
            .filter(|(port, serving)| port == serving)
            .count()
    }

    /// Links that carry broadcast.
    pub fn tree(&self) -> &BTreeSet<Link> {
        &self.tree
    }

    pub fn switches(&self) -> Vec<SwitchView<'_>> {
        let view = |(dpid, switch): (Dpid, &Switch)| SwitchView {
            dpid,
            name: self.switches.name(dpid),
            address: switch.address,
            ports: self.topology.ports_of(dpid).count(),
            echo: self.delay.window(Probe::Echo(dpid)),
            baseline: self.delay.window(Probe::Baseline(dpid)),
        };
        self.switches.iter().map(view).collect()
    }

    pub fn name(&self, dpid: Dpid) -> String {
        self.switches.name(dpid)
    }

    pub fn port_name(&self, port: PortId) -> Option<&str> {
        self.switches.port_name(port)
    }

    pub fn totals(&self) -> Totals {
        Totals {
            probes: self.delay.ends(),
            ..self.totals
        }
    }

    /// Passes the probes of the near future to the server, each with its time.
    fn plan_probes(&mut self, now_ns: u64) {
        let to_plan_ns = |delay: &LinkDelay| delay.next_deadline().map(|due_ns| due_ns.max(now_ns));
        if to_plan_ns(&self.delay).is_none_or(|due_ns| due_ns > now_ns + MIN_PLAN_AHEAD_NS) {
            return;
        }
        while let Some(due_ns) = to_plan_ns(&self.delay).filter(|due_ns| *due_ns <= now_ns + PLAN_AHEAD_NS) {
            let Some(transmit) = self.delay.poll_transmit(due_ns) else {
                break;
            };
            if let Some(command) = measure::command(transmit, due_ns, &self.key, &self.switches) {
                self.switches.command(transmit.probe.dpid(), command, &mut self.outbox);
            }
        }
    }

    fn start(&mut self, probe: Probe, now_ns: u64) {
        if !self.delay.start(probe, now_ns) && self.notices.is_first(None, "too many probes") {
            self.trouble("there are more than 65536 ports and switches; the rest is not measured".to_owned());
        }
    }

    /// Applies changes of links.
    fn follow_links(&mut self, now_ns: u64) {
        for Change { link, now, .. } in self.topology.take_changes() {
            let Link { from, to } = link;
            // A new link is used once it is measured, but flooding to its ports as ports of hosts must end now.
            let is_flooded = self.flood.is_of_hosts(from) || self.flood.is_of_hosts(to);
            self.is_stale |= is_flooded || matches!(now, Presence::Stale | Presence::Down | Presence::Shared);
            match now {
                Presence::Up => {
                    for end in [from, to] {
                        self.delay.restart(Probe::Lldp(end));
                        self.kernel.restart(end);
                    }
                    if let Some(rule) = rules::bounce_rule(to.dpid, to.port, from.dpid) {
                        self.rule(to.dpid, rule);
                        self.start(Probe::Bounce(from), now_ns);
                    }
                    self.notices.push(Notice::LinkUp(link));
                }
                Presence::Stale | Presence::Down | Presence::Shared => {
                    self.delay.stop(Probe::Bounce(from));
                    self.rule(to.dpid, rules::no_bounce_rule(to.port, from.dpid));
                    match now {
                        Presence::Stale => self.notices.push(Notice::LinkStale(link)),
                        Presence::Down => self.notices.push(Notice::LinkDown(link)),
                        // The notice of the segment reports it.
                        _ => {}
                    }
                }
                Presence::OneWay => {}
            }
        }
        for ports in self.topology.take_segments() {
            self.is_stale = true;
            self.notices.push(Notice::Segment(ports));
        }
    }

    /// Evaluates all links, then updates paths and the broadcast tree.
    fn evaluate(&mut self, now_ns: u64, count: bool) {
        self.is_stale = false;
        self.reinstall_ns = None;
        self.evaluated_ns = now_ns;
        let mut views = links::views(&self.topology, &self.delay, &self.kernel, now_ns);
        if count {
            self.totals.negatives += self.negatives.count(&views);
        }
        for view in &mut views {
            view.negatives = self.negatives.of(view.link);
        }
        self.views = views;
        let mut edges: Vec<Edge> = links::edges(&self.views).collect();
        if !self.config.measure_only {
            let measured = Graph::new(self.topology.switches(), edges.iter().copied());
            self.tree = choose_tree(&measured, &self.tree);
            // A segment joins only what no link joins. Elsewhere its ports are blocked: a path that leaves by one would come
            // back by the other.
            let of_segments = links::segment_edges(&self.topology);
            if !of_segments.is_empty() {
                let all = edges.iter().chain(&of_segments).copied();
                self.tree = Graph::new(self.topology.switches(), all).tree(&self.tree);
                edges.extend(of_segments.iter().filter(|edge| self.tree.contains(&edge.link)));
            }
        }
        self.graph = Graph::new(self.topology.switches(), edges);
        let switches: Vec<Dpid> = self.topology.switches().collect();
        for changed in self.routes.update(&self.graph, &switches) {
            if let Some(former_delay_ns) = changed.former {
                self.totals.reroutes += 1;
                self.notices.push(Notice::Rerouted {
                    from: changed.from,
                    to: changed.to,
                    path: changed.path,
                    former_delay_ns,
                });
            }
        }
        if !self.config.measure_only {
            self.flood.update(
                &self.tree,
                &self.topology,
                &self.switches,
                now_ns,
                &mut self.token,
                &mut self.outbox,
            );
            for pair in self.paths.pairs().collect::<Vec<_>>() {
                self.install(pair, now_ns);
            }
            let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
            self.paths.retry(&mut dispatch);
        }
    }

    fn packet_in(&mut self, dpid: Dpid, packet: &PacketIn, at_ns: u64) {
        let at = PortId {
            dpid,
            port: packet.in_port,
        };
        if !self.switches.has(at) {
            return;
        }
        match LldpProbe::decode(&self.key, &packet.frame) {
            Ok(probe) => self.probe_received(&probe, at, at_ns),
            Err(NotOurs::Other) => {
                if !self.config.measure_only && !cookie::is_measuring(packet.cookie) {
                    self.host_frame(at, &packet.frame, at_ns);
                }
            }
            Err(NotOurs::Foreign) => {
                if self.notices.is_first(Some(at), "foreign") {
                    let port = self.describe_port(at);
                    self.trouble(format!(
                        "{port}: received LLDP of another device or controller; it makes no link"
                    ));
                }
            }
            Err(error @ (NotOurs::Forged | NotOurs::Malformed(_))) => {
                self.totals.forged += 1;
                if self.notices.is_first(Some(at), "forged") {
                    let port = self.describe_port(at);
                    self.trouble(format!("{port}: {error}; it makes no link"));
                }
            }
        }
    }

    fn probe_received(&mut self, probe: &LldpProbe, at: PortId, at_ns: u64) {
        let Some(answer) = measure::frame_answer(probe, at, at_ns) else {
            return;
        };
        let is_lldp = matches!(answer.probe, Probe::Lldp(_));
        match self.delay.answer(&answer) {
            Ok(_) => {}
            // On a segment, the same LLDP arrives at several ports.
            Err(Refusal::Late) if is_lldp && at_ns.saturating_sub(answer.sent_ns) <= TIMEOUT_NS => {}
            Err(_) => return,
        }
        if let Probe::Lldp(origin) = answer.probe {
            self.topology.heard(origin, at, at_ns);
            self.follow_links(at_ns);
        }
    }

    fn rule(&mut self, dpid: Dpid, rule: FlowMod) {
        self.switches
            .command(dpid, Command::Send(Message::FlowMod(rule)), &mut self.outbox);
    }

    /// Hosts have moved: their paths are to be installed again, but not for each frame of a host that moves all the time.
    fn reinstall_soon(&mut self, now_ns: u64) {
        let soon_ns = now_ns.max(self.evaluated_ns + REINSTALL_NS);
        self.reinstall_ns.get_or_insert(soon_ns);
    }

    fn trouble(&mut self, line: String) {
        self.notices.push(Notice::Trouble(line));
    }

    fn describe_port(&self, port: PortId) -> String {
        let switch = self.switches.name(port.dpid);
        match self.switches.port_name(port) {
            Some(name) => format!("switch {switch}, port {} ({name})", port.port),
            None => format!("switch {switch}, port {}", port.port),
        }
    }
}

fn dispatch<'a>(switches: &'a Switches, token: &'a mut u64, outbox: &'a mut Outbox, now_ns: u64) -> Dispatch<'a> {
    Dispatch {
        switches,
        token,
        outbox,
        now_ns,
    }
}

#[cfg(test)]
mod tests;
