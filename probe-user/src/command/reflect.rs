//! `kstamp reflect`: the reflecting half alone.

use anyhow::{Context as _, Result};
use probe_io::udp::sockets::PassedUp;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::command::config::ReflectConfig;
use crate::command::reporter::Reporter;
use crate::command::shutdown::Shutdown;
use crate::command::station::Station;
use crate::command::{LOOK_AFTER, addresses_of, families_of, passed_up};

/// Answers until the duration is over or a signal comes, and reports what the programs counted.
pub async fn run(mut config: ReflectConfig) -> Result<()> {
    let mut reporter = Reporter::open(&config.output)?;
    config.limit_to(families_of(&addresses_of(&config.station.port.interface).await?));
    let mut shutdown = Shutdown::new().context("cannot catch signals")?;
    let (mut station, privileges) = Station::open(&config.station).await?;
    reporter.start(&config, &station.engine, privileges)?;

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
            _ = report.tick() => reporter.counters(&station.counters()?)?,
            _ = look_after.tick() => {
                for event in station.look_after().await {
                    reporter.port_event(&config.station.port.interface, &event)?;
                }
            }
            passed_up = passed_up(&station.engine) => {
                if let PassedUp::TestPort { packet, received } = passed_up {
                    station.answer(packet, &received);
                }
            }
        }
    }
    Ok(reporter.end(&[], &station.counters()?)?)
}
