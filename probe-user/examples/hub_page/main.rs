//! The page of a hub with a made-up fleet in which each host probes all others:
//! `cargo run -p probe-user --example hub_page -- 127.0.0.1:9864 1000`.
//!
//! Each second a tenth of the hosts gets new windows.

mod made_up;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use probe_host::clock::monotonic_ns;
use probe_hub::hub::alerts::Alerts;
use probe_hub::hub::fleet::{Fleet, Now};
use probe_hub::hub::history::{History, Range};
use probe_hub::hub::matrix::Matrix;
use probe_hub::name::PortName;
use probe_user::command::hub::site::{HubSite, Source};
use probe_user::serve::{ServeConfig, Server};

/// Seconds in which all hosts get new windows.
const ROUND: u32 = 10;

#[derive(Default)]
struct State {
    fleet: Mutex<Fleet>,
    matrix: Mutex<Matrix>,
    alerts: Mutex<Alerts>,
    newest_ns: Mutex<Option<u64>>,
}

#[derive(Clone, Default)]
struct MadeUp(Arc<State>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for MadeUp {
    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        lock(&self.0.fleet)
    }

    fn matrix(&self) -> MutexGuard<'_, Matrix> {
        lock(&self.0.matrix)
    }

    fn alerts(&self) -> MutexGuard<'_, Alerts> {
        lock(&self.0.alerts)
    }

    fn name(&self) -> &str {
        "made-up"
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn is_coordinator(&self) -> bool {
        true
    }

    fn batches(&self) -> u64 {
        self.matrix().version()
    }

    fn refused(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn newest_ns(&self) -> Option<u64> {
        *lock(&self.0.newest_ns)
    }

    async fn windows(&self, from: PortName, to: PortName, range: Range) -> Result<History> {
        Ok(made_up::past(&from, &to, range))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().context("an address and a port")?.parse()?;
    let hosts: u32 = arguments.next().context("a number of hosts")?.parse()?;
    let config = ServeConfig {
        flag: "--listen",
        listen,
        web_config: None,
    };
    let source = MadeUp::default();
    *source.fleet() = made_up::fleet(hosts, Now::read());
    made_up::alert(&mut source.alerts(), Now::read().utc_ns);
    for from in 0..hosts {
        made_up::measure(&mut source.matrix(), hosts, from, Now::read().utc_ns);
    }
    let server = Server::listen(&config)?;
    let feed = server.start(HubSite::new(source.clone()))?;
    println!("{listen}");
    let mut next = Instant::now();
    for second in 0_u32.. {
        feed.beat(monotonic_ns());
        let now = Now::read();
        made_up::beat(&mut source.fleet(), hosts, now);
        // The last host is down.
        for from in (0..hosts - 1).filter(|from| from % ROUND == second % ROUND) {
            made_up::measure(&mut source.matrix(), hosts, from, now.utc_ns);
        }
        *lock(&source.0.newest_ns) = Some(now.utc_ns);
        next += Duration::from_secs(1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
