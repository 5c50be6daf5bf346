//! `kstamp compare`: three ways of measuring beside each other. Wiring only.

mod acquaint;
pub mod args;
mod course;
mod report;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use log::debug;
use probe_core::compare::Phase;
use probe_core::identity::Identity;
use probe_host::clock::realtime_ns;
use probe_io::backend::ebpf::Port;
use probe_io::compare::load::Load;
use probe_io::compare::pacer::Senders;
use probe_io::compare::priority::Priority;
use probe_io::compare::watch::Watch;
use probe_io::compare::{socket, userspace};

use crate::command::calibrate::floor;
use crate::command::compare::course::Course;
use crate::command::compare::report::Report;
use crate::command::config::{CompareConfig, Stress};
use crate::command::shutdown::Shutdown;
use crate::command::{addresses_of, check_host};
use crate::output::compare::Setting;
use crate::output::model::AttachMode;
use crate::output::time::Utc;

/// Probes of the brief calibration.
const FLOOR_PROBES: u32 = 1_000;
/// Before the first phase: addresses are resolved, caches and branches are warm, and the far end begins to watch.
const WARM_UP_NS: u64 = 1_500_000_000;
/// Under load, before the second phase.
const SETTLE_NS: u64 = 500_000_000;
/// What a loaded phase takes at most beyond its probes.
const MARGIN: Duration = Duration::from_secs(30);

/// Compares until the phases are over or a signal comes; then reports what there is.
pub async fn run(config: CompareConfig) -> Result<()> {
    check_host()?;
    let mut report = Report::open(&config)?;
    let interface = &config.port.interface;
    if addresses_of(interface).await?.contains(&config.peer) {
        bail!(
            "--peer {} is an address of {interface} itself; name the other end",
            config.peer
        );
    }
    let mut shutdown = Shutdown::new().context("cannot catch signals")?;
    let (mut port, ring) = Port::open(config.port.clone()).await?;
    let identity = tokio::select! {
        identity = acquaint::with(config.peer, &port, config.port.test_port) => identity?,
        () = shutdown.requested() => return Ok(()),
    };
    let mut setting = setting(&config, &port, identity.as_ref())?;
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
    let mut course = Course {
        port,
        ring,
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
    };
    let outcome = phases(&config, &mut course, busy, &mut report, &mut shutdown).await;
    // The programs go before the results come: nothing is measured any more.
    drop(watch);
    drop(course);
    // Whatever ended the run, what was measured is reported.
    report.end().and(outcome)
}

async fn phases(
    config: &CompareConfig,
    course: &mut Course,
    busy: u32,
    report: &mut Report,
    shutdown: &mut Shutdown,
) -> Result<()> {
    if course.run(WARM_UP_NS, Phase::Idle, 0, shutdown).await?.is_over {
        return Ok(());
    }
    let idle = course.run(config.duration_ns, Phase::Idle, 0, shutdown).await?;
    report.phase(idle.result)?;
    if idle.is_over || busy == 0 {
        return Ok(());
    }
    let probing = Duration::from_nanos(config.duration_ns.saturating_add(config.timeout_ns));
    let load = Load::start(busy, probing + MARGIN).context("cannot start the busy processes")?;
    if !course.run(SETTLE_NS, Phase::Loaded, busy, shutdown).await?.is_over {
        let loaded = course.run(config.duration_ns, Phase::Loaded, busy, shutdown).await?;
        report.phase(loaded.result)?;
    }
    drop(load);
    Ok(())
}

/// The methods, ready.
struct Opened {
    senders: Senders,
    userspace: Option<userspace::Receiver>,
    socket: Option<socket::Receiver>,
    watch: Option<Watch>,
}

/// Opens every method that the peer answers, and says of the others why not.
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
    let Some(echo) = peer.and_then(|identity| identity.responder) else {
        notes.push(match peer {
            Some(_) => format!(
                "no process of {} answers (--echo off, or an older kstamp): only kernel is measured",
                config.peer
            ),
            None => format!(
                "{} does not say who it is: it is no kstamp, or does not answer at all. Only kernel is measured, as half \
                 of a process's round trip to another reflector would not be one of processes",
                config.peer
            ),
        });
        return Ok(opened);
    };
    let endpoint = |to| {
        port.sockets(config.peer.is_ipv6())
            .map(|sockets| sockets.endpoint(config.peer, to))
    };
    let endpoints = endpoint(echo.userspace).zip(endpoint(echo.socket));
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

fn setting(config: &CompareConfig, port: &Port, peer: Option<&Identity>) -> Result<Setting> {
    let (mode, _) = port.attachment().context("the interface is gone")?;
    let peer_attach = peer.and_then(|identity| AttachMode::of_name(&identity.receive));
    let mut notes = config.notes.clone();
    if peer_attach == Some(AttachMode::Socket) {
        let note =
            "the far end has no kernel programs (--engine socket): there a process answers kernel too, and reads T3";
        notes.push(note.to_owned());
    }
    let own = probe_host::clock::clock_identity().context("cannot tell which clock this is")?;
    Ok(Setting {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: crate::command::reporter::kernel_release(),
        interface: config.port.interface.clone(),
        peer: config.peer,
        peer_name: peer.map(|identity| identity.name.clone()),
        attach: mode.into(),
        peer_attach,
        same_clock: peer.is_some_and(|identity| identity.clock == own),
        interval: Duration::from_nanos(config.interval_ns),
        duration: Duration::from_nanos(config.duration_ns),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        realtime: config.priority == Priority::Realtime,
        start: Utc { unix_ns: realtime_ns() },
        floor: None,
        notes,
    })
}
