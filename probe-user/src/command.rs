//! The subcommands, one file each: wiring only.

mod agent;
pub mod args;
mod calibrate;
pub mod compare;
pub mod config;
mod controller;
mod doctor;
mod echo;
mod echo_peers;
mod introductions;
mod key_file;
mod ping;
mod reflect;
mod reporter;
mod responder;
mod shutdown;
mod station;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use log::warn;
use probe_common::family::Family;
use probe_core::agent::config::Families;
use probe_core::identity::Identity;
use probe_host::clock::{ClockState, clock_identity};
use probe_host::link::Netlink;
use probe_host::preflight::{Facts, check};
use probe_io::port::Engine;
use probe_io::udp::sockets::{PassedUp, Sockets};

use crate::command::config::Command;

/// What to do where the programs cannot be loaded, and nothing can be done about that.
const WITHOUT_EBPF: &str = "without eBPF, --engine socket measures with the stamps of sockets";

/// How often the interface is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// Runs a validated command to its end.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Agent(config) => agent::run(*config).await,
        Command::Reflect(config) => reflect::run(*config).await,
        Command::Controller(config) => controller::run(*config).await,
        Command::Ping(config) => ping::run(*config).await,
        Command::Doctor(config) => doctor::run(config).await,
        Command::Compare(config) => compare::run(*config).await,
        Command::Calibrate(config) => calibrate::run(config).await,
    }
}

/// Refuses to go on where the kernel or this process lacks what kstamp needs; `kstamp doctor` tells all that is
/// missing.
fn check_host() -> Result<()> {
    match check(&Facts::collect()?).first() {
        Some(finding) => Err(anyhow!("{finding}; {WITHOUT_EBPF}")),
        None => Ok(()),
    }
}

/// The interface's addresses; none if it is not there.
async fn addresses_of(interface: &str) -> Result<Vec<IpAddr>> {
    let netlink = Netlink::open()?;
    let addresses = match netlink.link_by_name(interface).await? {
        Some(link) => netlink.addresses(link.index).await?,
        None => Vec::new(),
    };
    Ok(addresses.into_iter().map(|address| address.ip).collect())
}

/// IP versions of these addresses.
fn families_of(addresses: &[IpAddr]) -> Families {
    let is_present = |family| addresses.iter().any(|address| Family::of(*address) == family);
    Families {
        v4: is_present(Family::V4),
        v6: is_present(Family::V6),
    }
}

/// What whoever stamps so says of itself.
fn identity_of(
    name: &str,
    clock: ClockState,
    receive: Option<String>,
    egress: &str,
    stateful: bool,
) -> Result<Identity> {
    Ok(Identity {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        receive: receive.unwrap_or_default(),
        egress: egress.to_owned(),
        synchronised: clock.synchronised,
        error_ns: clock.error_ns,
        clock: clock_identity().context("cannot tell which clock this is")?,
        stateful,
        responder: None,
    })
}

/// Waits for a packet that is not for the kernel programs, on either IP version's sockets. Cancel safe.
async fn passed_up(engine: &Engine) -> PassedUp {
    passed_up_to(|v6| engine.sockets(v6)).await
}

/// As [`passed_up`], for the `sockets` of each IP version.
async fn passed_up_to<'a>(sockets: impl Fn(bool) -> Option<&'a Sockets>) -> PassedUp {
    let receive = async |v6| {
        let Some(sockets) = sockets(v6) else {
            return std::future::pending().await;
        };
        loop {
            match sockets.passed_up().await {
                Ok(packet) => return packet,
                Err(error) => {
                    // An ICMP error for an earlier question, or the interface went down.
                    warn!("reading packets that the programs passed up: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    };
    tokio::select! {
        packet = receive(false) => packet,
        packet = receive(true) => packet,
    }
}
