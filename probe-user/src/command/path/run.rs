//! Drives the core with one peer, and joins the hop stamps of both ends.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, anyhow, bail};
use log::warn;
use probe_common::family::Family;
use probe_common::ntp::ErrorEstimate;
use probe_core::agent::Agent;
use probe_core::agent::config::{Families, ProbeConfig};
use probe_core::attach::AttachMode;
use probe_core::hops::{HopEvent, HopWindow, HopsConfig, wire};
use probe_core::observation::{Fate, SendFailure};
use probe_core::stats::report::Counts;
use probe_host::clock::monotonic_ns;
use probe_host::link::{Link, Netlink};
use probe_host::timer::Timer;
use probe_io::hops::HopConfig;
use probe_io::ping::Pinger;
use probe_io::ping::packet::PacketPlan;
use probe_io::udp::sockets::{control_socket, endpoint};
use probe_io::udp::target::Target;
use tokio::net::UdpSocket;

use crate::command::path::config::PathConfig;
use crate::command::path::forwarding::Switches;
use crate::command::path::output::{PathOutput, PathStart, PathSummary};
use crate::command::shared::asking::ask;
use crate::command::shared::hops::HopStamps;
use crate::command::shared::host::{POLL_INTERVAL, addresses_of, check_host, check_peers, host_name, kernel_release};
use crate::command::shared::introductions::own_identity;
use crate::command::shared::shutdown::Shutdown;
use crate::output::model::hops::{Hops, Outlier};
use crate::output::time::{Utc, UtcOffset};

/// Runs until all probes are sent or a signal comes. It is an error if no reply came.
pub async fn run(config: PathConfig) -> Result<()> {
    let mut output = PathOutput::stdout(config.format, host_name(), &config.interface)?;
    let mut shutdown = Shutdown::new(output.control(), None).context("cannot catch signals")?;
    check_host()?;
    let netlink = Netlink::open()?;
    let interface = &config.interface;
    let Some(link) = netlink.link_by_name(interface).await? else {
        bail!("no interface named {interface} in this network namespace; `ip link` lists those that are there");
    };
    let addresses = addresses_of(interface).await?;
    check_peers(interface, &addresses, &[config.peer]).await?;
    let to = endpoint(config.peer, config.port, link.index);
    let plan = PacketPlan::new(config.ssid, Vec::new(), None);
    let pinger = Pinger::by_programs(interface, Target { to, dscp: 0 }, plan).await?;
    let control = control_socket(interface, Family::of(config.peer))?;
    let observers = HopConfig {
        host_netns: config.host_netns.clone(),
        port: interface.clone(),
        addresses,
        test_ports: vec![config.port],
    };
    let hops = HopStamps::attach(observers, hops_config(&config))?;
    let own = own_identity("path", pinger.clock(), None, AttachMode::Tc, true, None);
    let identity = tokio::select! {
        answer = ask(&control, to, &own) => answer?,
        () = shutdown.requested() => return Ok(()),
    };
    let switches = Switches::connect(&config.ovsdb, interface).await?;
    let started_ns = monotonic_ns();
    let peer_name = identity.as_ref().map(|(identity, _)| identity.name.clone());
    output.start(&start(&config, peer_name.clone(), switches.as_ref()))?;
    let mut agent = Agent::new(core(&config), started_ns);
    if let Some((identity, same_clock)) = &identity {
        agent.set_same_clock(config.peer, *same_clock);
        agent.set_stateful(config.peer, identity.stateful);
    }
    let mut run = Run {
        utc: UtcOffset::now(),
        agent,
        peer_name,
        to,
        netlink,
        link,
        pinger,
        control,
        hops,
        output,
        window: None,
        unsent: None,
        config,
    };
    let outcome = run.until_done(&mut shutdown).await;
    // Results are reported even if the run failed.
    let counts = run.finish(switches.as_ref()).await?;
    outcome?;
    let Run {
        output,
        config,
        unsent,
        pinger,
        hops,
        ..
    } = run;
    // Detach first: the reader may take long for the rest.
    drop((pinger, hops));
    shutdown.deliver(output.into_sink(), None).await?;
    let none = format!("no reply from {} port {}", config.peer, config.port);
    match unsent {
        _ if counts.received + counts.late > 0 => Ok(()),
        Some(why) => Err(anyhow!("{none}: the probes did not leave: {why}")),
        None => Err(anyhow!("{none}; does `kstamp agent` or `kstamp reflect` run there?")),
    }
}

fn core(config: &PathConfig) -> ProbeConfig {
    ProbeConfig {
        interval_ns: config.interval_ns,
        timeout_ns: config.timeout_ns,
        // One window for the whole run.
        report_ns: 0,
        peer_expiry_ns: u64::MAX,
        count: Some(config.count),
        group: Families { v4: false, v6: false },
        unicast: true,
        static_peers: vec![config.peer],
        first_ssid: config.ssid,
        max_peers: 1,
        samples: true,
        delays: false,
    }
}

fn hops_config(config: &PathConfig) -> HopsConfig {
    HopsConfig {
        samples: false,
        delays: false,
        outlier_ns: None,
        timeout_ns: config.timeout_ns,
    }
}

fn start(config: &PathConfig, peer_name: Option<String>, switches: Option<&Switches>) -> PathStart {
    PathStart {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        interface: config.interface.clone(),
        peer: config.peer,
        peer_name,
        port: config.port,
        ssid: config.ssid,
        count: config.count,
        interval_ns: config.interval_ns,
        timeout_ns: config.timeout_ns,
        ovs: switches.and_then(Switches::facts).cloned(),
        kernel: kernel_release(),
        time: Utc::now(),
    }
}

struct Run {
    config: PathConfig,
    utc: UtcOffset,
    agent: Agent,
    to: SocketAddr,
    netlink: Netlink,
    link: Link,
    pinger: Pinger,
    /// Asks the peer for its half.
    control: UdpSocket,
    hops: HopStamps,
    output: PathOutput,
    /// `None` if it does not tell.
    peer_name: Option<String>,
    /// That of the whole run, at its end.
    window: Option<Box<HopWindow>>,
    /// Why the last probes did not leave; `None` after a reply.
    unsent: Option<SendFailure>,
}

impl Run {
    async fn until_done(&mut self, shutdown: &mut Shutdown) -> Result<()> {
        let timer = Timer::new().context("cannot make a timer")?;
        let poll = POLL_INTERVAL.as_nanos() as u64;
        let mut poll_ns = monotonic_ns() + poll;
        let mut packet = [0; wire::PACKET_LEN + 1];
        loop {
            let now_ns = monotonic_ns();
            self.work(now_ns)?;
            if self.agent.is_settled() && self.hops.has_waited(now_ns) {
                return Ok(());
            }
            if now_ns >= poll_ns {
                self.follow().await?;
                poll_ns = now_ns + poll;
            }
            let deadlines = [
                self.agent.next_deadline(),
                Some(self.hops.next_deadline_ns()),
                Some(poll_ns),
            ];
            let deadline_ns = deadlines.into_iter().flatten().min().unwrap_or(poll_ns);
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                reached = timer.until(deadline_ns) => reached.context("the timer failed")?,
                ready = self.pinger.ready() => ready.context("waiting for replies failed")?,
                // An error is an ICMP message about an earlier question.
                Ok((length, from)) = self.control.recv_from(&mut packet) => {
                    if from.port() == self.config.port {
                        self.hops.take_answer(&packet[..length]);
                    }
                }
            }
        }
    }

    /// Follows addresses and the programs, which others may detach.
    async fn follow(&mut self) -> Result<()> {
        let asked_ns = monotonic_ns();
        let link = self.netlink.link_by_index(self.link.index).await?;
        let interface = &self.config.interface;
        let Some(link) = link else {
            bail!("{interface} is gone");
        };
        if !self.pinger.follow(Some(&link), asked_ns) {
            bail!("others have detached kstamp's programs from {interface}");
        }
        self.hops.follow(&addresses_of(interface).await?);
        self.link = link;
        Ok(())
    }

    /// Takes replies and stamps, expires probes, sends what is due.
    fn work(&mut self, now_ns: u64) -> Result<()> {
        self.take(now_ns);
        let Self {
            agent, pinger, unsent, ..
        } = self;
        agent.expire(now_ns, &mut |_, seq, _, sent_ns| {
            let fate = pinger.fate(seq, sent_ns);
            if let Fate::NeverLeft(why) = fate {
                *unsent = Some(why);
            }
            fate
        });
        while let Some(transmit) = agent.poll_transmit(now_ns) {
            if let Err(why) = pinger.send(transmit.seq) {
                agent.transmit_failed(&transmit, why, now_ns);
                *unsent = Some(why);
            }
        }
        self.note_events(now_ns);
        self.hops.expire(now_ns);
        let (control, to, clock) = (&self.control, self.to, self.pinger.clock());
        let error = ErrorEstimate::new(clock.synchronised, clock.error_ns);
        self.hops
            .ask(now_ns, error, |_, packet| control.try_send_to(packet, to).map(drop));
        self.report()
    }

    fn take(&mut self, now_ns: u64) {
        for answer in self.pinger.take() {
            self.agent.reply(&answer.reply, now_ns);
            self.unsent = None;
        }
        self.hops.take(now_ns);
    }

    fn note_events(&mut self, now_ns: u64) {
        while let Some(event) = self.agent.poll_event() {
            self.hops.note(&event, now_ns);
        }
    }

    fn report(&mut self) -> Result<()> {
        while let Some(event) = self.hops.poll_event() {
            match event {
                HopEvent::Window(window) => self.window = Some(window),
                HopEvent::Outlier(outlier) => {
                    self.output
                        .outlier(&Outlier::new(&outlier, self.peer_name.clone(), self.utc))?
                }
                HopEvent::Probe(_) => {}
            }
        }
        Ok(())
    }

    /// Writes the summary, and how Open vSwitch forwards the probes.
    async fn finish(&mut self, switches: Option<&Switches>) -> Result<Counts> {
        let now_ns = monotonic_ns();
        self.take(now_ns);
        let reports = self.agent.finish(now_ns);
        self.note_events(now_ns);
        self.hops.finish(now_ns);
        self.report()?;
        let Some(report) = reports.into_iter().next() else {
            bail!("nothing was measured");
        };
        let forwarding = match switches {
            Some(switches) => switches
                .forwarding(&self.link, self.to, self.pinger.source_port()?)
                .await
                .unwrap_or_else(|error| {
                    warn!("how Open vSwitch forwards the probes is not known: {error:#}");
                    None
                }),
            None => None,
        };
        let hops = self
            .window
            .take()
            .map(|window| Hops::new(&window, self.peer_name.clone(), self.utc));
        self.output
            .end(hops.as_ref(), forwarding.as_ref(), &PathSummary::new(&report))?;
        Ok(report.counts)
    }
}
