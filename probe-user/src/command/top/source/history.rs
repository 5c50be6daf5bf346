//! What a running agent remembers, from `/api/v1`: its last events, its peers, and their last windows.

use std::net::IpAddr;

use http_body_util::{BodyExt as _, Limited};
use hyper::StatusCode;
use probe_core::agent::config::MAX_PEERS;
use probe_core::stats::report::Path;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::command::top::config::ServerConfig;
use crate::command::top::model::{MAX_EVENTS, MAX_POINTS, Update};
use crate::command::top::source::client::{Client, error_of};
use crate::command::top::source::update;
use crate::output::fields::PathName;

/// Windows of all peers and paths together. The list of peers shows eight of each.
const MAX_WINDOWS: usize = 20_000;
/// Longest reply. A peer has about 10 KiB in the list of peers.
const MAX_REPLY: usize = 32 << 20;

#[derive(Debug, Deserialize)]
struct Events {
    events: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Windows {
    windows: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct AllHops {
    hops: Vec<OfHops>,
}

#[derive(Debug, Deserialize)]
struct OfHops {
    latest: Value,
}

#[derive(Debug, Deserialize)]
struct Outliers {
    outliers: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Peers {
    agent: Option<Value>,
    peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    peer: IpAddr,
    peer_name: Option<String>,
    state: String,
    #[serde(default)]
    paths: Vec<OfPath>,
}

#[derive(Debug, Deserialize)]
struct OfPath {
    #[serde(with = "PathName")]
    path: Path,
}

/// Hands over all of it, each part with the oldest first. A server without this API has none.
pub async fn read(config: &ServerConfig, updates: &Sender<Update>) -> Result<(), String> {
    let mut pages = Pages {
        config,
        client: Client::open(config).await?,
    };
    // Peers are asked for after the events: their states are those after the last event.
    let Some(Events { events }) = pages.get(&format!("events?limit={MAX_EVENTS}")).await? else {
        return Ok(());
    };
    let Some(Peers { agent, peers }) = pages.get(&format!("peers?limit={MAX_PEERS}")).await? else {
        return Ok(());
    };
    let paths: Vec<_> = peers.iter().flat_map(of_peer).take(2 * MAX_PEERS).collect();
    let limit = (MAX_WINDOWS / paths.len().max(1)).clamp(1, MAX_POINTS);
    send(updates, agent.into_iter().chain(events.into_iter().rev())).await?;
    for peer in peers.into_iter().take(MAX_PEERS) {
        let known = Update::Known {
            peer: peer.peer,
            name: peer.peer_name,
            is_down: peer.state == "down",
        };
        updates.send(known).await.map_err(gone)?;
    }
    for (peer, path) in paths {
        let path = path.name();
        let query = format!("windows?peer={peer}&path={path}&by=report&limit={limit}");
        // A peer may be forgotten meanwhile.
        if let Some(Windows { windows }) = pages.get(&query).await? {
            send(updates, windows.into_iter().take(limit).rev()).await?;
        }
    }
    // Windows come before their hops.
    if let Some(AllHops { hops }) = pages.get(&format!("hops?limit={MAX_PEERS}")).await? {
        send(updates, hops.into_iter().map(|hops| hops.latest)).await?;
    }
    if let Some(Outliers { outliers }) = pages.get(&format!("outliers?limit={MAX_EVENTS}")).await? {
        send(updates, outliers.into_iter().rev()).await?;
    }
    Ok(())
}

fn of_peer(peer: &Peer) -> impl Iterator<Item = (IpAddr, Path)> {
    peer.paths.iter().map(|of_path| (peer.peer, of_path.path))
}

async fn send(updates: &Sender<Update>, records: impl Iterator<Item = Value>) -> Result<(), String> {
    for update in records.filter_map(|record| update(record.to_string().as_bytes())) {
        updates.send(update).await.map_err(gone)?;
    }
    Ok(())
}

fn gone<T>(_: T) -> String {
    "top has ended".to_owned()
}

struct Pages<'a> {
    config: &'a ServerConfig,
    client: Client<'a>,
}

impl Pages<'_> {
    /// `None`: there is no such page.
    async fn get<T: DeserializeOwned>(&mut self, of_api: &str) -> Result<Option<T>, String> {
        let path = format!("/api/v1/{of_api}");
        let of = |what: &dyn std::fmt::Display| error_of(self.config, &format!("{path}: {what}"));
        let reply = self.client.get(&path, "application/json").await?;
        let status = reply.status();
        let body = Limited::new(reply.into_body(), MAX_REPLY).collect().await;
        let body = body.map_err(|error| of(&error))?.to_bytes();
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map(Some).map_err(|error| of(&error)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(of(&format!("the server answers {status}"))),
        }
    }
}

#[cfg(test)]
mod tests;
