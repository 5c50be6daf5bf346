//! Opens the methods that the peer answers, and runs the phases.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use log::debug;
use probe_common::family::Family;
use probe_core::attach::AttachMode;
use probe_core::compare::Phase;
use probe_core::identity::Identity;
use probe_io::compare::load::Load;
use probe_io::compare::pacer::Senders;
use probe_io::compare::priority::Priority;
use probe_io::compare::watch::Watch;
use probe_io::compare::{socket, userspace};
use probe_io::port::{Engine, Port};

use crate::command::compare::calibrate::floor;
use crate::command::compare::config::{CompareConfig, Stress};
use crate::command::compare::output::Setting;
use crate::command::compare::phase::Prober;
use crate::command::compare::report::Report;
use crate::command::shared::asking::ask;
use crate::command::shared::host::{addresses_of, agent_name, check_host, check_peers, kernel_release};
use crate::command::shared::introductions::own_identity;
use crate::command::shared::shutdown::Shutdown;
use crate::output::progress::Progress;
use crate::output::time::Utc;

/// Probes of the brief calibration.
const FLOOR_PROBES: u32 = 1_000;
/// Before the first phase: resolves addresses, warms caches, and has the far end attach its programs.
const WARM_UP_NS: u64 = 1_500_000_000;
/// Under load before the second phase.
const SETTLE_NS: u64 = 500_000_000;
/// How much longer than its probes a loaded phase may take.
const MARGIN: Duration = Duration::from_secs(30);

/// Runs until the phases are over or a signal comes, then reports.
pub async fn run(config: CompareConfig) -> Result<()> {
    check_host()?;
    let mut report = Report::open(&config)?;
    let interface = &config.port.interface;
    check_peers(interface, &addresses_of(interface).await?, &[config.peer]).await?;
    let mut shutdown = Shutdown::new(report.control(), None).context("cannot catch signals")?;
    let mut port = Port::open(config.port.clone(), Engine::Ebpf, None).await?;
    let identity = tokio::select! {
        identity = ask_identity(config.peer, &port, config.port.test_port) => identity?,
        () = shutdown.requested() => return Ok(()),
    };
    let (identity, same_clock) = identity.unzip();
    let mut setting = setting(&config, &port, identity.as_ref(), same_clock == Some(true))?;
    let Opened {
        senders,
        userspace,
        socket,
        watch,
    } = open(&config, &mut port, identity.as_ref(), &mut setting.notes)?;
    let mode = port.attachment().map(|(mode, _)| mode);
    match floor(mode.context("the interface is gone")?, FLOOR_PROBES).await {
        Ok(floor) => setting.floor = floor,
        Err(error) => setting
            .notes
            .push(format!("the noise floor could not be measured: {error}")),
    }
    let busy = match config.stress {
        Some(Stress::PerCpu) => u32::try_from(2 * setting.cpus)?,
        Some(Stress::Processes(number)) => number,
        None => 0,
    };
    report.start(setting, busy, config.stress.is_some())?;
    let mut prober = Prober {
        port,
        senders: Some(senders),
        userspace,
        socket,
        peer: config.peer,
        ssid: config.ssid,
        interval_ns: config.interval_ns,
        timeout_ns: config.timeout_ns,
        priority: config.priority,
        next_seq: 0,
        same_clock: report.same_clock(),
        refuted: false,
    };
    let outcome = phases(&config, &mut prober, busy, &mut report, &mut shutdown).await;
    // Detached before the results are written.
    drop(watch);
    drop(prober);
    // Results are reported even if the run failed.
    let outcome = report.end().and(outcome);
    let delivered = shutdown.deliver(report.into_sink(), None).await;
    outcome.and(Ok(delivered?))
}

async fn phases(
    config: &CompareConfig,
    prober: &mut Prober,
    busy: u32,
    report: &mut Report,
    shutdown: &mut Shutdown,
) -> Result<()> {
    if prober.run(WARM_UP_NS, Phase::Idle, 0, shutdown).await?.is_over {
        return Ok(());
    }
    let length = Duration::from_nanos(config.duration_ns);
    let progress = Progress::show("idle", length);
    let idle = prober.run(config.duration_ns, Phase::Idle, 0, shutdown).await?;
    drop(progress);
    report.phase(idle.result)?;
    if idle.is_over || busy == 0 {
        return Ok(());
    }
    let probing = Duration::from_nanos(config.duration_ns.saturating_add(config.timeout_ns));
    let load = Load::start(busy, probing + MARGIN).context("cannot start the busy processes")?;
    if !prober.run(SETTLE_NS, Phase::Loaded, busy, shutdown).await?.is_over {
        let _progress = Progress::show("loaded", length);
        let loaded = prober.run(config.duration_ns, Phase::Loaded, busy, shutdown).await?;
        report.phase(loaded.result)?;
    }
    drop(load);
    Ok(())
}

struct Opened {
    senders: Senders,
    userspace: Option<userspace::Receiver>,
    socket: Option<socket::Receiver>,
    watch: Option<Watch>,
}

/// Opens the methods that the peer answers; adds a note on each of the others.
fn open(config: &CompareConfig, port: &mut Port, peer: Option<&Identity>, notes: &mut Vec<String>) -> Result<Opened> {
    let interface = &config.port.interface;
    let kernel = port
        .sender(config.peer, config.ssid)
        .context("cannot open the sending socket")?;
    let mut opened = Opened {
        senders: Senders {
            userspace: None,
            socket: None,
            kernel,
        },
        userspace: None,
        socket: None,
        watch: None,
    };
    let Some(ports) = peer.and_then(|identity| identity.responder) else {
        notes.push(match peer {
            Some(_) => format!(
                "{} has no responder (--responder off, or an older kstamp): only kernel is measured",
                config.peer
            ),
            None => format!(
                "{} has no identity: it is not a kstamp, or does not answer at all. Only kernel is measured; the other \
                 methods need kstamp's responder at the far end",
                config.peer
            ),
        });
        return Ok(opened);
    };
    let endpoint = |to| {
        port.sockets(Family::of(config.peer))
            .map(|sockets| sockets.endpoint(config.peer, to))
    };
    let endpoints = endpoint(ports.userspace).zip(endpoint(ports.socket));
    let (to_userspace, to_socket) = endpoints.context("the interface is gone")?;
    let (sender, receiver) = userspace::open(interface, to_userspace, config.priority).context("method userspace")?;
    opened.senders.userspace = Some(sender);
    let watch = Watch::load(receiver.port, [0, 0]).and_then(|mut watch| {
        watch.attach(interface)?;
        Ok(watch)
    });
    opened.userspace = Some(receiver);
    match watch {
        Ok(watch) => opened.watch = Some(watch),
        Err(error) => {
            debug!("{error}");
            notes.push(format!("no anatomy: {error}"));
        }
    }
    let (sender, receiver) = socket::open(interface, to_socket, config.priority).context("method socket")?;
    opened.senders.socket = Some(sender);
    opened.socket = Some(receiver);
    Ok(opened)
}

fn setting(config: &CompareConfig, port: &Port, peer: Option<&Identity>, same_clock: bool) -> Result<Setting> {
    let (mode, _) = port.attachment().context("the interface is gone")?;
    let peer_attach = peer.and_then(|identity| identity.receive.parse().ok());
    let mut notes = config.notes.clone();
    if peer_attach == Some(AttachMode::Socket) {
        let note =
            "the far end has no kernel programs (--engine socket): a process answers the method kernel and reads T3";
        notes.push(note.to_owned());
    }
    Ok(Setting {
        agent: agent_name(&config.port.interface),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel_release(),
        interface: config.port.interface.clone(),
        peer: config.peer,
        peer_name: peer.map(|identity| identity.name.clone()),
        attach: mode,
        peer_attach,
        same_clock,
        interval: Duration::from_nanos(config.interval_ns),
        duration: Duration::from_nanos(config.duration_ns),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        realtime: config.priority == Priority::Realtime,
        start: Utc::now(),
        floor: None,
        notes,
    })
}

/// The identity of the peer, and whether it reads this host's clock; `None` if it does not answer.
async fn ask_identity(peer: IpAddr, port: &Port, test_port: u16) -> Result<Option<(Identity, bool)>> {
    let receive = port.attachment().map(|(mode, _)| mode);
    let own = own_identity("compare", port.clock(), receive, AttachMode::Tc, true, None);
    let sockets = port.sockets(Family::of(peer)).context("the interface is gone")?;
    ask(&sockets.control, sockets.endpoint(peer, test_port), &own).await
}
