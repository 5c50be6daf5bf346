//! Drives the core with one peer.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, anyhow, bail};
use log::warn;
use probe_common::stamp;
use probe_core::agent::Agent;
use probe_core::agent::config::{Families, ProbeConfig};
use probe_core::agent::event::Event;
use probe_core::attach::AttachMode;
use probe_core::observation::{Fate, Reply, SendFailure};
use probe_core::stats::report::Report;
use probe_host::clock::monotonic_ns;
use probe_host::link::Netlink;
use probe_host::preflight::{Facts, check};
use probe_host::timer::Timer;
use probe_io::ping::Pinger;
use probe_io::ping::answer::{PingAnswer, ReplyPacket};
use probe_io::port::Engine;
use probe_io::udp::target::Target;

use crate::command::ping::config::{PingConfig, PingEngine};
use crate::command::ping::output::{PingOutput, PingSample, PingStart};
use crate::command::ping::path::{Path, resolve};
use crate::command::shared::host::{POLL_INTERVAL, WITHOUT_EBPF, host_name, kernel_release};
use crate::command::shared::replies::{hints, wrong_timestamp_format};
use crate::command::shared::shutdown::Shutdown;
use crate::command::shared::values::AGENT_PORT;
use crate::output::model::{Attach, Context as ResultContext, Downtime, Method, Results, Sample};
use crate::output::time::{Utc, UtcOffset};

/// Runs until the count is reached or a signal comes. It is an error if no reply came.
pub async fn run(config: PingConfig) -> Result<()> {
    let mut output = PingOutput::stdout(config.format, host_name())?;
    let mut shutdown = Shutdown::new(output.control(), None).context("cannot catch signals")?;
    let to = tokio::select! {
        to = resolve(&config) => to?,
        () = shutdown.requested() => return Ok(()),
    };
    let target = Target { to, dscp: config.dscp };
    let netlink = Netlink::open()?;
    let path = Path::to(&netlink, to).await?;
    let (pinger, reason) = open(&config, target, &path).await?;
    let start = start(&config, to, &path, &pinger, reason);
    output.start(&start)?;
    let started_ns = monotonic_ns();
    let mut agent = Agent::new(core(&config, to.ip()), started_ns);
    agent.set_same_clock(to.ip(), path.is_local);
    let mut run = Run {
        utc: UtcOffset::now(),
        start,
        config,
        target,
        netlink,
        path,
        trouble: None,
        agent,
        pinger,
        before: None,
        next_seq: 0,
        first_seq: 0,
        output,
        refused: false,
        unsent: None,
    };
    let outcome = run.until_done(&mut shutdown).await;
    // Results are reported even if the run failed.
    let answered = run.finish()?;
    outcome?;
    let failure = match run.unsent {
        _ if !answered => Some(run.no_reply()),
        Some(why) => Some(anyhow!("the last probes to {} did not leave: {why}", run.start.target)),
        None => None,
    };
    let Run { output, pinger, .. } = run;
    drop(pinger);
    shutdown.deliver(output.into_sink(), None).await?;
    failure.map_or(Ok(()), Err)
}

/// Opens the engine, and returns it with the reason for this choice.
async fn open(config: &PingConfig, target: Target, path: &Path) -> Result<(Pinger, String)> {
    let by_socket = |reason: String| -> Result<(Pinger, String)> {
        Ok((Pinger::by_socket(target, config.packet.clone())?, reason))
    };
    let by_programs = async || match path.interface() {
        _ if path.is_local => Err(anyhow!("{} is an address of this host", target.to.ip())),
        Some(interface) => {
            if let Some(finding) = check(&Facts::collect()?).first() {
                return Err(anyhow!("{finding}"));
            }
            let pinger = Pinger::by_programs(interface, target, config.packet.clone()).await;
            Ok(pinger?)
        }
        None => Err(anyhow!("the interface of its route is gone")),
    };
    match config.engine {
        PingEngine::Socket(reason) => by_socket(reason.to_owned()),
        PingEngine::Ebpf if path.is_local => bail!(
            "{} is an address of this host: packets to it pass no interface on which programs could stamp them; use \
             --engine socket",
            target.to.ip()
        ),
        PingEngine::Ebpf => match by_programs().await {
            Ok(pinger) => Ok((pinger, "as requested".to_owned())),
            Err(error) => bail!("cannot use kernel programs: {error:#}; {WITHOUT_EBPF}"),
        },
        PingEngine::Auto => match by_programs().await {
            Ok(pinger) => Ok((pinger, "kernel programs can be loaded here".to_owned())),
            Err(error) => by_socket(error.to_string()),
        },
    }
}

fn start(config: &PingConfig, to: SocketAddr, path: &Path, pinger: &Pinger, engine_reason: String) -> PingStart {
    PingStart {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target: config.target.clone(),
        peer: to.ip(),
        port: to.port(),
        engine: pinger.engine(),
        engine_reason,
        interface: path.interface().map(str::to_owned),
        size: config.packet.len(),
        ssid: config.packet.ssid,
        dscp: config.dscp,
        authenticated: config.packet.key.is_some(),
        interval_ns: config.interval_ns,
        timeout_ns: config.timeout_ns,
        clock: pinger.clock().into(),
        kernel: kernel_release(),
        time: Utc::now(),
    }
}

fn core(config: &PingConfig, peer: IpAddr) -> ProbeConfig {
    ProbeConfig {
        interval_ns: config.interval_ns,
        timeout_ns: config.timeout_ns,
        report_ns: 0,
        peer_expiry_ns: u64::MAX,
        count: config.count,
        group: Families { v4: false, v6: false },
        unicast: true,
        static_peers: vec![peer],
        first_ssid: config.packet.ssid,
        max_peers: 1,
        samples: true,
        delays: false,
    }
}

struct Run {
    start: PingStart,
    utc: UtcOffset,
    config: PingConfig,
    target: Target,
    netlink: Netlink,
    path: Path,
    /// The failure of the last look at the path, so that it is reported once.
    trouble: Option<String>,
    agent: Agent,
    pinger: Pinger,
    /// The pinger of the path before, for its last replies.
    before: Option<Pinger>,
    next_seq: u32,
    /// The first probe of `pinger`.
    first_seq: u32,
    output: PingOutput,
    /// The far host reported that no process listens on the port.
    refused: bool,
    /// Why the last probes did not leave; `None` after a reply.
    unsent: Option<SendFailure>,
}

impl Run {
    async fn until_done(&mut self, shutdown: &mut Shutdown) -> Result<()> {
        let timer = Timer::new().context("cannot make a timer")?;
        let mut poll_ns = monotonic_ns() + POLL_INTERVAL.as_nanos() as u64;
        loop {
            self.work()?;
            if self.agent.is_settled() {
                return Ok(());
            }
            if monotonic_ns() >= poll_ns {
                self.follow().await;
                poll_ns = monotonic_ns() + POLL_INTERVAL.as_nanos() as u64;
            }
            let deadline_ns = self.agent.next_deadline().unwrap_or(u64::MAX).min(poll_ns);
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                reached = timer.until(deadline_ns) => reached.context("the timer failed")?,
                ready = self.pinger.ready() => ready.context("waiting for replies failed")?,
            }
        }
    }

    /// Follows the path to the target, and opens it again if it has changed.
    async fn follow(&mut self) {
        let asked_ns = monotonic_ns();
        let trouble = match Path::to(&self.netlink, self.target.to).await {
            Ok(path) => self.follow_to(path, asked_ns).await.err(),
            Err(error) => {
                let link = match self.path.index() {
                    Some(index) => self.netlink.link_by_index(index).await.ok().flatten(),
                    None => None,
                };
                self.pinger.follow(link.as_ref(), asked_ns);
                Some(error)
            }
        };
        let trouble = trouble.map(|error| format!("{error:#}"));
        if let Some(trouble) = trouble.as_ref().filter(|new| self.trouble.as_ref() != Some(new)) {
            warn!("{trouble}; trying again");
        }
        self.trouble = trouble;
    }

    async fn follow_to(&mut self, path: Path, asked_ns: u64) -> Result<()> {
        let mut changes = self.path.changes(&path);
        let is_attached = self
            .pinger
            .follow(path.link.as_ref().filter(|_| changes.is_empty()), asked_ns);
        if changes.is_empty() && !is_attached {
            changes.push("others had detached kstamp's programs".to_owned());
        }
        if changes.is_empty() {
            return Ok(());
        }
        let (pinger, reason) = open(&self.config, self.target, &path).await?;
        let by = match pinger.engine() {
            Engine::Ebpf => "with kernel programs".to_owned(),
            Engine::Socket => format!("with a socket ({reason})"),
        };
        warn!("{}; opened again {by}", changes.join(", "));
        self.take()?;
        self.before = Some(std::mem::replace(&mut self.pinger, pinger));
        self.first_seq = self.next_seq;
        self.start.engine = self.pinger.engine();
        self.start.interface = path.interface().map(str::to_owned);
        self.agent.set_same_clock(self.target.to.ip(), path.is_local);
        self.path = path;
        Ok(())
    }

    /// Takes replies, expires probes, sends what is due.
    fn work(&mut self) -> Result<()> {
        // Read before the replies, so that one stamped before `now_ns` is taken before its probe expires.
        let now_ns = monotonic_ns();
        self.take()?;
        let Self {
            agent,
            pinger,
            before,
            first_seq,
            unsent,
            ..
        } = self;
        agent.expire(now_ns, &mut |_, seq, _, sent_ns| {
            let fate = match before {
                Some(before) if seq < *first_seq => before.fate(seq, sent_ns),
                _ => pinger.fate(seq, sent_ns),
            };
            if let Fate::NeverLeft(why) = fate {
                *unsent = Some(why);
            }
            fate
        });
        self.report(None)?;
        while let Some(transmit) = self.agent.poll_transmit(now_ns) {
            self.next_seq = transmit.seq + 1;
            self.refused |= self.pinger.was_refused();
            if let Err(why) = self.pinger.send(transmit.seq) {
                self.agent.transmit_failed(&transmit, why, now_ns);
                self.unsent = Some(why);
            }
        }
        self.report(None)
    }

    fn take(&mut self) -> Result<()> {
        self.refused |= self.pinger.was_refused();
        let mut answers = self.before.as_mut().map_or_else(Vec::new, Pinger::take);
        answers.extend(self.pinger.take());
        for PingAnswer { reply, packet } in answers {
            // The core knows the session by the identifier that it assigned, which is never 0.
            let reply = Reply {
                ssid: self
                    .agent
                    .peers()
                    .first()
                    .and_then(|peer| peer.ssid())
                    .unwrap_or(reply.ssid),
                ..reply
            };
            self.agent.reply(&reply, monotonic_ns());
            self.unsent = None;
            self.report(packet)?;
        }
        Ok(())
    }

    /// Writes the core's events; `packet` belongs to the reply that it was given last.
    fn report(&mut self, mut packet: Option<ReplyPacket>) -> Result<()> {
        while let Some(event) = self.agent.poll_event() {
            if let Event::TimestampFormat { peer } = event {
                warn!("{}", wrong_timestamp_format(peer));
            } else if let Event::Sample {
                peer,
                path,
                seq,
                sent_ns,
                reply,
                outcome,
                ..
            } = event
            {
                let target = self.agent.peers().first();
                let clock = reply
                    .as_ref()
                    .zip(target)
                    .and_then(|(reply, peer)| peer.one_way_clock(reply));
                let one_way = reply.as_ref().filter(|_| clock.is_some());
                let sent = sent_ns.map(|sent_ns| self.utc.utc(sent_ns));
                let sample = PingSample {
                    sample: Sample::new(peer, path, seq, sent, reply.as_ref(), outcome),
                    forward_ns: one_way.map(Reply::forward_ns),
                    backward_ns: one_way.map(Reply::backward_ns),
                    clock,
                    reply: packet.take().filter(|_| reply.is_some()),
                };
                self.output.sample(&sample)?;
            }
        }
        Ok(())
    }

    /// Writes the summary; returns whether any reply came.
    fn finish(&mut self) -> Result<bool> {
        self.take()?;
        let summaries = self.agent.finish(monotonic_ns());
        let Some(report) = summaries.first() else {
            return Ok(false);
        };
        self.output.summary(&self.start, &self.results(report))?;
        let answered = report.counts.received + report.counts.late > 0;
        if answered {
            // Without an answer, they are the reason.
            self.hints().iter().for_each(|hint| warn!("{hint}"));
        }
        Ok(answered)
    }

    fn results(&self, report: &Report) -> Results {
        let attach = match self.start.engine {
            Engine::Ebpf => Attach {
                egress: Some(AttachMode::Tc),
                receive: AttachMode::Tc,
            },
            Engine::Socket => Attach::SOCKETS,
        };
        Results::new(
            report,
            ResultContext {
                utc: self.utc,
                method: Method::Stamp,
                engine: self.start.engine,
                attach,
                peer: None,
                moved_from: None,
                downtime: Downtime::default(),
                interface_down_ns: 0,
            },
        )
    }

    /// Hints about packets that answered no probe.
    fn hints(&self) -> Vec<String> {
        hints(&self.pinger.mismatches(), self.start.port)
    }

    /// Why there was no reply, as far as known.
    fn no_reply(&self) -> anyhow::Error {
        let PingStart { target, port, .. } = &self.start;
        let none = format!("no reply from {target} port {port}");
        if let Some(why) = self.unsent {
            return anyhow!("{none}: the probes did not leave: {why}");
        }
        if self.path.is_local {
            return anyhow!(
                "{none}: it is an address of this host, so that probes do not pass the interface on which an agent \
                 answers; run ping on another host, or name the other end"
            );
        }
        if self.refused {
            return anyhow!(
                "{none}: no process listens on this port there (ICMP port unreachable); STAMP's port is {}, kstamp's {AGENT_PORT}",
                stamp::PORT
            );
        }
        match self.hints() {
            hints if hints.is_empty() => anyhow!("{none}"),
            hints => anyhow!("{none}: {}", hints.join("; ")),
        }
    }
}
