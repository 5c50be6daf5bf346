//! Networks of OpenFlow switches: which there are, which links of which delay join them, and what all of it is called.
//!
//! Every switch is a bridge of one Open vSwitch instance, with one host on it. All switches ask the controller at
//! [`CONTROLLER`], and do nothing without it.

mod build;
mod control;
mod links;

use std::time::Duration;

use anyhow::{Result, bail};

pub use control::ControlDelay;
pub(crate) use links::{Standing, cut_link, drop_on_link, repair_link};

use super::{AgentNs, Topology};

/// Where the switches look for their controller, in namespace [`SWITCHES`].
pub const CONTROLLER: &str = "127.0.0.1:6653";

/// The namespace of all switches.
pub const SWITCHES: &str = "switch1";

/// The namespace of the delay lines.
pub(crate) const LINES: &str = "lines";

/// Number of the port at which a switch has its host; links follow.
const HOST_PORT: u32 = 1;

/// A network that can be built.
#[derive(Debug)]
pub struct Network {
    /// Its switches by name; the first has datapath identifier 1, and so on.
    pub switches: &'static [&'static str],
    /// Its links.
    pub links: &'static [Link],
    /// What is worth being shown on it.
    pub tour: Tour,
}

/// A link between two switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The switch at one end.
    pub left: &'static str,
    /// The switch at the other.
    pub right: &'static str,
    /// What it takes in either direction.
    pub delay: Duration,
}

/// A ping whose way changes when a link is cut.
#[derive(Clone, Copy, Debug)]
pub struct Tour {
    /// The switch whose host pings.
    pub from: &'static str,
    /// The switch whose host is pinged.
    pub to: &'static str,
    /// The link that is cut and repaired; its ends.
    pub cut: (&'static str, &'static str),
}

const fn link(left: &'static str, right: &'static str, milliseconds: u64) -> Link {
    Link {
        left,
        right,
        delay: Duration::from_millis(milliseconds),
    }
}

/// Three switches in a row.
static LINE: Network = Network {
    switches: &["s1", "s2", "s3"],
    links: &[link("s1", "s2", 5), link("s2", "s3", 20)],
    tour: Tour {
        from: "s1",
        to: "s3",
        cut: ("s1", "s2"),
    },
};

/// Round trips of 10, 40 and 0 ms: the long link is never the best way, and the shortest is a bare cable.
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

impl Topology {
    /// The network of OpenFlow switches that it is, if it is one.
    pub fn network(self) -> Option<&'static Network> {
        match self {
            Self::Line => Some(&LINE),
            Self::Triangle => Some(&TRIANGLE),
            Self::Arpanet => Some(&ARPANET),
            Self::Patch | Self::Vxlan | Self::Delay | Self::Veth | Self::Switch => None,
        }
    }
}

impl Network {
    /// Every namespace that it takes.
    pub fn namespaces(&self) -> Vec<String> {
        let hosts = self.hosts().into_iter().map(|host| host.namespace);
        [SWITCHES, LINES].map(str::to_owned).into_iter().chain(hosts).collect()
    }

    /// The hosts, in the order of their switches.
    pub fn hosts(&self) -> Vec<AgentNs> {
        let host = |(number, switch): (u8, &&str)| AgentNs {
            namespace: format!("host-{switch}"),
            interface: format!("port-{switch}"),
            ..AgentNs::numbered(number)
        };
        (1..).zip(self.switches).map(host).collect()
    }

    /// Both ports of every link, as Open vSwitch and the kernel call them.
    pub fn ports(&self) -> Vec<String> {
        self.links.iter().flat_map(|link| link.ports()).collect()
    }

    /// A switch's datapath identifier.
    pub fn dpid(&self, switch: &str) -> Option<u64> {
        let at = self.switches.iter().position(|name| *name == switch)?;
        u64::try_from(at).ok().map(|at| at + 1)
    }

    /// The number of the port by which `switch` reaches its neighbour `other`.
    pub fn port_number(&self, switch: &str, other: &str) -> Option<u32> {
        let own = self.links.iter().filter(|link| link.joins(switch));
        let at = own.clone().position(|link| link.joins(other))?;
        u32::try_from(at).ok().map(|at| HOST_PORT + 1 + at)
    }

    /// The link between two switches.
    ///
    /// # Errors
    /// If there is none; the message names those that there are.
    pub fn link(&self, one: &str, other: &str) -> Result<Link> {
        let found = self.links.iter().find(|link| link.joins(one) && link.joins(other));
        match found.filter(|_| one != other) {
            Some(link) => Ok(*link),
            None => bail!("no link joins {one} and {other}; there are {}", self.link_names()),
        }
    }

    /// The links by name.
    fn link_names(&self) -> String {
        self.links.iter().map(Link::name).collect::<Vec<_>>().join(", ")
    }

    /// Fails if a control channel of a switch is to be delayed that is not there.
    pub(crate) fn check(&self, control: &[ControlDelay]) -> Result<()> {
        for delay in control {
            if self.dpid(&delay.switch).is_none() {
                bail!("no switch {}; there are {}", delay.switch, self.switches.join(", "));
            }
        }
        Ok(())
    }
}

impl Link {
    /// As people call it: `mit-bbn`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.left, self.right)
    }

    /// The port of the left switch and that of the right one: each is named after its own end first.
    pub fn ports(&self) -> [String; 2] {
        [self.name(), format!("{}-{}", self.right, self.left)]
    }

    fn joins(&self, switch: &str) -> bool {
        self.left == switch || self.right == switch
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_fits_and_is_its_own() {
        for network in [&LINE, &TRIANGLE, &ARPANET] {
            let hosts = network.hosts();
            let names: Vec<_> = network
                .ports()
                .into_iter()
                .flat_map(|port| [format!("l-{port}"), port])
                .chain(hosts.iter().map(|host| host.interface.clone()))
                .chain(
                    network
                        .switches
                        .iter()
                        .flat_map(|name| [(*name).to_owned(), format!("{name}-host")]),
                )
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
    fn the_tours_are_of_their_networks() {
        for network in [&LINE, &TRIANGLE, &ARPANET] {
            let Tour { from, to, cut } = network.tour;
            assert!(network.dpid(from).is_some() && network.dpid(to).is_some() && from != to);
            network.link(cut.0, cut.1).unwrap();
        }
        let error = ARPANET.link("mit", "sdc").unwrap_err().to_string();
        assert!(error.contains("utah-mit"), "{error}");
    }
}
