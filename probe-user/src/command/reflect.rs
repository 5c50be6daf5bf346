//! `kstamp reflect`: the reflecting half alone.

use anyhow::{Context as _, Result};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::config::ReflectConfig;
use super::echo::EchoService;
use super::introductions::Introductions;
use super::reporter::Reporter;
use super::responder::Responder;
use super::shutdown::Shutdown;
use super::{LOOK_AFTER, addresses_of, counters, families_of, identity, open, passed_up};
use crate::engine::sockets::PassedUp;
use crate::host::privileges::reduce;

/// Answers until the duration is over or a signal comes, and reports what the programs counted.
pub async fn run(mut config: ReflectConfig) -> Result<()> {
    let mut reporter = Reporter::open(&config.output)?;
    config.limit_to(families_of(&addresses_of(&config.port.interface).await?));
    let mut shutdown = Shutdown::new().context("cannot catch signals")?;
    let mut engine = open(config.port.clone(), &config.stamping).await?;
    let mut echo = EchoService::load(&config.port.interface, config.echo());
    let privileges = reduce(
        config.user.as_deref(),
        engine.kind(),
        config.port.test_port,
        echo.is_realtime(),
    )?;
    echo.start(&engine);
    let own = identity(&config.name, &engine, !config.stamping.stateless)?;
    let mut introductions = Introductions::new(own, config.port.test_port);
    introductions.set_echo(&echo);
    let mut responder = Responder::new(&config.port, &config.stamping, &engine);
    reporter.start(&config, &engine, privileges)?;

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
            _ = report.tick() => reporter.counters(&counters(&mut engine, &responder)?)?,
            _ = look_after.tick() => {
                let events = engine.poll().await;
                for event in &events {
                    reporter.port_event(&config.port.interface, event)?;
                }
                echo.look_after(&engine, &events);
                introductions.set_echo(&echo);
                introductions.follow(&engine);
                responder.follow(&engine);
            }
            passed_up = passed_up(&engine) => {
                if let PassedUp::TestPort { packet, received } = passed_up {
                    responder.answer(packet, &received, &engine, &mut introductions);
                }
            }
        }
    }
    Ok(reporter.end(&[], &counters(&mut engine, &responder)?)?)
}
