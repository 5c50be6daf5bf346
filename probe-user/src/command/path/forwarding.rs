//! How Open vSwitch of this host forwards the probes.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use probe_common::stamp;
use probe_host::link::{Link, Netlink, next_hop_mac};
use probe_host::ovs::{Flow, PortFacts, Source, Trace, trace};
use serde::Serialize;

use crate::command::shared::ovs::{Ovsdb, Switch};

/// The port in Open vSwitch.
pub struct Switches {
    database: PathBuf,
    switch: Switch,
}

/// The flow of the probes, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forwarding {
    pub flow: String,
    #[serde(flatten)]
    pub trace: Trace,
}

impl Switches {
    /// `None` without a database to read.
    pub async fn connect(ovsdb: &Ovsdb, interface: &str) -> Result<Option<Self>> {
        let Some(database) = ovsdb.socket() else {
            return Ok(None);
        };
        Ok(Some(Self {
            database: database.to_owned(),
            switch: Switch::follow(Source::connect(database), interface).await?,
        }))
    }

    /// `None` if the interface is no port of the switch.
    pub fn facts(&self) -> Option<&PortFacts> {
        self.switch.facts()
    }

    /// Asks Open vSwitch, which sends nothing. `None` if the interface is no port of the switch.
    pub async fn forwarding(&self, link: &Link, to: SocketAddr, source_port: u16) -> Result<Option<Forwarding>> {
        let Some(facts) = self.facts() else { return Ok(None) };
        let in_port = facts.ofport.context("the switch could not add the port")?;
        let destination = to.ip();
        let route = Netlink::open()?.route_to(destination).await?;
        let source = route.and_then(|route| route.source);
        let flow = Flow {
            bridge: facts.bridge.clone(),
            in_port,
            source_mac: link.mac,
            destination_mac: next_hop_mac(link.index, destination)?
                .context("the MAC address of the next hop is not known")?,
            source: source.with_context(|| format!("there is no route to {destination}"))?,
            destination,
            source_port,
            destination_port: to.port(),
            ttl: stamp::TTL,
        };
        Ok(Some(Forwarding {
            flow: flow.to_string(),
            trace: trace(&self.database, &flow)?,
        }))
    }
}
