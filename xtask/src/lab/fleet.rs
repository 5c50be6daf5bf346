//! Builds a fleet's network: subnets that are joined by routers, without multicast between them, and the place of the hub.
//!
//! Each subnet is a bridge, with an internal port for each host and one for its router. Veth pairs join the routers and the
//! hub to namespace `core`.

use anyhow::{Result, bail};

use crate::lab::namespace::{self, ip};
use crate::lab::state::State;
use crate::lab::switch::Datapath;
use crate::lab::topology::{AgentNs, CORE, Families, SWITCHES, Subnet, hub_link};

const EVERYWHERE: [&str; 2] = ["default", "default"];

/// Builds the subnets of `hosts`, whose namespaces exist. The hosts' ports are configured afterwards: see [`route_hosts`].
pub(crate) fn build(state: &mut State, datapath: Datapath, hosts: &[AgentNs], families: Families) -> Result<()> {
    let subnets = Subnet::all(hosts);
    let gateways: Vec<_> = subnets.iter().map(|subnet| subnet.gateway()).collect();
    for namespace in gateways.iter().map(|gateway| &*gateway.namespace).chain([CORE]) {
        namespace::set_sysctls(
            namespace,
            &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")],
        )?;
    }
    let switch = state.start_switch(SWITCHES, datapath)?;
    let bridges: String = subnets
        .iter()
        .map(|subnet| switch.add_bridge(&subnet.bridge()))
        .collect();
    let all: Vec<_> = hosts
        .iter()
        .chain(&gateways)
        .map(|port| (port.subnet().bridge(), port))
        .collect();
    let ports = all
        .iter()
        .map(|(bridge, port)| (&**bridge, &*port.interface, &*port.namespace));
    switch.add_ports(&bridges, &ports.collect::<Vec<_>>())?;
    join(&hub_link(), families)?;
    for (subnet, gateway) in subnets.iter().zip(&gateways) {
        let link = subnet.link();
        namespace::add_addresses(gateway, families)?;
        join(&link, families)?;
        let [v4, v6] = subnet.prefixes();
        route(CORE, [&v4, &v6], &link[1], families)?;
    }
    Ok(())
}

/// Sends what leaves a host's subnet to the router.
pub(crate) fn route_hosts(hosts: &[AgentNs], families: Families) -> Result<()> {
    hosts
        .iter()
        .try_for_each(|host| route(&host.namespace, EVERYWHERE, &host.subnet().gateway(), families))
}

/// Joins the second end's namespace to the first's, which is `core`.
fn join([core, end]: &[AgentNs; 2], families: Families) -> Result<()> {
    ip(
        &core.namespace,
        &format!(
            "link add {} type veth peer name {} netns {}",
            core.interface, end.interface, end.namespace
        ),
    )?;
    namespace::add_addresses(core, families)?;
    namespace::add_addresses(end, families)?;
    route(&end.namespace, EVERYWHERE, core, families)
}

/// Adds routes to a prefix of each family.
fn route(namespace: &str, prefixes: [&str; 2], via: &AgentNs, families: Families) -> Result<()> {
    via.addresses(families).iter().try_for_each(|address| {
        let prefix = prefixes[usize::from(address.is_ipv6())];
        ip(namespace, &format!("route add {prefix} via {address}"))
    })
}

/// Makes the router of `from` drop what `from` sends to `to`, or no longer. Neither host notices.
pub(crate) fn set_black_hole(from: &AgentNs, to: &AgentNs, is_there: bool) -> Result<()> {
    if from.subnet() == to.subnet() {
        let (from, to) = (&from.namespace, &to.namespace);
        bail!("no router is between {from} and {to}");
    }
    let verb = if is_there { "add" } else { "del" };
    let rule = format!("rule {verb} from {} to {} blackhole", from.v4, to.v4);
    ip(&from.subnet().gateway().namespace, &rule)
}
