//! A running hub, as its tasks see it: configuration, connection and shared state.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use ipnet::IpNet;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::alerts::Alerts;
use super::figures::Figures;
use super::fleet::{Fleet, Now};
use super::matrix::Matrix;
use super::{neighbours, stores};
use crate::credentials::Credentials;
use crate::name::HostName;

/// Between two looks at whether the fleet is known.
const LOAD: Duration = Duration::from_millis(50);
/// Time for tasks to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The prefixes of a host's enrolment; `None` if it is not enrolled.
pub type Allowed = Arc<dyn Fn(&HostName) -> Option<Vec<IpNet>> + Send + Sync>;

#[derive(Clone)]
pub struct Config {
    /// Of the hub itself.
    pub credentials: Credentials,
    /// Signs assignments. Its public key is in the credentials of the agents.
    pub key: KeyPair,
    /// This hub among several, for people.
    pub name: String,
    /// Targets of each port.
    pub targets: usize,
    /// Turn of the targets that rotate.
    pub rotation_ns: u64,
    /// A port that was silent for this time is deleted.
    pub gone_ns: u64,
    pub allowed: Allowed,
    pub limits: stores::Limits,
    /// Where alerts are posted.
    pub webhook: Option<String>,
}

impl Config {
    pub const DEFAULT_ROTATION_NS: u64 = 120_000_000_000;
    pub const DEFAULT_GONE_NS: u64 = 86_400_000_000_000;

    pub fn new(credentials: Credentials, key: KeyPair, name: String, allowed: Allowed) -> Self {
        Self {
            credentials,
            key,
            name,
            targets: neighbours::DEFAULT_TARGETS,
            rotation_ns: Self::DEFAULT_ROTATION_NS,
            gone_ns: Self::DEFAULT_GONE_NS,
            allowed,
            limits: stores::Limits::default(),
            webhook: None,
        }
    }
}

/// A hub that holds the lease: the entry in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub hub: String,
    /// Of the process.
    pub id: u64,
}

impl Holder {
    /// With a new identifier.
    pub fn new(hub: String) -> Self {
        let id = RandomState::new().build_hasher().finish();
        Self { hub, id }
    }
}

/// A running hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    jetstream: jetstream::Context,
    fleet: Mutex<Fleet>,
    matrix: Mutex<Matrix>,
    alerts: Mutex<Alerts>,
    figures: Mutex<Figures>,
    /// This process, as it holds the lease.
    holder: Holder,
    /// `CLOCK_MONOTONIC` until which this hub coordinates.
    lease_until_ns: AtomicU64,
    /// The hub that coordinates, as far as this one knows.
    coordinator: Mutex<Option<String>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Hub {
    pub(super) fn new(config: Config, jetstream: jetstream::Context) -> Self {
        Self {
            shared: Arc::new(Shared {
                holder: Holder::new(config.name.clone()),
                config,
                jetstream,
                fleet: Mutex::default(),
                matrix: Mutex::default(),
                alerts: Mutex::default(),
                figures: Mutex::default(),
                lease_until_ns: AtomicU64::new(0),
                coordinator: Mutex::default(),
                stop: watch::Sender::new(false),
                tasks: Mutex::default(),
            }),
        }
    }

    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    pub fn jetstream(&self) -> &jetstream::Context {
        &self.shared.jetstream
    }

    pub fn client(&self) -> async_nats::Client {
        self.shared.jetstream.client()
    }

    pub fn is_connected(&self) -> bool {
        self.client().connection_state() == State::Connected
    }

    /// Hold it briefly, and never while waiting.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        lock(&self.shared.fleet)
    }

    /// Hold it briefly, as the fleet, and lock the fleet before it if both are needed.
    pub fn matrix(&self) -> MutexGuard<'_, Matrix> {
        lock(&self.shared.matrix)
    }

    /// Hold it briefly, as the fleet, and lock fleet and matrix before it if they are needed.
    pub fn alerts(&self) -> MutexGuard<'_, Alerts> {
        lock(&self.shared.alerts)
    }

    /// What results have come. Hold it briefly, and lock nothing else meanwhile.
    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        lock(&self.shared.figures)
    }

    /// Returns when the fleet is known. Results of unknown ports do not count.
    pub(super) async fn loaded(&self) {
        while !self.fleet().is_loaded() {
            tokio::time::sleep(LOAD).await;
        }
    }

    /// Whether this hub assigns, alerts and sends notices; others stand by.
    pub fn is_coordinator(&self) -> bool {
        probe_host::clock::monotonic_ns() < self.shared.lease_until_ns.load(Ordering::Acquire)
    }

    /// The name of the hub that coordinates, if it is known.
    pub fn coordinator(&self) -> Option<String> {
        lock(&self.shared.coordinator).clone()
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.shared.holder
    }

    pub(super) fn set_lease(&self, holder: Option<String>, until_ns: u64) {
        self.shared.lease_until_ns.store(until_ns, Ordering::Release);
        *lock(&self.shared.coordinator) = holder;
    }

    /// Runs a task until it ends, or a little longer than until [`Self::stopped`].
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.shared.tasks);
        tasks.spawn(task);
    }

    /// Returns when the hub is to stop.
    pub async fn stopped(&self) {
        let mut stop = self.shared.stop.subscribe();
        // The sender is in `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    pub(super) async fn end_tasks(&self) {
        self.shared.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.shared.tasks));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            log::warn!("some tasks of the hub did not end within {STOP_TIMEOUT:?}");
        }
    }
}

impl Now {
    pub fn read() -> Self {
        Self {
            monotonic_ns: probe_host::clock::monotonic_ns(),
            utc_ns: probe_host::clock::realtime_ns(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
