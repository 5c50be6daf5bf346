//! Asks the peer who it is, before anything is measured.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use log::debug;
use probe_core::identity::{Identity, wire};
use probe_io::backend::ebpf::Port;
use probe_io::udp::sockets::PassedUp;
use tokio::time::timeout;

use crate::command::{identity_of, passed_up_to};

/// Questions before the peer is taken for one that says nothing of itself.
const QUESTIONS: u32 = 4;
/// For an answer; the first question waits for address resolution.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who `peer` is; `None` if it does not say so.
pub(super) async fn with(peer: IpAddr, port: &Port, test_port: u16) -> Result<Option<Identity>> {
    let receive = port.attachment().map(|(mode, _)| mode.to_string());
    let own = identity_of("compare", port.clock(), receive, "tc", true)?;
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
        let PassedUp::Control { packet, from } = passed_up_to(|v6| port.sockets(v6)).await else {
            continue;
        };
        let answer = wire::from_answer(&packet).filter(|answer| answer.nonce == nonce && from.port() == test_port);
        if let Some(answer) = answer {
            return answer.identity;
        }
    }
}
