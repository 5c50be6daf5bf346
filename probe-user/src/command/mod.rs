//! The subcommands, one file each: wiring only.

mod agent;
pub mod args;
mod config;
mod doctor;
mod introductions;
mod reflect;
mod reporter;
mod shutdown;

use std::time::Duration;

use anyhow::{Context as _, Result};
use log::warn;

use crate::engine::ebpf::Port;
use crate::engine::sockets::PassedUp;
use crate::host::clock::clock_identity;
use crate::identity::Identity;

/// How often the interface is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// What this agent says of itself.
fn identity(name: &str, port: &Port) -> Result<Identity> {
    let clock = port.clock();
    Ok(Identity {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        receive: port.attachment().map(|(mode, _)| mode.to_string()).unwrap_or_default(),
        egress: "tc".to_owned(),
        synchronised: clock.synchronised,
        error_ns: clock.error_ns,
        clock: clock_identity().context("cannot tell which clock this is")?,
        stateful: true,
    })
}

/// Waits for a packet that is not for the kernel programs, on either IP version's sockets. Cancel safe.
async fn passed_up(port: &Port) -> PassedUp {
    let receive = async |v6| {
        let Some(sockets) = port.sockets(v6) else {
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
