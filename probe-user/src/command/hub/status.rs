//! `kstamp hub status`: asks a hub what it knows of the fleet.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use probe_hub::credentials::Credentials;
use probe_hub::enrol::{Servers, StateDirectory};
use probe_hub::hub::query::Asker;
use probe_hub::name::{HostName, PortName};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::command::hub::config::{Source, StatusConfig};
use crate::command::hub::enroll::servers;
use crate::output::Format;
use crate::output::file::OutputFile;
use crate::output::jsonl::record;
use crate::output::quantity::{count, duration_u64, percent};
use crate::output::time::Utc;

/// Alerts that are written as text; JSON has all.
const MAX_ALERTS: usize = 50;
/// The name of the connection on the hub's host.
const NAME: &str = "status";

pub async fn status(config: &StatusConfig) -> Result<()> {
    let mut file = OutputFile::open(config.output.as_deref())?;
    let credentials = credentials(config)?;
    let reply = ask(credentials, config.top).await?;
    let written = match config.format {
        Format::Text => text(&Fleet::deserialize(&reply).context("the hub answers what cannot be read")?),
        Format::Jsonl => {
            let mut line = Vec::new();
            let name = reply["hub"]["name"].as_str().unwrap_or_default();
            record("status", name, &reply, &mut line)?;
            String::from_utf8(line)?
        }
    };
    Ok(file.write_all(written.as_bytes())?)
}

fn credentials(config: &StatusConfig) -> Result<Credentials> {
    let (fleet, own) = match &config.source {
        Source::Reader(credentials) => return Ok((**credentials).clone()),
        Source::Hub { fleet, own } => (fleet, own),
    };
    if !fleet.state.exists() {
        bail!(
            "no hub has its state in {}; give --state, or --credentials of `kstamp hub enroll NAME --reader`",
            fleet.state.display()
        );
    }
    let state = StateDirectory::open(&fleet.state)?;
    let servers = match fleet.nats.is_empty() {
        true => Servers {
            urls: vec![own.url()],
            ca: None,
        },
        false => servers(fleet, &state)?,
    };
    let name: HostName = NAME.parse()?;
    Ok(state.hub(&name, servers)?.credentials)
}

/// The replies to all questions, in one object.
async fn ask(credentials: Credentials, top: usize) -> Result<Value> {
    let asker = Asker::new(credentials).await?;
    let mut all = json!({});
    for (name, query) in [
        ("hosts", "limit=1".to_owned()),
        ("alerts", String::new()),
        ("top", format!("limit={top}")),
    ] {
        let reply = asker.ask(name, &query).await?;
        let reply: Value = serde_json::from_slice(&reply).context("the hub answers what cannot be read")?;
        for key in ["hub", "alerts", "more", "loss", "p99"] {
            if let Some(value) = reply.get(key) {
                all[key] = value.clone();
            }
        }
    }
    Ok(all)
}

#[derive(Debug, Deserialize)]
struct Fleet {
    hub: Hub,
    alerts: Vec<Alert>,
    /// Alerts that are not among them.
    more: usize,
    loss: Vec<Pair>,
    p99: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
struct Hub {
    name: String,
    version: String,
    coordinating: bool,
    coordinator: Option<String>,
    hosts: u64,
    hosts_alive: u64,
    ports: u64,
    ports_alive: u64,
    pairs: u64,
    newest_age_ns: Option<u64>,
    oldest_age_ns: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    text: String,
    since: Utc,
}

#[derive(Debug, Deserialize)]
struct Pair {
    from: PortName,
    to: PortName,
    received: u64,
    lost: u64,
    lost_forward: u64,
    lost_backward: u64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
}

fn text(fleet: &Fleet) -> String {
    let mut out = String::new();
    write(fleet, &mut out).unwrap_or_default();
    out
}

fn write(fleet: &Fleet, out: &mut String) -> std::fmt::Result {
    let hub = &fleet.hub;
    let role = match (&hub.coordinator, hub.coordinating) {
        (_, true) => "coordinates".to_owned(),
        (Some(other), false) => format!("stands by; {other} coordinates"),
        (None, false) => "stands by; no hub is known to coordinate".to_owned(),
    };
    writeln!(out, "kstamp {}: hub {}, {role}", hub.version, hub.name)?;
    let age = |age_ns: Option<u64>| age_ns.map_or("-".to_owned(), duration_u64);
    writeln!(out, "  hosts   {}, {} alive", hub.hosts, hub.hosts_alive)?;
    writeln!(out, "  ports   {}, {} alive", hub.ports, hub.ports_alive)?;
    writeln!(
        out,
        "  pairs   {} in the last hour; the newest window is {} old, the oldest {}",
        hub.pairs,
        age(hub.newest_age_ns),
        age(hub.oldest_age_ns)
    )?;
    let alerts = fleet.alerts.len() + fleet.more;
    writeln!(out, "  alerts  {alerts}")?;
    for alert in fleet.alerts.iter().take(MAX_ALERTS) {
        writeln!(out, "    {} {}", alert.since.to_second(), alert.text)?;
    }
    let hidden = alerts - fleet.alerts.len().min(MAX_ALERTS);
    if hidden > 0 {
        writeln!(out, "    and {}", count(hidden as u64, "other"))?;
    }
    pairs("most losses", &fleet.loss, out)?;
    pairs("slowest", &fleet.p99, out)
}

fn pairs(heading: &str, pairs: &[Pair], out: &mut String) -> std::fmt::Result {
    let names: Vec<_> = pairs
        .iter()
        .map(|pair| format!("{} -> {}", pair.from, pair.to))
        .collect();
    let Some(width) = names.iter().map(String::len).max() else {
        return Ok(());
    };
    writeln!(out, "{heading}")?;
    for (pair, name) in pairs.iter().zip(names) {
        let rtt = |ns: Option<u64>| ns.map_or("-".to_owned(), duration_u64);
        let lost = percent(pair.lost, pair.lost + pair.received);
        let (p50, p99) = (rtt(pair.p50_ns), rtt(pair.p99_ns));
        write!(out, "  {name:width$}  {lost:>7} lost  p50 {p50:>8}  p99 {p99:>8}")?;
        if pair.lost > 0 {
            write!(out, "  {} forward, {} backward", pair.lost_forward, pair.lost_backward)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(to: &str, lost: u64) -> Value {
        json!({
            "from": "h1/port1", "to": to, "received": 100 - lost, "lost": lost, "lost_forward": lost, "lost_backward": 0,
            "p50_ns": 120_000, "p99_ns": null,
        })
    }

    fn fleet() -> Value {
        json!({
            "hub": {
                "name": "hub1", "version": "0.1.0", "coordinating": false, "coordinator": "hub2", "hosts": 12,
                "hosts_alive": 11, "ports": 24, "ports_alive": 22, "pairs": 240, "newest_age_ns": 3_000_000_000_u64,
                "oldest_age_ns": null,
            },
            "alerts": [{ "text": "h2 sends no heartbeats", "since": "2026-11-27T20:00:00.5Z" }],
            "more": 70,
            "loss": [pair("h2/port1", 10)],
            "p99": [pair("h10/port1", 0), pair("h2/port1", 10)],
        })
    }

    #[test]
    fn the_state_is_written_as_text() {
        let text = text(&Fleet::deserialize(&fleet()).unwrap());
        let want = "\
kstamp 0.1.0: hub hub1, stands by; hub2 coordinates
  hosts   12, 11 alive
  ports   24, 22 alive
  pairs   240 in the last hour; the newest window is 3.00 s old, the oldest -
  alerts  71
    2026-11-27T20:00:00Z h2 sends no heartbeats
    and 70 others
most losses
  h1/port1 -> h2/port1  10.00 % lost  p50   120 µs  p99        -  10 forward, 0 backward
slowest
  h1/port1 -> h10/port1      0 % lost  p50   120 µs  p99        -
  h1/port1 -> h2/port1   10.00 % lost  p50   120 µs  p99        -  10 forward, 0 backward
";
        assert_eq!(text, want);
    }
}
