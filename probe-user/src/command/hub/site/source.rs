//! Where the site finds the state of a fleet.

use std::sync::MutexGuard;

use anyhow::Result;
use probe_hub::hub::Hub;
use probe_hub::hub::alerts::Alerts;
use probe_hub::hub::fleet::{Fleet, Now};
use probe_hub::hub::history::{self, History, Range};
use probe_hub::hub::matrix::Matrix;
use probe_hub::name::PortName;

use crate::command::hub::site::rows::HubLine;

pub trait Source: Clone + Send + Sync + 'static {
    fn fleet(&self) -> MutexGuard<'_, Fleet>;
    /// Locked after the fleet, if both are.
    fn matrix(&self) -> MutexGuard<'_, Matrix>;
    fn alerts(&self) -> MutexGuard<'_, Alerts>;
    fn name(&self) -> &str;
    fn is_connected(&self) -> bool;
    /// Whether this hub assigns and alerts.
    fn is_coordinator(&self) -> bool;
    /// The hub that does, if it is known.
    fn coordinator(&self) -> Option<String>;
    /// Batches that were taken.
    fn batches(&self) -> u64;
    /// Batches that were not, by reason.
    fn refused(&self) -> Vec<(&'static str, u64)>;
    fn windows(&self, from: PortName, to: PortName, range: Range) -> impl Future<Output = Result<History>> + Send;
}

impl Source for Hub {
    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet()
    }

    fn matrix(&self) -> MutexGuard<'_, Matrix> {
        self.matrix()
    }

    fn alerts(&self) -> MutexGuard<'_, Alerts> {
        self.alerts()
    }

    fn name(&self) -> &str {
        &self.config().name
    }

    fn is_connected(&self) -> bool {
        self.is_connected()
    }

    fn is_coordinator(&self) -> bool {
        self.is_coordinator()
    }

    fn coordinator(&self) -> Option<String> {
        self.coordinator()
    }

    fn batches(&self) -> u64 {
        self.figures().batches
    }

    fn refused(&self) -> Vec<(&'static str, u64)> {
        let figures = self.figures();
        let wrong = figures.wrong.values().sum();
        vec![
            ("old_window", figures.old),
            ("unknown_port", figures.unknown),
            ("wrong_content", wrong),
        ]
    }

    async fn windows(&self, from: PortName, to: PortName, range: Range) -> Result<History> {
        history::windows(self, &from, &to, range).await
    }
}

pub fn hub_line(source: &impl Source, now: Now) -> HubLine {
    let (newest_ns, oldest_ns, pairs) = {
        let matrix = source.matrix();
        (matrix.newest_ns(), matrix.oldest_ns(), matrix.len())
    };
    let age_ns = |end_ns| now.utc_ns.saturating_sub(end_ns);
    let fleet = source.fleet();
    let alive = fleet.ports().filter(|(id, _)| fleet.is_alive(*id, now.monotonic_ns));
    let hosts_alive = fleet
        .hosts()
        .filter(|(host, _)| fleet.is_host_alive(host, now.monotonic_ns));
    HubLine {
        name: source.name().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        connected: source.is_connected(),
        coordinating: source.is_coordinator(),
        coordinator: source.coordinator(),
        hosts: fleet.hosts().count(),
        hosts_alive: hosts_alive.count(),
        ports: fleet.ports().count(),
        ports_alive: alive.count(),
        batches: source.batches(),
        pairs,
        newest_age_ns: newest_ns.map(age_ns),
        oldest_age_ns: oldest_ns.map(age_ns),
    }
}
