//! Passes events between the server, the taps, and forwarding.

use std::future::{pending, ready};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use log::warn;
use probe_controller::forwarding::Forwarding;
use probe_controller::link_delay::TapDirection;
use probe_controller::openflow::server::{Events, Listening, Server};
use probe_host::clock::monotonic_ns;
use probe_host::timer::Timer;
use probe_io::tap::{Direction, Tapped, Taps};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::command::controller::config::ControllerConfig;
use crate::command::controller::report::Reporter;
use crate::command::controller::site::ControllerSite;
use crate::command::shared::host::{check_host, host_name};
use crate::command::shared::reload::Reloader;
use crate::command::shared::shutdown::{Request, Shutdown};
use crate::serve::Server as HttpServer;
use crate::service::Service;

enum Wake {
    Events,
    Tapped(Tapped),
    Due,
    Report,
    Reload,
    End,
}

/// Runs until the duration is over or a signal comes.
pub async fn run(mut config: ControllerConfig, mut reloader: Reloader<ControllerConfig>) -> Result<()> {
    if !config.taps.is_empty() {
        check_host()?;
    }
    let mut reporter = Reporter::open(&config)?;
    let mut shutdown = Shutdown::new(reporter.control(), None).context("cannot catch signals")?;
    shutdown.set_reloads(reloader.has_files());
    // Listen before attaching, which takes time: a refused switch waits a second or more before it tries again.
    let listening = Listening::open(config.server.clone())?;
    if let Some(warning) = config.warning() {
        warn!("{warning}");
    }
    let http = config.serve.as_ref().map(HttpServer::listen).transpose()?;
    let taps = match config.taps.is_empty() {
        true => None,
        false => Some(Taps::attach(&config.taps)?),
    };
    let forwarding =
        Forwarding::new(config.forwarding.clone(), monotonic_ns()).context("cannot make a key to sign LLDP with")?;
    let (server, events) = listening.start()?;
    let site = ControllerSite::new(&host_name());
    reporter.set_feed(http.map(|http| http.start(site)).transpose()?);
    reporter.start(&server)?;
    let mut run = Run {
        forwarding,
        server,
        events,
        taps,
        reporter,
        service: Service::new(),
    };
    run.service
        .ready(format!("listening for switches on {}", run.server.address()));
    let outcome = run.until_done(&mut config, &mut reloader, &mut shutdown).await;
    run.service.stopping();
    // Results are reported even if the run failed.
    let outcome = run.reporter.end(&run.forwarding, &run.server).and(outcome);
    let Run { server, reporter, .. } = run;
    server.stop();
    let delivered = shutdown.deliver(reporter.into_sink(), None).await;
    outcome.and(Ok(delivered?))
}

struct Run {
    forwarding: Forwarding,
    server: Server,
    events: Events,
    taps: Option<Taps>,
    reporter: Reporter,
    service: Service,
}

impl Run {
    async fn until_done(
        &mut self,
        config: &mut ControllerConfig,
        reloader: &mut Reloader<ControllerConfig>,
        shutdown: &mut Shutdown,
    ) -> Result<()> {
        let timer = Timer::new().context("cannot make a timer")?;
        let mut report = interval_at(Instant::now() + config.report, config.report);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = end_of(config.duration);
        tokio::pin!(over);
        loop {
            let is_more = self.take_events()?;
            self.work()?;
            let due_ns = self.forwarding.next_deadline();
            let wake = tokio::select! {
                biased;
                request = shutdown.request() => match request {
                    Request::Reload => Wake::Reload,
                    Request::End => Wake::End,
                },
                () = &mut over => Wake::End,
                _ = report.tick() => Wake::Report,
                () = self.events.pressing() => Wake::Events,
                tapped = next_tapped(&mut self.taps) => Wake::Tapped(tapped.context("the taps failed")?),
                reached = timer.until(due_ns) => {
                    reached.context("the timer failed")?;
                    Wake::Due
                }
                () = ready(()), if is_more => Wake::Events,
            };
            match wake {
                // The next turn of the loop takes the events.
                Wake::Events | Wake::Due => {}
                Wake::Tapped(tapped) => self.tapped(&tapped),
                Wake::Report => self.reporter.report(&self.forwarding, &self.server)?,
                Wake::Reload => {
                    reload(config, reloader);
                    if report.period() != config.report {
                        report = interval_at(Instant::now() + config.report, config.report);
                        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    }
                }
                Wake::End => return Ok(()),
            }
        }
    }

    /// Takes events of the server. Returns true if more are queued.
    fn take_events(&mut self) -> Result<bool> {
        loop {
            match self.events.try_recv() {
                Ok(event) => self.forwarding.event(event),
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => return Err(anyhow!("the server for switches has ended by itself")),
            }
            // A flood of events must not delay probes.
            if self.forwarding.next_deadline() <= monotonic_ns() {
                return Ok(true);
            }
        }
    }

    /// Sends due commands and reports notices.
    fn work(&mut self) -> Result<()> {
        let now_ns = monotonic_ns();
        self.reporter.beat(now_ns);
        self.service.beat(now_ns);
        self.forwarding.work(now_ns);
        while let Some((connection, command)) = self.forwarding.poll_command() {
            // A connection that has ended or is too slow is reported by an event of its own.
            self.server.switches().command(connection, command).ok();
        }
        while let Some(notice) = self.forwarding.poll_notice() {
            self.reporter.notice(&notice, &self.forwarding)?;
        }
        Ok(())
    }

    fn tapped(&mut self, tapped: &Tapped) {
        let direction = match tapped.direction {
            Direction::Ingress => TapDirection::Ingress,
            Direction::Egress => TapDirection::Egress,
        };
        self.forwarding.tapped(&tapped.frame, direction, tapped.stamp_ns);
    }
}

/// Reads the configuration again, and applies the report interval. All else needs a restart.
fn reload(config: &mut ControllerConfig, reloader: &mut Reloader<ControllerConfig>) {
    match reloader.read(&["report"]) {
        Ok(reload) => {
            config.report = reload.config.report;
            reloader.applied(reload);
        }
        Err(why) => reloader.refused(&why),
    }
}

async fn end_of(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => pending().await,
    }
}

/// Returns the next tapped frame; waits forever without taps. Cancel safe.
async fn next_tapped(taps: &mut Option<Taps>) -> std::io::Result<Tapped> {
    match taps {
        Some(taps) => taps.next().await,
        None => pending().await,
    }
}
