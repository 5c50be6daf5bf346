//! `kstamp hub`: the NATS server, the hub and its page, until a signal comes.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use log::warn;
use probe_host::clock::monotonic_ns;
use probe_hub::enrol::{Enrolled, Servers, StateDirectory, Version};
use probe_hub::hub::{self, Hub, query, stores};
use probe_hub::name::HostName;
use probe_hub::server::{self, Server, own_address};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::command::hub::alert_events::AlertEvents;
use crate::command::hub::config::HubConfig;
use crate::command::hub::enroll::{addresses, servers};
use crate::command::hub::output::{HubEvent, HubOutput, Start};
use crate::command::hub::site::{self, HubSite};
use crate::command::shared::reload::Reloader;
use crate::command::shared::shutdown::{Request, Shutdown};
use crate::output::file::OutputFile;
use crate::output::quantity::count;
use crate::output::time::Utc;
use crate::serve::Server as HttpServer;
use crate::service::Service;

/// Between two looks at the state directory.
const ROUND: Duration = Duration::from_secs(1);

pub async fn run(config: HubConfig, mut reloader: Reloader<HubConfig>) -> Result<()> {
    let file = OutputFile::open(config.output.as_deref())?;
    let output = HubOutput::new(config.format, config.name.to_string(), file)?;
    let mut shutdown = Shutdown::new(output.control(), None).context("cannot catch signals")?;
    shutdown.set_reloads(reloader.has_files());
    let http = config.serve.as_ref().map(HttpServer::listen).transpose()?;
    let state = StateDirectory::open(&config.fleet.state)?;
    let _lock = state.lock()?;
    let mut run = Run {
        members: Members::read(state)?,
        config,
        server: None,
        output,
        service: Service::new(),
    };
    let outcome = run.until_done(http, &mut reloader, &mut shutdown).await;
    run.service.stopping();
    // After the hub, whose last writes it takes.
    if let Some((_, server)) = run.server {
        server.stop().await;
    }
    let delivered = shutdown.deliver(run.output.into_sink(), None).await;
    outcome.and(Ok(delivered?))
}

struct Run {
    config: HubConfig,
    members: Members,
    /// The one that this hub has started.
    server: Option<(server::Config, Server)>,
    output: HubOutput,
    service: Service,
}

impl Run {
    async fn until_done(
        &mut self,
        http: Option<HttpServer>,
        reloader: &mut Reloader<HubConfig>,
        shutdown: &mut Shutdown,
    ) -> Result<()> {
        // It may take long, and can be interrupted.
        let hub = tokio::select! {
            hub = self.start() => hub?,
            () = shutdown.requested() => return Ok(()),
        };
        let outcome = self.serve(&hub, http, reloader, shutdown).await;
        hub.stop().await;
        outcome
    }

    /// Starts the server, unless it is the user's, and the hub.
    async fn start(&mut self) -> Result<Hub> {
        let config = &self.config;
        let state = self.members.state.clone();
        let agents = servers(&config.fleet, &state)?;
        let own = if config.fleet.nats.is_empty() {
            let server = server::Config {
                program: server::find(config.nats_server.as_deref()).await?,
                name: config.name.clone(),
                listen: config.nats_listen,
                store: config.store,
            };
            server::write_certificate(&state, &server, &addresses(&config.fleet, &state)?)?;
            self.server = Some((server.clone(), Server::start(&state, server).await?));
            Servers {
                urls: vec![own_address(config.nats_listen).url()],
                ca: None,
            }
        } else {
            state.write_accounts()?;
            agents.clone()
        };
        self.members.refresh()?;
        let keys = state.hub(&config.name, own)?;
        let hub = Hub::start(hub::Config {
            targets: config.neighbours,
            rotation_ns: config.rotation_ns,
            limits: stores::Limits::within(config.store),
            webhook: config.webhook.clone(),
            ..hub::Config::new(
                keys.credentials,
                keys.signing,
                config.name.to_string(),
                self.members.allowed(),
            )
        })
        .await?;
        self.output.write(&HubEvent::Start(Start {
            time: Utc::now(),
            version: env!("CARGO_PKG_VERSION"),
            name: config.name.to_string(),
            state: config.fleet.state.clone(),
            servers: agents.urls,
            nats_server: self.server.as_ref().map(|(config, _)| config.program.clone()),
            hosts: self.members.hosts(),
            listen: config.serve.as_ref().map(|serve| serve.listen),
        }))?;
        Ok(hub)
    }

    async fn serve(
        &mut self,
        hub: &Hub,
        http: Option<HttpServer>,
        reloader: &mut Reloader<HubConfig>,
        shutdown: &mut Shutdown,
    ) -> Result<()> {
        let feed = http.map(|http| http.start(HubSite::new(hub.clone()))).transpose()?;
        hub.spawn(answer_queries(hub.clone()));
        let over = end_of(self.config.duration);
        tokio::pin!(over);
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alerts = AlertEvents::default();
        self.service.ready(status(hub));
        loop {
            tokio::select! {
                request = shutdown.request() => match request {
                    Request::Reload => reload(reloader),
                    Request::End => return Ok(()),
                },
                () = &mut over => return Ok(()),
                _ = rounds.tick() => {
                    let now_ns = monotonic_ns();
                    self.service.beat(now_ns);
                    if let Some(feed) = &feed {
                        feed.beat(now_ns);
                    }
                    self.service.status(status(hub));
                    self.follow_state()?;
                    let changes = alerts.changes(hub.alerts().raised());
                    for (event, text) in changes {
                        self.output.event(event, text)?;
                    }
                }
            }
        }
    }

    /// Takes up who was enrolled or revoked, and other addresses.
    fn follow_state(&mut self) -> Result<()> {
        let changes = match self.members.refresh() {
            Ok(changes) => changes,
            Err(error) => {
                warn!("{error}; the hosts stay as they are");
                return Ok(());
            }
        };
        let Some(changes) = changes else { return Ok(()) };
        if let Some((config, server)) = &self.server {
            let state = &self.members.state;
            let renewed = addresses(&self.config.fleet, state)
                .and_then(|addresses| Ok(server::write_certificate(state, config, &addresses)?));
            if let Err(error) = renewed {
                warn!("{error:#}; the server's certificate stays as it is");
            }
            server.reload();
        }
        for (event, name) in changes {
            let text = match event {
                "revoked" => format!("{name} is no longer enrolled"),
                _ => format!("{name} is enrolled"),
            };
            self.output.event(event, text)?;
        }
        Ok(())
    }
}

/// Who is enrolled.
struct Members {
    state: StateDirectory,
    version: Version,
    enrolled: Arc<RwLock<BTreeMap<HostName, Enrolled>>>,
}

impl Members {
    fn read(state: StateDirectory) -> Result<Self> {
        Ok(Self {
            version: state.version(),
            enrolled: Arc::new(RwLock::new(state.enrolled()?)),
            state,
        })
    }

    /// Reads the directory again if it has changed, and returns who came and went.
    fn refresh(&mut self) -> Result<Option<Vec<(&'static str, HostName)>>> {
        let version = self.state.version();
        if version == self.version {
            return Ok(None);
        }
        self.version = version;
        let now = self.state.enrolled()?;
        let mut enrolled = self.enrolled.write().unwrap_or_else(PoisonError::into_inner);
        let gone = enrolled.keys().filter(|name| !now.contains_key(*name));
        let come = now.iter().filter(|(name, host)| enrolled.get(*name) != Some(*host));
        let changes = gone
            .map(|name| ("revoked", name.clone()))
            .chain(come.map(|(name, _)| ("enrolled", name.clone())))
            .collect();
        *enrolled = now;
        Ok(Some(changes))
    }

    fn hosts(&self) -> usize {
        let enrolled = self.enrolled.read().unwrap_or_else(PoisonError::into_inner);
        enrolled.values().filter(|enrolled| !enrolled.is_reader()).count()
    }

    /// The prefixes of a host, for the hub.
    fn allowed(&self) -> hub::Allowed {
        let enrolled = Arc::clone(&self.enrolled);
        Arc::new(move |name: &HostName| {
            let enrolled = enrolled.read().unwrap_or_else(PoisonError::into_inner);
            let host = enrolled.get(name).filter(|enrolled| !enrolled.is_reader())?;
            Some(host.prefixes.clone())
        })
    }
}

fn status(hub: &Hub) -> String {
    let role = if hub.is_coordinator() {
        "coordinates"
    } else {
        "stands by for"
    };
    format!("{role} {}", count(hub.fleet().ports().count() as u64, "port"))
}

/// Reads the configuration again. All keys need a restart, and those that have changed are named.
fn reload(reloader: &mut Reloader<HubConfig>) {
    match reloader.read(&[]) {
        Ok(reload) => reloader.applied(reload),
        Err(why) => reloader.refused(&why),
    }
}

async fn answer_queries(hub: Hub) {
    let answer = |name, query: String| {
        let hub = hub.clone();
        async move { site::answer(hub, name, &query).await }
    };
    if let Err(error) = query::serve(&hub, answer).await {
        warn!("no queries are answered, such as those of `kstamp hub status`: {error:#}");
    }
}

async fn end_of(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => pending().await,
    }
}
