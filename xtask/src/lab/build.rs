//! Builds each topology, step by step.

use anyhow::{Result, bail};

use crate::exec::KillOnDrop;
use crate::lab::delay::{self, ControlDelay, DelayLine};
use crate::lab::hurt::{Hurt, Hurts};
use crate::lab::namespace::{self, ip};
use crate::lab::state::State;
use crate::lab::switch::Datapath;
use crate::lab::topology::{Families, Topology};
use crate::lab::vxlan::Line;
use crate::lab::{fleet, network, vxlan};
use crate::{UsageError, signals};

/// 1500 bytes without VXLAN's headers.
const OVERLAY_MTU: &str = "1450";

/// Options of a lab besides its topology.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of agents of [`Topology::Switch`] and [`Topology::Fleet`], 2 to 200.
    pub agents: u8,
    /// The families of the agents' addresses.
    pub families: Families,
    /// Delays and losses of [`Topology::Delay`].
    pub delay: DelayLine,
    /// Delays of control channels in a network of switches.
    pub control: Vec<ControlDelay>,
    /// What hurts the path of [`Topology::Vxlan`].
    pub hurts: Vec<Hurt>,
    /// The datapath of the switches; by default the kernel's where there is one.
    pub datapath: Option<Datapath>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            agents: 2,
            families: Families::Both,
            delay: DelayLine::default(),
            control: Vec::new(),
            hurts: Vec::new(),
            datapath: None,
        }
    }
}

impl Options {
    /// Fails if they do not fit `topology`.
    pub(crate) fn check(&self, topology: Topology) -> Result<()> {
        if !(2..=200).contains(&self.agents) {
            bail!(UsageError(format!("a lab has 2 to 200 agents, not {}", self.agents)));
        }
        if !self.hurts.is_empty() && topology != Topology::Vxlan {
            let name = topology.name();
            bail!(UsageError(format!("--hurt: only with --topology vxlan, not {name}")));
        }
        if self.control.is_empty() {
            return Ok(());
        }
        let Some(network) = topology.network() else {
            bail!(UsageError(format!(
                "topology {} has no control channels",
                topology.name()
            )));
        };
        let mut delays = self.control.iter();
        if let Some(delay) = delays.find(|delay| network.dpid(&delay.switch).is_none()) {
            let switches = network.switches.join(", ");
            bail!(UsageError(format!("no switch {}; there are {switches}", delay.switch)));
        }
        Ok(())
    }
}

/// What delays packets in a lab.
#[derive(Debug, Default)]
pub(crate) struct Delaying {
    /// In words.
    pub(crate) delayed_by: Option<String>,
    pub(crate) processes: Vec<KillOnDrop>,
    /// Those of hurt segments.
    pub(crate) lines: Vec<Line>,
}

/// Builds `topology`. Returns what delays packets.
pub(crate) fn build(topology: Topology, state: &mut State, datapath: Datapath, options: &Options) -> Result<Delaying> {
    for name in topology.namespaces(options.agents) {
        state.create_namespace(&name)?;
    }
    if let Some(network) = topology.network() {
        let (delayed_by, processes) = network::build(network, state, datapath, options.families, &options.control)?;
        return Ok(Delaying {
            delayed_by: Some(delayed_by.to_owned()),
            processes,
            lines: Vec::new(),
        });
    }
    let mut delaying = Delaying::default();
    match topology {
        Topology::Patch => patch(state, datapath)?,
        Topology::Vxlan => {
            let hurting = vxlan::build(state, datapath, Hurts(&options.hurts))?;
            delaying.delayed_by = (!hurting.means.is_empty()).then(|| hurting.means.join("; "));
            delaying.processes = hurting.stalls;
            delaying.lines = hurting.lines;
        }
        Topology::Delay => {
            let (means, forwarder) = delay(state, datapath, &options.delay)?;
            delaying.delayed_by = Some(means);
            delaying.processes.extend(forwarder);
        }
        Topology::Switch => switch(state, datapath, options.agents)?,
        Topology::Fleet => fleet::build(state, datapath, &topology.agents(options.agents), options.families)?,
        _ => ip("agent1", "link add port1 type veth peer name port2 netns agent2")?,
    }
    let agents = topology.agents(options.agents);
    for agent in &agents {
        signals::check()?;
        namespace::configure_port(
            agent,
            options.families,
            (topology == Topology::Vxlan).then_some(OVERLAY_MTU),
        )?;
    }
    if topology == Topology::Fleet {
        fleet::route_hosts(&agents, options.families)?;
    }
    Ok(delaying)
}

fn patch(state: &mut State, datapath: Datapath) -> Result<()> {
    let switch = state.start_switch("switch1", datapath)?;
    let mut commands = switch.add_bridge("ovs1") + &switch.add_bridge("ovs2");
    for (here, there) in [(1, 2), (2, 1)] {
        commands += &format!(
            " -- add-port ovs{here} patch{here} -- set interface patch{here} type=patch options:peer=patch{there}"
        );
    }
    switch.add_ports(&commands, &[("ovs1", "port1", "agent1"), ("ovs2", "port2", "agent2")])
}

fn delay(state: &mut State, datapath: Datapath, line: &DelayLine) -> Result<(String, Option<KillOnDrop>)> {
    let switch = state.start_switch("switch1", datapath)?;
    let ports = [
        ("ovs1", "port1", "agent1"),
        ("ovs2", "port2", "agent2"),
        ("ovs1", "port12", "agent3"),
        ("ovs2", "port22", "agent3"),
    ];
    // Without IPv6 addresses, the line sends no packets of its own.
    namespace::set_sysctls("agent3", &[("ipv6/conf/default/disable_ipv6", "1")])?;
    switch.add_ports(&(switch.add_bridge("ovs1") + &switch.add_bridge("ovs2")), &ports)?;
    signals::check()?;
    let directory = state.make_directory("agent3")?;
    delay::join("agent3", "port12", "port22", line, &directory)
}

fn switch(state: &mut State, datapath: Datapath, agents: u8) -> Result<()> {
    let switch = state.start_switch("switch1", datapath)?;
    let agents = Topology::Switch.agents(agents);
    let ports = agents
        .iter()
        .map(|agent| ("ovs1", &*agent.interface, &*agent.namespace));
    switch.add_ports(&switch.add_bridge("ovs1"), &ports.collect::<Vec<_>>())
}
