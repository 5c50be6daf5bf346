//! Asks the peer whether it agrees, plans the run, and writes its results until it ends.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, anyhow, bail};
use probe_common::family::Family;
use probe_common::ntp::ErrorEstimate;
use probe_core::attach::AttachMode;
use probe_core::identity::Identity;
use probe_core::identity::agreement;
use probe_core::volley::{Histogram, Mode, Plan, PlanInputs, Snapshot, Totals, plan};
use probe_host::clock::{ClockState, monotonic_ns};
use probe_host::cpu::Spent;
use probe_host::link::Netlink;
use probe_host::preflight::{Facts, check};
use probe_host::timer::Timer;
use probe_io::udp::sockets::{control_socket, endpoint};
use probe_io::udp::target::Target;
use probe_io::volley::{self, Volley, capabilities};

use crate::command::shared::asking::ask;
use crate::command::shared::host::{addresses_of, check_peers, kernel_release};
use crate::command::shared::introductions::own_identity;
use crate::command::shared::shutdown::Shutdown;
use crate::command::volley::config::VolleyConfig;
use crate::command::volley::output::{BurstFields, VolleyStart, path};
use crate::command::volley::report::{Files, Report};
use crate::output::time::{Utc, UtcOffset};

/// Maximum time between two reads of the samples.
const POLL_NS: u64 = 100_000_000;

/// Runs until the duration has passed or a signal comes, then reports.
pub async fn run(config: VolleyConfig) -> Result<()> {
    if let Some(finding) = check(&Facts::collect()?).first() {
        bail!("{finding}");
    }
    let files = Files::open(&config)?;
    let (results, samples) = files.controls();
    let mut shutdown = Shutdown::new(results, samples).context("cannot catch signals")?;
    let peer = tokio::select! {
        peer = Peer::find(&config) => peer?,
        () = shutdown.requested() => return Ok(()),
    };
    let plan = plan_with(&config, &peer).await?;
    let clock = ClockState::read()?;
    let mut volley = Volley::open(volley::VolleyConfig {
        interface: config.interface.clone(),
        target: Target { to: peer.to, dscp: 0 },
        source_port: None,
        plan,
        duration_ns: Some(config.duration_ns),
        sample_every: config.samples.as_ref().map(|_| config.samples_every),
        one_way: peer.same_clock,
        error: ErrorEstimate::new(clock.synchronised, clock.error_ns),
    })
    .await?;
    tokio::select! {
        started = volley.start(config.inputs.mode.is_none()) => started?,
        () = shutdown.requested() => return Ok(()),
    }
    let started_ns = monotonic_ns();
    let utc = UtcOffset::now();
    let start = start(&config, &peer, volley.plan(), clock, utc.utc(started_ns));
    let mut report = Report::new(files, start, utc, nothing(started_ns, peer.same_clock))?;
    let before = Spent::now();
    let outcome = follow(&mut volley, &mut report, started_ns, &mut shutdown).await;
    let sent_until_ns = monotonic_ns().min(started_ns.saturating_add(config.duration_ns));
    let is_stopped = !volley.is_over();
    let run = volley.stop(is_stopped).await;
    report.samples(&volley.take_samples());
    let used = before
        .zip(Spent::now())
        .and_then(|(before, now)| now.used_since(&before));
    let cpu_ns = used.and_then(|used| u64::try_from(used.as_nanos()).ok());
    let (plan, failure) = (volley.plan().clone(), volley.failure());
    // Detached before the results are written.
    drop(volley);
    let files = report.end(&run, &plan, sent_until_ns, cpu_ns)?;
    outcome?;
    let (results, samples) = files.into_sinks();
    shutdown.deliver(results, samples).await?;
    if let Some(why) = failure {
        bail!("{}: {why}", config.interface);
    }
    if run.totals.received == 0 {
        bail!("no reply from {} port {}", config.peer, config.port);
    }
    Ok(())
}

/// Adds rows until the run is over or a signal comes.
async fn follow(volley: &mut Volley, report: &mut Report, started_ns: u64, shutdown: &mut Shutdown) -> Result<()> {
    let timer = Timer::new().context("cannot make a timer")?;
    let step_ns = report.step_ns();
    let mut next_ns = started_ns + step_ns;
    while !volley.is_over() {
        let now_ns = monotonic_ns();
        if now_ns >= next_ns {
            report.add(&volley.snapshot(), false)?;
            // A late step does not delay the next ones.
            next_ns = started_ns + (now_ns.saturating_sub(started_ns) / step_ns + 1) * step_ns;
        }
        report.samples(&volley.take_samples());
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            reached = timer.until(next_ns.min(now_ns + POLL_NS)) => reached.context("the timer failed")?,
        }
    }
    Ok(())
}

/// The other end.
struct Peer {
    to: SocketAddr,
    identity: Option<Identity>,
    same_clock: bool,
    /// What it agrees to, in probes per second.
    limit: Option<u64>,
}

impl Peer {
    /// Asks the peer whether it agrees. Fails unless it is another host and agrees, or `--force` is given.
    async fn find(config: &VolleyConfig) -> Result<Self> {
        let (interface, peer) = (&config.interface, config.peer);
        let link = Netlink::open()?.link_by_name(interface).await?;
        let Some(link) = link else {
            bail!("no interface named {interface} in this network namespace; `ip link` lists those that are there");
        };
        check_peers(interface, &addresses_of(interface).await?, &[peer]).await?;
        let to = endpoint(peer, config.port, link.index);
        let own = own_identity("volley", ClockState::read()?, None, AttachMode::XdpNative, true, None);
        let answer = ask(&control_socket(interface, Family::of(peer))?, to, &own).await?;
        let (identity, same_clock) = answer.unzip();
        let limit = agreement::limit(identity.as_ref(), config.force);
        Ok(Self {
            to,
            limit: limit.map_err(|why| anyhow!("{peer} port {} {why}", config.port))?,
            identity,
            same_clock: same_clock == Some(true),
        })
    }
}

async fn plan_with(config: &VolleyConfig, peer: &Peer) -> Result<Plan> {
    let able = capabilities(&config.interface, config.peer).await?;
    let inputs = PlanInputs {
        rate_per_s: config.rate.within(peer.limit),
        ..config.inputs.clone()
    };
    plan(&inputs, peer.limit, &able).with_context(|| config.interface.clone())
}

fn start(config: &VolleyConfig, peer: &Peer, plan: &Plan, clock: ClockState, time: Utc) -> VolleyStart {
    let identity = peer.identity.as_ref();
    VolleyStart {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        interface: config.interface.clone(),
        peer: config.peer,
        peer_name: identity.map(|identity| identity.name.clone()),
        port: config.port,
        mode: plan.mode,
        mode_reason: plan.reason.clone(),
        path: path(plan.mode),
        peer_attach: identity.and_then(|identity| identity.receive.parse().ok()),
        volley_limit: identity.and_then(|identity| identity.volley_limit),
        forced: config.force,
        rate_limit: plan.rate_per_s,
        balls: (plan.mode == Mode::Volley).then_some(plan.balls),
        batch: (plan.mode == Mode::Train).then_some(plan.batch),
        burst: (!plan.continuous).then_some(BurstFields {
            probes: plan.burst.probes,
            period_ns: plan.burst.period_ns,
        }),
        timeout_ns: plan.timeout_ns,
        duration_ns: config.duration_ns,
        every_ns: config.every_ns,
        samples_every: config.samples.as_ref().map(|_| config.samples_every),
        clock: clock.into(),
        kernel: kernel_release(),
        time,
    }
}

/// The snapshot at the start of a run.
fn nothing(at_ns: u64, one_way: bool) -> Snapshot {
    Snapshot {
        at_ns,
        totals: Totals::default(),
        rtt: Histogram::default(),
        residence: Histogram::default(),
        forward: one_way.then(Histogram::default),
        backward: one_way.then(Histogram::default),
        clock_step_ns: None,
    }
}
