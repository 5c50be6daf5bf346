//! `kstamp reflect`: the reflecting half alone.

use anyhow::{Context as _, Result};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::config::ReflectConfig;
use super::echo::EchoService;
use super::introductions::Introductions;
use super::reporter::Reporter;
use super::shutdown::Shutdown;
use super::{LOOK_AFTER, addresses_of, check_host, families_of, identity, passed_up};
use crate::engine::ebpf::Port;
use crate::host::clock::monotonic_ns;

/// Answers until the duration is over or a signal comes, and reports what the programs counted.
pub async fn run(mut config: ReflectConfig) -> Result<()> {
    check_host()?;
    let mut reporter = Reporter::open(&config.output)?;
    config.limit_to(families_of(&addresses_of(&config.port.interface).await?));
    let mut shutdown = Shutdown::new().context("cannot catch signals")?;
    let (mut port, _ring) = Port::open(config.port.clone()).await?;
    let mut introductions = Introductions::new(identity(&config.name, &port)?, config.port.test_port);
    let mut echo = EchoService::start(&config.port.interface, config.echo, &port);
    introductions.set_echo(&echo);
    reporter.start(&config, &port)?;

    let mut look_after = interval_at(Instant::now() + LOOK_AFTER, LOOK_AFTER);
    look_after.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report = interval_at(Instant::now() + config.report, config.report);
    let over = async {
        match config.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            () = &mut over => break,
            _ = report.tick() => reporter.counters(&port.counters()?)?,
            _ = look_after.tick() => {
                let events = port.poll().await;
                for event in &events {
                    reporter.port_event(&config.port.interface, event)?;
                }
                echo.look_after(&port, &events);
                introductions.set_echo(&echo);
                introductions.follow(&port);
            }
            packet = passed_up(&port) => introductions.answer(&packet, &port, monotonic_ns()),
        }
    }
    Ok(reporter.end(&[], &port.counters()?)?)
}
