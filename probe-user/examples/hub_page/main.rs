//! The page of a hub with a made-up fleet in which each host probes all others:
//! `cargo run -p probe-user --example hub_page -- 127.0.0.1:9864 1000`.
//!
//! Each second a tenth of the hosts gets new windows.

mod made_up;
mod source;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use probe_host::clock::monotonic_ns;
use probe_hub::hub::fleet::Now;
use probe_user::command::hub::site::HubSite;
use probe_user::serve::{ServeConfig, Server};

use crate::made_up::MadeUp;
use crate::source::Source as _;

/// Seconds in which all hosts get new windows.
const ROUND: u32 = 10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().context("an address and a port")?.parse()?;
    let hosts: u32 = arguments.next().context("a number of hosts")?.parse()?;
    let config = ServeConfig {
        flag: "--listen",
        listen,
        web_config: None,
    };
    let source = MadeUp::new(hosts, Now::read());
    made_up::alert(&mut source.alerts(), Now::read().utc_ns);
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
        next += Duration::from_secs(1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
