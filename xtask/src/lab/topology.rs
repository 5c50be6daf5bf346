//! The shapes of a lab: topologies, networks of OpenFlow switches, and all names and addresses in them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{UsageError, name_of};

/// Address of the controller of a network, in namespace [`SWITCHES`].
pub const CONTROLLER: &str = "127.0.0.1:6653";

/// The namespace of all switches of a network.
pub const SWITCHES: &str = "switch1";

/// The namespace of the delay lines of a network.
pub(crate) const LINES: &str = "lines";

/// The namespace of the hub of a fleet.
pub const HUB: &str = "hub";

/// The namespace that joins the routers of a fleet.
pub(crate) const CORE: &str = "core";

/// Of a fleet; fewer if there are fewer hosts.
const SUBNETS: u8 = 4;

/// Number of the port of a switch's host; links follow.
pub(crate) const HOST_PORT: u32 = 1;

/// How the agents are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One switch, bridges ovs1 and ovs2 joined by patch ports.
    Patch,
    /// Two hosts with a switch each, joined by a VXLAN tunnel.
    Vxlan,
    /// Bridges ovs1 and ovs2 joined by a line with one delay per direction, in namespace agent3.
    Delay,
    /// No switch: one veth pair.
    Veth,
    /// One bridge with any number of agents.
    Switch,
    /// Hosts in four subnets joined by routers, which pass no multicast on, and a place for a hub.
    Fleet,
    /// Three OpenFlow switches in a row, and a controller.
    Line,
    /// Three OpenFlow switches, each linked with each, and a controller.
    Triangle,
    /// The nine nodes of June 1970 as OpenFlow switches, and a controller.
    Arpanet,
}

impl Topology {
    pub fn name(self) -> String {
        name_of(&self)
    }

    pub fn has_switch(self) -> bool {
        self != Self::Veth
    }

    /// The network of OpenFlow switches, if it is one.
    pub fn network(self) -> Option<&'static Network> {
        match self {
            Self::Line => Some(&LINE),
            Self::Triangle => Some(&TRIANGLE),
            Self::Arpanet => Some(&ARPANET),
            Self::Patch | Self::Vxlan | Self::Delay | Self::Veth | Self::Switch | Self::Fleet => None,
        }
    }

    /// The agents, of which `switch` and `fleet` have `count`; in a network, the hosts in the order of their switches.
    pub(crate) fn agents(self, count: u8) -> Vec<AgentNs> {
        match (self, self.network()) {
            (_, Some(network)) => network.hosts(),
            (Self::Switch, None) => (1..=count).map(AgentNs::numbered).collect(),
            (Self::Fleet, None) => (1..=count).map(AgentNs::in_fleet).collect(),
            (_, None) => vec![AgentNs::numbered(1), AgentNs::numbered(2)],
        }
    }

    /// All namespaces, `switch` and `fleet` having `agents` agents.
    pub(crate) fn namespaces(self, agents: u8) -> Vec<String> {
        let agents = self.agents(agents);
        let routers = match self {
            Self::Fleet => Subnet::all(&agents),
            _ => BTreeSet::new(),
        };
        let routers = routers.iter().map(|subnet| subnet.gateway().namespace);
        let fixed: &[&str] = match self {
            Self::Patch | Self::Switch => &["switch1"],
            Self::Vxlan => &["host1", "host2"],
            Self::Delay => &["switch1", "agent3"],
            Self::Veth => &[],
            Self::Fleet => &[SWITCHES, CORE, HUB],
            Self::Line | Self::Triangle | Self::Arpanet => &[SWITCHES, LINES],
        };
        let fixed = fixed.iter().map(|&name| name.to_owned());
        fixed
            .chain(routers)
            .chain(agents.iter().map(|agent| agent.namespace.clone()))
            .collect()
    }
}

/// Which IP versions are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    V4,
    V6,
    #[default]
    Both,
}

/// The place of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentNs {
    /// `agent1`, for example.
    pub namespace: String,
    /// Its port in that namespace: `port1`, for example.
    pub interface: String,
    /// In a /24.
    pub v4: Ipv4Addr,
    /// In a /64.
    pub v6: Ipv6Addr,
}

impl AgentNs {
    fn numbered(number: u8) -> Self {
        let host = 4 + number;
        Self {
            namespace: format!("agent{number}"),
            interface: format!("port{number}"),
            v4: Ipv4Addr::new(10, 1, 1, host),
            v6: Ipv6Addr::new(0xfd01, 0x2345, 0x6789, 0xabc1, 0, 0, 0, u16::from(host)),
        }
    }

    /// A host of a fleet: its subnets get hosts in turn.
    fn in_fleet(number: u8) -> Self {
        Self {
            namespace: format!("agent{number}"),
            interface: format!("port{number}"),
            ..Subnet(1 + (number - 1) % SUBNETS).place(4 + number)
        }
    }

    /// The subnet of a host of a fleet.
    pub fn subnet(&self) -> Subnet {
        Subnet(self.v4.octets()[2])
    }

    /// Its addresses of these families.
    pub fn addresses(&self, families: Families) -> Vec<IpAddr> {
        match families {
            Families::V4 => vec![self.v4.into()],
            Families::V6 => vec![self.v6.into()],
            Families::Both => vec![self.v4.into(), self.v6.into()],
        }
    }
}

/// A subnet of a fleet, numbered from 1: a bridge, hosts and a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet(pub u8);

impl Subnet {
    /// Those of `hosts`.
    pub(crate) fn all(hosts: &[AgentNs]) -> BTreeSet<Self> {
        hosts.iter().map(AgentNs::subnet).collect()
    }

    pub(crate) fn bridge(self) -> String {
        format!("ovs{}", self.0)
    }

    /// The router's port in the subnet.
    pub(crate) fn gateway(self) -> AgentNs {
        AgentNs {
            namespace: format!("router{}", self.0),
            interface: format!("lan{}", self.0),
            ..self.place(1)
        }
    }

    /// Its addresses of IPv4 and of IPv6.
    pub(crate) fn prefixes(self) -> [String; 2] {
        let network = self.place(0);
        [format!("{}/24", network.v4), format!("{}/64", network.v6)]
    }

    /// The two ends of the router's link: that of `core`, and the router's.
    pub(crate) fn link(self) -> [AgentNs; 2] {
        link_to_core(self.0, &self.gateway().namespace)
    }

    fn place(self, host: u8) -> AgentNs {
        AgentNs {
            namespace: String::new(),
            interface: String::new(),
            v4: Ipv4Addr::new(10, 2, self.0, host),
            v6: Ipv6Addr::new(
                0xfd01,
                0x2345,
                0x6789,
                0xab00 + u16::from(self.0),
                0,
                0,
                0,
                u16::from(host),
            ),
        }
    }
}

/// The two ends of the hub's link: that of `core`, and the hub's.
pub(crate) fn hub_link() -> [AgentNs; 2] {
    link_to_core(0, HUB)
}

fn link_to_core(number: u8, namespace: &str) -> [AgentNs; 2] {
    let end = |namespace: &str, prefix: &str, host| AgentNs {
        namespace: namespace.to_owned(),
        interface: format!("{prefix}{number}"),
        v4: Ipv4Addr::new(172, 31, number, host),
        v6: Ipv6Addr::new(
            0xfd01,
            0x2345,
            0x6789,
            0xac00 + u16::from(number),
            0,
            0,
            0,
            u16::from(host),
        ),
    };
    [end(CORE, "link", 1), end(namespace, "core", 2)]
}

/// A network of OpenFlow switches. Each is a bridge of one Open vSwitch instance, has one host, and forwards nothing
/// without the controller.
#[derive(Debug)]
pub struct Network {
    /// The first has datapath identifier 1, and so on.
    pub switches: &'static [&'static str],
    pub links: &'static [Link],
    pub tour: Tour,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub left: &'static str,
    pub right: &'static str,
    /// In each direction.
    pub delay: Duration,
}

/// A demonstration: hosts of two switches ping, and their path changes when a link is cut.
#[derive(Clone, Copy, Debug)]
pub struct Tour {
    pub from: &'static str,
    pub to: &'static str,
    /// Ends of the link that is cut and repaired.
    pub cut: (&'static str, &'static str),
}

const fn link(left: &'static str, right: &'static str, milliseconds: u64) -> Link {
    Link {
        left,
        right,
        delay: Duration::from_millis(milliseconds),
    }
}

static LINE: Network = Network {
    switches: &["s1", "s2", "s3"],
    links: &[link("s1", "s2", 5), link("s2", "s3", 20)],
    tour: Tour {
        from: "s1",
        to: "s3",
        cut: ("s1", "s2"),
    },
};

/// Round trips of 10, 40 and 0 ms: the shortest path never uses the long link, and the third link is a bare cable.
static TRIANGLE: Network = Network {
    switches: &["s1", "s2", "s3"],
    links: &[link("s1", "s2", 5), link("s2", "s3", 20), link("s1", "s3", 0)],
    tour: Tour {
        from: "s2",
        to: "s3",
        cut: ("s1", "s2"),
    },
};

/// The ARPANET of June 1970, with the delays of its distances.
static ARPANET: Network = Network {
    switches: &["harvard", "bbn", "sri", "ucsb", "ucla", "rand", "sdc", "utah", "mit"],
    links: &[
        link("harvard", "bbn", 10),
        link("sri", "ucsb", 11),
        link("sri", "ucla", 13),
        link("ucsb", "ucla", 14),
        link("ucla", "rand", 15),
        link("rand", "sdc", 17),
        link("rand", "bbn", 29),
        link("sdc", "utah", 10),
        link("utah", "mit", 62),
        link("mit", "bbn", 17),
    ],
    tour: Tour {
        from: "sdc",
        to: "mit",
        cut: ("mit", "bbn"),
    },
};

impl Network {
    /// The hosts, in the order of their switches.
    pub(crate) fn hosts(&self) -> Vec<AgentNs> {
        let host = |(number, switch): (u8, &&str)| AgentNs {
            namespace: format!("host-{switch}"),
            interface: format!("port-{switch}"),
            ..AgentNs::numbered(number)
        };
        (1..).zip(self.switches).map(host).collect()
    }

    /// Both ports of every link, by the names of their interfaces.
    pub fn ports(&self) -> Vec<String> {
        self.links.iter().flat_map(|link| link.ports()).collect()
    }

    pub fn dpid(&self, switch: &str) -> Option<u64> {
        let index = self.switches.iter().position(|name| *name == switch)?;
        u64::try_from(index).ok().map(|index| index + 1)
    }

    /// The number of the port of `switch` that leads to its neighbour `other`.
    pub fn port_number(&self, switch: &str, other: &str) -> Option<u32> {
        let mut own = self.links.iter().filter(|link| link.joins(switch));
        let index = own.position(|link| link.joins(other))?;
        u32::try_from(index).ok().map(|index| HOST_PORT + 1 + index)
    }

    pub fn link(&self, one: &str, other: &str) -> Result<Link> {
        let found = self.links.iter().find(|link| link.joins(one) && link.joins(other));
        match found.filter(|_| one != other) {
            Some(link) => Ok(*link),
            None => {
                let names: Vec<_> = self.links.iter().map(Link::name).collect();
                let names = names.join(", ");
                bail!(UsageError(format!("no link joins {one} and {other}; links: {names}")))
            }
        }
    }
}

impl Link {
    /// `mit-bbn`, for example.
    pub fn name(&self) -> String {
        format!("{}-{}", self.left, self.right)
    }

    /// The port of the left switch and that of the right one; the name of each begins with its own switch.
    pub fn ports(&self) -> [String; 2] {
        [self.name(), format!("{}-{}", self.right, self.left)]
    }

    fn joins(&self, switch: &str) -> bool {
        self.left == switch || self.right == switch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_have_the_documented_names_and_addresses() {
        let agent = AgentNs::numbered(1);
        assert_eq!(agent.namespace, "agent1");
        assert_eq!(agent.interface, "port1");
        assert_eq!(agent.v4.to_string(), "10.1.1.5");
        assert_eq!(agent.v6.to_string(), "fd01:2345:6789:abc1::5");
    }

    #[test]
    fn hosts_of_a_fleet_are_spread_over_four_subnets() {
        for (hosts, sizes) in [(2, &[1, 1][..]), (6, &[2, 2, 1, 1]), (20, &[5; 4]), (200, &[50; 4])] {
            let all = Topology::Fleet.agents(hosts);
            let subnets = Subnet::all(&all);
            let size = |subnet: &Subnet| all.iter().filter(|host| host.subnet() == *subnet).count();
            assert_eq!(subnets.iter().map(size).collect::<Vec<_>>(), sizes, "{hosts}");
            let addresses: BTreeSet<_> = all.iter().map(|host| (host.v4, host.v6)).collect();
            assert_eq!(addresses.len(), usize::from(hosts));
        }
        assert_eq!(
            Topology::Fleet.namespaces(2)[..5],
            ["switch1", "core", "hub", "router1", "router2"]
        );
        assert_eq!(Subnet(2).prefixes(), ["10.2.2.0/24", "fd01:2345:6789:ab02::/64"]);
        assert_eq!(hub_link()[1].v4.to_string(), "172.31.0.2");
    }

    #[test]
    fn interface_names_are_unique_and_short_enough() {
        for network in [&LINE, &TRIANGLE, &ARPANET] {
            let ports = network.ports().into_iter();
            let hosts = network.hosts().into_iter().map(|host| host.interface);
            let switches = network.switches.iter();
            let names: Vec<_> = ports
                .flat_map(|port| [format!("l-{port}"), port])
                .chain(hosts)
                .chain(switches.flat_map(|name| [(*name).to_owned(), format!("{name}-host")]))
                .collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
            assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
        }
    }

    #[test]
    fn links_join_switches_by_numbered_ports() {
        for network in [&LINE, &TRIANGLE, &ARPANET] {
            for link in network.links {
                for (here, there) in [(link.left, link.right), (link.right, link.left)] {
                    assert!(network.dpid(here).is_some());
                    assert!(network.port_number(here, there).is_some_and(|port| port > HOST_PORT));
                }
            }
        }
        assert_eq!(ARPANET.port_number("mit", "utah"), Some(2));
        assert_eq!(ARPANET.port_number("mit", "bbn"), Some(3));
        assert_eq!(ARPANET.port_number("mit", "sri"), None);
    }

    #[test]
    fn tours_name_switches_and_links_of_their_networks() {
        for network in [&LINE, &TRIANGLE, &ARPANET] {
            let Tour { from, to, cut } = network.tour;
            assert!(network.dpid(from).is_some() && network.dpid(to).is_some() && from != to);
            network.link(cut.0, cut.1).unwrap();
        }
        let error = ARPANET.link("mit", "sdc").unwrap_err();
        assert!(
            error.is::<UsageError>() && error.to_string().contains("utah-mit"),
            "{error}"
        );
    }
}
