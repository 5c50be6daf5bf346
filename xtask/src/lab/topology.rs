//! The shapes a lab can have.

use clap::ValueEnum;

/// What stands between the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// One switch, bridges ovs1 and ovs2 joined by patch ports.
    Patch,
    /// Two hosts with a switch each, joined by a VXLAN tunnel.
    Vxlan,
    /// Bridges ovs1 and ovs2 joined by a line with a delay of its own in each direction, in namespace agent3.
    Delay,
    /// No switch: one veth pair.
    Veth,
    /// One bridge with any number of agents.
    Switch,
    /// Three OpenFlow switches in a row, and a controller.
    Line,
    /// Three OpenFlow switches, each linked with each, and a controller.
    Triangle,
    /// The nine nodes of June 1970 as OpenFlow switches, and a controller.
    Arpanet,
}

impl Topology {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Vxlan => "vxlan",
            Self::Delay => "delay",
            Self::Veth => "veth",
            Self::Switch => "switch",
            Self::Line => "line",
            Self::Triangle => "triangle",
            Self::Arpanet => "arpanet",
        }
    }

    /// Whether Open vSwitch has a part in it.
    pub fn has_switch(self) -> bool {
        self != Self::Veth
    }

    /// Every namespace it makes, given how many agents `switch` is to have.
    pub fn namespaces(self, agents: u8) -> Vec<String> {
        if let Some(network) = self.network() {
            return network.namespaces();
        }
        let fixed: &[&str] = match self {
            Self::Patch => &["switch1", "agent1", "agent2"],
            Self::Vxlan => &["host1", "host2", "agent1", "agent2"],
            Self::Delay => &["switch1", "agent1", "agent2", "agent3"],
            Self::Veth => &["agent1", "agent2"],
            Self::Switch => &["switch1"],
            Self::Line | Self::Triangle | Self::Arpanet => &[],
        };
        let counted = if self == Self::Switch { agents } else { 0 };
        fixed
            .iter()
            .map(|&name| name.to_owned())
            .chain((1..=counted).map(|i| format!("agent{i}")))
            .collect()
    }
}
