//! `kstamp reflect`: only answers probes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use probe_core::agent::config::Families;
use probe_host::clock::monotonic_ns;
use probe_io::udp::sockets::PassedUp;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep};

use crate::command::shared::args::EndpointArgs;
use crate::command::shared::endpoint::Endpoint;
use crate::command::shared::endpoint::config::{self as endpoint, EndpointConfig};
use crate::command::shared::families::{limit, warn_of_late};
use crate::command::shared::hops;
use crate::command::shared::host::{POLL_INTERVAL, families_of_interface};
use crate::command::shared::reload::{ANSWERING, RESULTS, Reloader};
use crate::command::shared::reporter::Reporter;
use crate::command::shared::shutdown::{Request, Shutdown};
use crate::command::shared::values::{self, ConfigError, wrong};
use crate::output::{AgentFormat, OutputConfig};
use crate::service::Service;

#[derive(Debug, Clone, Args)]
pub struct ReflectArgs {
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Clone)]
pub struct ReflectConfig {
    pub endpoint: EndpointConfig,
    pub report: Duration,
    /// `None`: until a signal comes.
    pub duration: Option<Duration>,
    pub output: OutputConfig,
}

impl ReflectConfig {
    /// Families of which the interface has no address wait for one, unless they are required.
    pub fn limit_to(&mut self, present: Families) {
        if !self.endpoint.families_required {
            limit(&mut self.endpoint.port, present);
        }
    }
}

pub fn validate(args: ReflectArgs) -> Result<ReflectConfig, ConfigError> {
    if args.endpoint.format == AgentFormat::Csv {
        return wrong(
            "--format csv has a row for each window of an agent, and a reflector has none; use --format jsonl",
        );
    }
    let common = endpoint::validate(args.endpoint, false)?;
    Ok(ReflectConfig {
        endpoint: common.endpoint,
        report: Duration::from_nanos(common.report_ns.unwrap_or(values::REPORT_NS)),
        duration: common.duration_ns.map(Duration::from_nanos),
        output: common.output,
    })
}

/// Answers until the duration ends or a signal comes.
pub async fn run(mut config: ReflectConfig, mut reloader: Reloader<ReflectConfig>) -> Result<()> {
    let mut reporter = Reporter::open(&config.output)?;
    config.limit_to(families_of_interface(&config.endpoint.port.interface).await?);
    let (results, samples) = reporter.controls();
    let mut shutdown = Shutdown::new(results, samples).context("cannot catch signals")?;
    shutdown.set_reloads(reloader.has_files());
    let mut service = Service::new();
    let (mut endpoint, privileges) = Endpoint::open(&config.endpoint, &mut service).await?;
    warn_of_late(&config.endpoint.port);
    reporter.start(&config.endpoint, None, &endpoint.port, privileges)?;
    endpoint.keep(&mut service);
    service.ready(endpoint.status("answering", &config.endpoint));

    let mut poll = interval_at(Instant::now() + POLL_INTERVAL, POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report = interval_at(Instant::now() + config.report, config.report);
    let mut drain = interval(hops::DRAIN);
    drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let duration = config.duration;
    let over = async move {
        match duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            request = shutdown.request() => match request {
                Request::End => break,
                Request::Reload => {
                    if reload(&mut reloader, &mut config, &mut reporter, &mut endpoint, &mut shutdown) {
                        report = interval_at(Instant::now() + config.report, config.report);
                    }
                    poll.reset_immediately();
                }
            },
            () = &mut over => break,
            _ = report.tick() => reporter.counters(&endpoint.counters()?)?,
            () = endpoint.poll_is_due(&mut poll) => {
                let events = endpoint.poll().await;
                for event in &events {
                    reporter.port_event(&config.endpoint.port.interface, event)?;
                }
                if !events.is_empty() {
                    endpoint.keep(&mut service);
                    service.status(endpoint.status("answering", &config.endpoint));
                }
                service.beat(monotonic_ns());
            }
            _ = drain.tick(), if endpoint.hops.is_some() => endpoint.take_hops(),
            passed_up = endpoint.port.passed_up() => {
                if let PassedUp::TestPort { port, packet, received } = passed_up {
                    endpoint.answer(port, packet, &received);
                }
            }
        }
    }
    service.stopping();
    endpoint.end(&mut service, shutdown.is_followed());
    reporter.end(&[], &[], &endpoint.counters()?)?;
    drop(endpoint);
    let (results, samples) = reporter.into_sinks();
    Ok(shutdown.deliver(results, samples).await?)
}

/// Reads the configuration again, and applies what can change while it runs. Returns whether the report interval
/// has changed.
fn reload(
    reloader: &mut Reloader<ReflectConfig>,
    config: &mut ReflectConfig,
    reporter: &mut Reporter,
    endpoint: &mut Endpoint,
    shutdown: &mut Shutdown,
) -> bool {
    let live = [&["report"][..], &ANSWERING, &RESULTS].concat();
    let reload = match reloader.read(&live) {
        Ok(reload) => reload,
        Err(why) => {
            reloader.refused(&why);
            return false;
        }
    };
    let other = reload.config.clone();
    if reload.changes(&RESULTS) {
        if let Err(error) = reporter.set_outputs(&other.output, true) {
            reloader.refused(&reload.placed(&error.to_string()));
            return false;
        }
        shutdown.set_outputs(reporter.controls());
    }
    endpoint.set_answering(&other.endpoint);
    let has_other_interval = config.report != other.report;
    config.report = other.report;
    reloader.applied(reload);
    has_other_interval
}
