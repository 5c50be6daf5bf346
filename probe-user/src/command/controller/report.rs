//! Converts the state of the controller to its result model.

use std::fs;

use anyhow::Result;
use probe_controller::forwarding::{Forwarding, LinkView, Notice, RouteView};
use probe_controller::link_delay::Window;
use probe_controller::openflow::id::Dpid;
use probe_controller::openflow::server::Server;
use probe_controller::topology::{Link, PortId, UNMEASURED_NS};

use crate::command::controller::config::ControllerConfig;
use crate::command::controller::output::ControllerOutput;
use crate::command::controller::output::drawing::Drawing;
use crate::command::controller::output::model::{
    ByMethod, ControllerEvent, ControllerReport, End, Happened, HopLine, LinkCounts, LinkLine, PathLine, Silence,
    Start, SummaryLine, SwitchLine,
};
use crate::command::controller::update::Update;
use crate::command::shared::host::host_name;
use crate::output::draft::Draft;
use crate::output::file::OutputFile;
use crate::output::quantity::duration_u64;
use crate::output::sink::{Control, Sink};
use crate::output::time::Utc;
use crate::serve::Feed;

pub(super) struct Reporter {
    output: ControllerOutput,
    drawing: Option<Drawing>,
    /// To the server of `--web-listen`.
    feed: Option<Feed<Update>>,
    start: Start,
}

impl Reporter {
    pub(super) fn open(config: &ControllerConfig) -> Result<Self> {
        let output = OutputFile::open(config.output.as_deref())?;
        let drawing = match &config.html {
            Some(path) => {
                output.check_other("--html", path, fs::metadata(path))?;
                let draft = Draft::part_of(path);
                output.check_other("the draft of --html", &draft, fs::metadata(&draft))?;
                Some(Drawing::create(path, config.report.as_secs())?)
            }
            None => None,
        };
        Ok(Self {
            output: ControllerOutput::new(config.format, host_name(), output)?,
            drawing,
            feed: None,
            start: Start {
                time: Utc::now(),
                version: env!("CARGO_PKG_VERSION"),
                listen: config.server.listen,
                tls: config.server.tls.is_some(),
                period_ns: config.forwarding.period_ns,
                measure_only: config.forwarding.measure_only,
                taps: config.taps.clone(),
            },
        })
    }

    pub(super) fn set_feed(&mut self, feed: Option<Feed<Update>>) {
        self.feed = feed;
    }

    /// The controller runs.
    pub(super) fn beat(&self, now_ns: u64) {
        if let Some(feed) = &self.feed {
            feed.beat(now_ns);
        }
    }

    fn feed(&self, update: impl FnOnce() -> Update) {
        if let Some(feed) = &self.feed {
            feed.send(update());
        }
    }

    pub(super) fn control(&self) -> Control {
        self.output.control()
    }

    pub(super) fn into_sink(self) -> Sink {
        self.output.into_sink()
    }

    pub(super) fn start(&mut self, server: &Server) -> Result<()> {
        self.start.time = Utc::now();
        self.start.listen = server.address();
        self.feed(|| Update::Start(self.start.clone()));
        Ok(self.output.event(&ControllerEvent::Start(self.start.clone()))?)
    }

    pub(super) fn notice(&mut self, notice: &Notice, forwarding: &Forwarding) -> Result<()> {
        let (event, text) = describe(notice, forwarding);
        let happened = Happened {
            time: Utc::now(),
            event,
            text,
        };
        self.feed(|| Update::Event(happened.clone()));
        Ok(self.output.event(&ControllerEvent::Event(happened))?)
    }

    pub(super) fn report(&mut self, forwarding: &Forwarding, server: &Server) -> Result<()> {
        self.write(forwarding, server, false)
    }

    pub(super) fn end(&mut self, forwarding: &Forwarding, server: &Server) -> Result<()> {
        self.write(forwarding, server, true)
    }

    fn write(&mut self, forwarding: &Forwarding, server: &Server, is_last: bool) -> Result<()> {
        let report = report(forwarding, server);
        self.output.report(&report, is_last)?;
        self.feed(|| Update::Report(Box::new(report.clone())));
        if let Some(drawing) = &mut self.drawing {
            drawing.draw(&report, is_last);
        }
        Ok(())
    }
}

fn describe(notice: &Notice, forwarding: &Forwarding) -> (&'static str, String) {
    let link = |link: &Link| format!("link {} – {}", port(link.from, forwarding), port(link.to, forwarding));
    match notice {
        Notice::SwitchUp { dpid, address } => (
            "switch_up",
            format!("switch {} ({dpid}) connected from {address}", forwarding.name(*dpid)),
        ),
        Notice::SwitchDown { dpid, address, reason } => {
            let subject = match dpid {
                Some(dpid) => format!("switch {} at {address} is gone", forwarding.name(*dpid)),
                None => format!("{address} did not complete its handshake"),
            };
            ("switch_down", format!("{subject}: {reason}"))
        }
        Notice::LinkUp(up) => ("link_up", format!("{} is up", link(up))),
        Notice::LinkStale(stale) => (
            "link_stale",
            format!("{} is stale: LLDP no longer arrives", link(stale)),
        ),
        Notice::LinkDown(down) => ("link_down", format!("{} is down", link(down))),
        Notice::Segment(ports) => {
            let ports: Vec<String> = ports.iter().map(|end| port(*end, forwarding)).collect();
            let text = format!(
                "{} share a segment with several switches: its delays are not measured, and paths cross it only where there is no \
                 other path",
                ports.join(", ")
            );
            ("segment", text)
        }
        Notice::Rerouted {
            from,
            to,
            path,
            former_delay_ns,
        } => {
            let mut switches = vec![forwarding.name(*from)];
            switches.extend(path.hops.iter().map(|hop| forwarding.name(hop.into.dpid)));
            let reason = match former_delay_ns {
                Some(former_ns) => format!("now {} instead of {}", delay(path.delay_ns), delay(*former_ns)),
                None => format!("{}; the former path is broken", delay(path.delay_ns)),
            };
            let (from, to) = (forwarding.name(*from), forwarding.name(*to));
            (
                "reroute",
                format!("{from} to {to} by {}: {reason}", switches.join(" – ")),
            )
        }
        Notice::Trouble(line) => ("trouble", line.clone()),
    }
}

fn delay(delay_ns: u64) -> String {
    if delay_ns < UNMEASURED_NS {
        duration_u64(delay_ns)
    } else {
        "an unmeasured delay".to_owned()
    }
}

fn port(port: PortId, forwarding: &Forwarding) -> String {
    format!("{}:{}", forwarding.name(port.dpid), port.port)
}

fn report(forwarding: &Forwarding, server: &Server) -> ControllerReport {
    let time = Utc::now();
    let switches: Vec<SwitchLine> = forwarding
        .switches()
        .iter()
        .map(|switch| SwitchLine {
            time,
            dpid: switch.dpid.to_string(),
            name: switch.name.clone(),
            address: switch.address,
            ports: switch.ports,
            echo_ns: switch.echo.and_then(Window::minimum),
            echo_p50_ns: switch.echo.and_then(Window::median),
            baseline_ns: switch.baseline.and_then(Window::minimum),
        })
        .collect();
    let summary = summary(time, switches.len(), forwarding, server);
    ControllerReport {
        time,
        links: forwarding
            .links()
            .iter()
            .map(|view| link(time, view, forwarding))
            .collect(),
        paths: forwarding
            .routes()
            .iter()
            .map(|route| path(time, route, forwarding))
            .collect(),
        switches,
        summary,
    }
}

fn end(port: PortId, forwarding: &Forwarding) -> End {
    End::new(port, forwarding.name(port.dpid), forwarding.port_name(port))
}

fn link(time: Utc, view: &LinkView, forwarding: &Forwarding) -> LinkLine {
    let estimates = &view.estimates;
    let rtt_ns = ByMethod {
        lldp_echo: estimates.lldp_echo.map(|estimate| estimate.rtt_ns),
        bounce: estimates.bounce.map(|estimate| estimate.rtt_ns),
        kernel: estimates.kernel.map(|estimate| estimate.rtt_ns),
    };
    let off = |rtt_ns: Option<i64>| Some(rtt_ns? - estimates.kernel?.rtt_ns);
    LinkLine {
        time,
        from: end(view.link.from, forwarding),
        to: end(view.link.to, forwarding),
        state: view.state,
        silent: Silence {
            forward: view.silent[0],
            backward: view.silent[1],
        },
        lldp_ns: view.lldp_ns.into(),
        rtt_ns,
        error_ns: ByMethod {
            lldp_echo: estimates.lldp_echo.map(|estimate| estimate.error_ns),
            bounce: estimates.bounce.map(|estimate| estimate.error_ns),
            kernel: estimates.kernel.map(|estimate| estimate.error_ns),
        },
        off_ns: ByMethod {
            lldp_echo: off(rtt_ns.lldp_echo),
            bounce: off(rtt_ns.bounce),
            kernel: None,
        },
        kernel_ns: estimates.kernel_one_way_ns.into(),
        by: estimates.lldp_echo.map(|estimate| estimate.by),
        weight_ns: view.weight_ns,
        in_tree: forwarding.tree().contains(&view.link),
        negatives: view.negatives,
    }
}

fn path(time: Utc, route: &RouteView, forwarding: &Forwarding) -> PathLine {
    let mut switches = vec![forwarding.name(route.from)];
    switches.extend(route.path.hops.iter().map(|hop| forwarding.name(hop.into.dpid)));
    let hop = |hop: &probe_controller::topology::Hop| HopLine {
        from: end(hop.out, forwarding),
        to: end(hop.into, forwarding),
    };
    PathLine {
        time,
        from: route.from.to_string(),
        to: route.to.to_string(),
        switches,
        hops: route.path.hops.iter().map(hop).collect(),
        delay_ns: route.path.delay_ns,
        from_hosts: hosts(route.from, forwarding),
        to_hosts: hosts(route.to, forwarding),
    }
}

/// Hosts of a switch, by IP address if known, else by MAC address.
fn hosts(dpid: Dpid, forwarding: &Forwarding) -> Vec<String> {
    let of_switch = forwarding.hosts().filter(|(_, host)| host.port.dpid == dpid);
    let name = |(mac, host): (
        probe_controller::openflow::id::MacAddress,
        &probe_controller::forwarding::Host,
    )| match host.ip {
        Some(ip) => ip.to_string(),
        None => mac.to_string(),
    };
    of_switch.map(name).collect()
}

fn summary(time: Utc, switches: usize, forwarding: &Forwarding, server: &Server) -> SummaryLine {
    let totals = forwarding.totals();
    let counters = server.counters();
    SummaryLine {
        time,
        switches,
        links: LinkCounts::of(forwarding.links().iter().map(|view| view.state)),
        segments: forwarding.segments(),
        hosts: forwarding.hosts().count(),
        negatives: totals.negatives,
        storms: totals.storms,
        reroutes: totals.reroutes,
        broadcasts: totals.broadcasts,
        forged: totals.forged,
        sent: totals.probes.sent,
        answered: totals.probes.answered,
        lost: totals.probes.lost,
        unheard: totals.probes.unheard,
        late: totals.probes.late,
        mismatched: totals.probes.mismatched,
        hosts_displaced: totals.hosts_displaced,
        pairs_displaced: totals.pairs_displaced,
        rules_restored: totals.rules_restored,
        packet_ins_over_limit: counters.packet_ins_over_limit,
        events_dropped: counters.events_dropped,
    }
}
