//! The hub: it chooses neighbours, takes results and raises alerts.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_nats::{Event, jetstream};
use tokio::sync::Notify;

use crate::connection::{self, Problem, authorization_is_violated};
use crate::credentials::Credentials;

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
/// Time for a server to answer before the hub looks for the reason why none does.
const PATIENCE: Duration = Duration::from_secs(2);

impl Hub {
    /// Connects, makes the buckets and streams that are missing, and starts to work.
    pub async fn start(config: Config) -> Result<Self> {
        let violated = Arc::new(Notify::new());
        let note = {
            let violated = Arc::clone(&violated);
            move |event: Event| {
                if matches!(&event, Event::ClientError(error) if authorization_is_violated(error)) {
                    violated.notify_one();
                }
                async move { log::info!("NATS: {event}") }
            }
        };
        let client = connection::connect(&config.credentials, note).await?;
        let jetstream = jetstream::new(client);
        let servers = config.credentials.servers.join(", ");
        let made = tokio::select! {
            made = stores::make(&jetstream, &config.limits, START_TIMEOUT) => made,
            why = refusal(&config.credentials) => bail!("{why}"),
            // Of several servers, one may not have been reloaded yet.
            () = violated.notified(), if config.credentials.servers.len() == 1 => bail!(
                "{servers}: the NATS server does not know the key of this hub; have it include accounts.conf of the state \
                 directory in its accounts, and reload it"
            ),
        };
        if let Err(error) = made {
            // Without a connection the error says only that there was no reply.
            if let Err(Problem::Unreachable(why) | Problem::Refused(why)) =
                connection::diagnose(&config.credentials).await
            {
                bail!("{why}");
            }
            let hint = match stores::lacks_jetstream(&error) {
                true => "; have it include accounts.conf of the state directory in its accounts, and turn JetStream on",
                false => "",
            };
            bail!("the NATS server {servers} cannot be used: {error:#}{hint}");
        }
        if let Some(why) = connection::too_old_of(&config.credentials, &jetstream.client().server_info()) {
            bail!("{why}");
        }
        let hub = Self::new(config, jetstream);
        hub.spawn(lease::run(hub.clone()));
        hub.spawn(coordinator::run(hub.clone()));
        hub.spawn(ingest::run(hub.clone()));
        hub.spawn(alerting::run(hub.clone()));
        Ok(hub)
    }

    /// Ends all tasks, and then gives the lease up: another hub goes on with what they have stored last.
    pub async fn stop(&self) {
        self.end_tasks().await;
        lease::give_up(self).await;
    }
}

/// Returns why no server can be used. If that may change, it does not return, and logs why no server can be reached.
async fn refusal(credentials: &Credentials) -> String {
    tokio::time::sleep(PATIENCE).await;
    match connection::diagnose(credentials).await {
        Err(Problem::Refused(why)) => return why,
        Err(Problem::Unreachable(why)) => {
            log::warn!(
                "cannot reach the NATS server: {why}. The hub tries for {} s in all",
                START_TIMEOUT.as_secs()
            );
        }
        Ok(()) => {}
    }
    pending().await
}

#[cfg(test)]
mod tests;
