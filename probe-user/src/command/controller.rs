//! `kstamp controller`: listen for switches, measure, route, report. Wiring only.

pub mod args;
pub mod config;
mod report;

use std::future::{pending, ready};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use probe_controller::forwarding::Forwarding;
use probe_controller::link_delay::TapDirection;
use probe_controller::openflow::server::{Events, Listening, Server};
use probe_host::clock::monotonic_ns;
use probe_host::timer::Timer;
use probe_io::tap::{Direction, Tapped, Taps};
use report::Reporter;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::command::controller::config::ControllerConfig;
use crate::command::shared::host::check_host;
use crate::command::shared::shutdown::Shutdown;

/// Why the controller woke up.
enum Wake {
    Events,
    Tapped(Tapped),
    Due,
    Report,
    End,
}

/// Runs until the duration is over or a signal comes, and reports what was found.
pub async fn run(config: ControllerConfig) -> Result<()> {
    if !config.taps.is_empty() {
        check_host()?;
    }
    let mut reporter = Reporter::open(&config)?;
    let mut shutdown = Shutdown::new().context("cannot catch signals")?;
    // Switches that find nobody listening wait for a second or more before they try again, and attaching takes time too.
    let listening = Listening::open(config.server.clone())?;
    let taps = match config.taps.is_empty() {
        true => None,
        false => Some(Taps::attach(&config.taps)?),
    };
    let forwarding =
        Forwarding::new(config.forwarding.clone(), monotonic_ns()).context("cannot make a key to sign LLDP with")?;
    let (server, events) = listening.start()?;
    reporter.start(&server)?;
    let mut run = Run {
        forwarding,
        server,
        events,
        taps,
        reporter,
    };
    let outcome = run.until_done(&config, &mut shutdown).await;
    // Whatever ended the run, what was measured is reported.
    run.finish().and(outcome)
}

struct Run {
    forwarding: Forwarding,
    server: Server,
    events: Events,
    taps: Option<Taps>,
    reporter: Reporter,
}

impl Run {
    async fn until_done(&mut self, config: &ControllerConfig, shutdown: &mut Shutdown) -> Result<()> {
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
                () = shutdown.requested() => Wake::End,
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
                // Whatever it was woken for, it takes the events that are there.
                Wake::Events | Wake::Due => {}
                Wake::Tapped(tapped) => self.tapped(&tapped),
                Wake::Report => self.reporter.report(&self.forwarding, &self.server)?,
                Wake::End => return Ok(()),
            }
        }
    }

    /// Takes what the server tells; true if it stopped before the end of it.
    fn take_events(&mut self) -> Result<bool> {
        loop {
            match self.events.try_recv() {
                Ok(event) => self.forwarding.event(event),
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => return Err(anyhow!("the server for switches has ended by itself")),
            }
            // Events may come faster than they can be taken; sending must not wait for their end.
            if self.forwarding.next_deadline() <= monotonic_ns() {
                return Ok(true);
            }
        }
    }

    /// Sends what is due, and tells what happened.
    fn work(&mut self) -> Result<()> {
        self.forwarding.work(monotonic_ns());
        while let Some((connection, command)) = self.forwarding.poll_command() {
            // If the connection has ended, or is so slow that it is about to be ended, that is an event of its own.
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

    /// The summary of the whole run.
    fn finish(mut self) -> Result<()> {
        let outcome = self.reporter.end(&self.forwarding, &self.server);
        self.server.stop();
        outcome
    }
}

async fn end_of(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => pending().await,
    }
}

/// The next frame that a tap saw; never, without taps. Cancel safe.
async fn next_tapped(taps: &mut Option<Taps>) -> std::io::Result<Tapped> {
    match taps {
        Some(taps) => taps.next().await,
        None => pending().await,
    }
}
