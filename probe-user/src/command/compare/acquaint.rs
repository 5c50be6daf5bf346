//! Asks the peer who it is, before anything is measured.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use log::debug;
use tokio::time::timeout;

use crate::command::{identity, passed_up};
use crate::engine::ebpf::Port;
use crate::identity::{Identity, wire};

/// Questions before the peer is taken for one that says nothing of itself.
const QUESTIONS: u32 = 4;
/// For an answer; the first question waits for address resolution.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who `peer` is; `None` if it does not say so.
pub(super) async fn with(peer: IpAddr, port: &Port, test_port: u16) -> Result<Option<Identity>> {
    let own = identity("compare", port)?;
    let sockets = port.sockets(peer.is_ipv6()).context("the interface is gone")?;
    for _ in 0..QUESTIONS {
        let nonce = RandomState::new().hash_one(0);
        let question = wire::question(&own, port.error_estimate(), nonce).context("the question does not fit")?;
        let sent = sockets
            .control
            .try_send_to(&question, sockets.endpoint(peer, test_port));
        if let Err(error) = sent {
            debug!("cannot ask {peer} who it is: {error}");
        }
        if let Ok(identity) = timeout(PATIENCE, answer(port, test_port, nonce)).await {
            return Ok(Some(identity));
        }
    }
    Ok(None)
}

async fn answer(port: &Port, test_port: u16, nonce: u64) -> Identity {
    loop {
        let packet = passed_up(port).await;
        if packet.to_test_port || packet.from.port() != test_port {
            continue;
        }
        if let Some((_, identity)) = wire::from_answer(&packet.packet).filter(|(returned, _)| *returned == nonce) {
            return identity;
        }
    }
}
