//! The hub: it chooses neighbours, takes results and raises alerts.

use std::time::Duration;

use anyhow::{Result, bail};
use async_nats::jetstream;

use crate::connection::{self, Problem};

mod alerting;
pub mod alerts;
pub mod coordinator;
pub mod figures;
pub mod fleet;
mod follow;
pub mod handle;
pub mod history;
mod ingest;
pub mod lease;
pub mod matrix;
pub mod neighbours;
pub mod problems;
pub mod query;
pub mod stores;
pub mod webhook;

pub use alerts::Alerts;
pub use fleet::{Fleet, Now, PortId};
pub use handle::{Allowed, Config, Hub};
pub use matrix::Matrix;

/// Time for a server to answer at the start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

impl Hub {
    /// Connects, makes the buckets and streams that are missing, and starts to work.
    pub async fn start(config: Config) -> Result<Self> {
        let client =
            connection::connect(&config.credentials, |event| async move { log::info!("NATS: {event}") }).await?;
        let jetstream = jetstream::new(client);
        let servers = config.credentials.servers.join(", ");
        if let Err(error) = stores::make(&jetstream, &config.limits, START_TIMEOUT).await {
            // Without a connection the error says only that there was no reply.
            if let Err(Problem::Unreachable(why) | Problem::Refused(why)) =
                connection::diagnose(&config.credentials).await
            {
                bail!("{why}");
            }
            return Err(error.context(format!("the NATS server {servers} cannot be used")));
        }
        if let Some(why) = connection::too_old(&jetstream.client().server_info()) {
            bail!("{servers}: {why}");
        }
        let hub = Self::new(config, jetstream);
        hub.spawn(lease::run(hub.clone()));
        hub.spawn(coordinator::run(hub.clone()));
        hub.spawn(ingest::run(hub.clone()));
        hub.spawn(alerting::run(hub.clone()));
        Ok(hub)
    }
}

#[cfg(test)]
mod tests;
