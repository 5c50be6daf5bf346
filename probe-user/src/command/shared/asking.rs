//! Asks one host for its identity, before anything is measured.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use log::debug;
use probe_common::ntp::ErrorEstimate;
use probe_core::identity::wire::IdentityAnswer;
use probe_core::identity::{Identity, wire};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::command::shared::introductions::{clock_key, nonce};

/// Number of requests without an answer after which the peer counts as one that does not answer.
const REQUESTS: u32 = 4;
/// Time to wait for an answer to one request. The first request waits for address resolution.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The identity of the host at `peer`, and whether it reads this host's clock; `None` if it does not answer.
pub async fn ask(socket: &UdpSocket, peer: SocketAddr, own: &Identity) -> Result<Option<(Identity, bool)>> {
    let clock = clock_key()?;
    let error = ErrorEstimate::new(own.synchronised, own.error_ns);
    for _ in 0..REQUESTS {
        let nonce = nonce();
        let request = wire::request(own, error, nonce).context("the request does not fit")?;
        if let Err(error) = socket.try_send_to(&request, peer) {
            debug!("cannot ask {peer} for its identity: {error}");
        }
        if let Ok(answer) = timeout(ANSWER_TIMEOUT, answer(socket, peer, nonce)).await {
            let answer = answer.context("cannot receive the identity of the peer")?;
            let same_clock = answer
                .proof
                .is_some_and(|proof| clock.accepts(nonce, peer.ip(), &proof));
            return Ok(Some((answer.identity, same_clock)));
        }
    }
    Ok(None)
}

/// Waits for the answer with this nonce, which only the asked host has seen. The host may answer from another address.
async fn answer(socket: &UdpSocket, peer: SocketAddr, nonce: u64) -> std::io::Result<IdentityAnswer> {
    let mut packet = [0; wire::PACKET_LEN + 1];
    loop {
        let (length, from) = socket.recv_from(&mut packet).await?;
        let answer = wire::from_answer(&packet[..length]);
        if let Some(answer) = answer.filter(|answer| answer.nonce == nonce && from.port() == peer.port()) {
            return Ok(answer);
        }
    }
}
