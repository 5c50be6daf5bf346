//! Facts about this host that subcommands need.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use nix::sys::utsname::uname;
use probe_core::agent::config::Families;
use probe_core::identity::MAX_TEXT_LEN;
use probe_core::text::plain;
use probe_host::hostname::{default_agent_name, hostname};
use probe_host::link::{Netlink, TargetRefusal};
use probe_host::preflight::{Facts, check};

use crate::command::shared::families::families_of;

/// What to do where the programs cannot be loaded.
pub const WITHOUT_EBPF: &str = "without eBPF, use --engine socket: the kernel then takes the timestamps at sockets";

/// How often the interface is polled for changes.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Fails if the kernel or this process lacks what kstamp needs; `kstamp doctor` lists all that is missing.
pub fn check_host() -> Result<()> {
    match check(&Facts::collect()?).first() {
        Some(finding) => Err(anyhow!("{finding}")),
        None => Ok(()),
    }
}

/// The interface's addresses; none if it does not exist.
pub async fn addresses_of(interface: &str) -> Result<Vec<IpAddr>> {
    let netlink = Netlink::open()?;
    let addresses = match netlink.link_by_name(interface).await? {
        Some(link) => netlink.addresses(link.index).await?,
        None => Vec::new(),
    };
    Ok(addresses.into_iter().map(|address| address.ip).collect())
}

/// Fails if packets to one of these peers would not leave this host for another one; `addresses` are the interface's.
pub async fn check_peers(interface: &str, addresses: &[IpAddr], peers: &[IpAddr]) -> Result<()> {
    if let Some(own) = peers.iter().find(|peer| addresses.contains(peer)) {
        bail!("--peer {own} is an address of {interface} itself; name the other end");
    }
    match refusals(interface, peers).await?.first() {
        Some((peer, refusal)) => bail!("--peer {peer} {refusal}"),
        None => Ok(()),
    }
}

/// The peers to which packets would not leave this host for another one, and why, by the routing table.
pub async fn refusals(interface: &str, peers: &[IpAddr]) -> Result<Vec<(IpAddr, TargetRefusal)>> {
    let netlink = Netlink::open()?;
    let index = netlink.link_by_name(interface).await?.map(|link| link.index);
    let mut refusals = Vec::new();
    for &peer in peers {
        let refusal = netlink.target_refusal(peer, index).await?;
        refusals.extend(refusal.map(|refusal| (peer, refusal)));
    }
    Ok(refusals)
}

pub async fn families_of_interface(interface: &str) -> Result<Families> {
    Ok(families_of(&addresses_of(interface).await?))
}

/// Who measures at an interface, unless the user names the agent.
pub fn agent_name(interface: &str) -> String {
    plain(&default_agent_name(interface), MAX_TEXT_LEN)
}

/// Who measures where no interface is named.
pub fn host_name() -> String {
    plain(&hostname(), MAX_TEXT_LEN)
}

pub fn kernel_release() -> String {
    uname().map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned())
}
