//! Builds each topology, step by step; every step is recorded before it is done.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    AgentNs, Options, Topology,
    delay::{self, Line},
    namespace,
    network::Standing,
    state::{DIRECTORY, State, Step},
    switch::{Datapath, Switch, words},
};
use crate::{exec, signals};

/// IPv6 addresses are to be usable at once and to be the only ones.
const AT_ONCE: [(&str, &str); 6] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
];

/// The room that VXLAN's headers take from the underlay's 1500 bytes.
const OVERLAY_MTU: &str = "1450";

/// A lab while it is being built.
pub(crate) struct Build<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) datapath: Datapath,
    pub(crate) options: &'a Options,
}

/// What was built.
pub(crate) struct Built {
    pub(crate) agents: Vec<AgentNs>,
    pub(crate) line: Option<Line>,
    pub(crate) network: Option<Standing>,
}

impl Build<'_> {
    /// Builds all of `topology`.
    pub(crate) fn build(&mut self, topology: Topology) -> Result<Built> {
        for name in topology.namespaces(self.options.agents) {
            self.namespace(&name)?;
        }
        if let Some(network) = topology.network() {
            let (agents, network) = self.network(network)?;
            return Ok(Built {
                agents,
                line: None,
                network: Some(network),
            });
        }
        let mut line = None;
        match topology {
            Topology::Patch => self.patch()?,
            Topology::Vxlan => self.vxlan()?,
            Topology::Delay => line = Some(self.delay()?),
            Topology::Veth => self.veth()?,
            Topology::Switch => self.switch()?,
            Topology::Line | Topology::Triangle | Topology::Arpanet => {}
        }
        let count = if topology == Topology::Switch {
            self.options.agents
        } else {
            2
        };
        let agents: Vec<_> = (1..=count).map(AgentNs::numbered).collect();
        for agent in &agents {
            signals::check()?;
            configure(agent, (topology == Topology::Vxlan).then_some(OVERLAY_MTU))?;
        }
        Ok(Built {
            agents,
            line,
            network: None,
        })
    }

    fn patch(&mut self) -> Result<()> {
        let switch = self.start_switch("switch1")?;
        let mut line = [switch.bridge("ovs1"), switch.bridge("ovs2")].concat();
        for (here, there) in [(1, 2), (2, 1)] {
            line.extend(words(&format!(
                "-- add-port ovs{here} patch{here} -- set interface patch{here} type=patch options:peer=patch{there}"
            )));
        }
        line.extend([internal("ovs1", "port1"), internal("ovs2", "port2")].concat());
        finish(
            &switch,
            &line,
            &["ovs1", "ovs2"],
            &[("port1", "agent1"), ("port2", "agent2")],
        )
    }

    fn delay(&mut self) -> Result<Line> {
        let switch = self.start_switch("switch1")?;
        let line = [
            switch.bridge("ovs1"),
            switch.bridge("ovs2"),
            internal("ovs1", "port1"),
            internal("ovs1", "port12"),
            internal("ovs2", "port2"),
            internal("ovs2", "port22"),
        ]
        .concat();
        let moves = [
            ("port1", "agent1"),
            ("port2", "agent2"),
            ("port12", "agent3"),
            ("port22", "agent3"),
        ];
        // The line has no part in the network it joins: no addresses, so nothing of its own to send.
        namespace::set_sysctls("agent3", &[("ipv6/conf/default/disable_ipv6", "1")])?;
        finish(&switch, &line, &["ovs1", "ovs2"], &moves)?;
        signals::check()?;
        let directory = self.directory("agent3")?;
        delay::join("agent3", "port12", "port22", &self.options.delay, &directory)
    }

    fn switch(&mut self) -> Result<()> {
        let switch = self.start_switch("switch1")?;
        let names: Vec<_> = (1..=self.options.agents)
            .map(|i| (format!("port{i}"), format!("agent{i}")))
            .collect();
        let mut line = switch.bridge("ovs1");
        line.extend(names.iter().flat_map(|(port, _)| internal("ovs1", port)));
        let moves: Vec<_> = names
            .iter()
            .map(|(port, agent)| (port.as_str(), agent.as_str()))
            .collect();
        finish(&switch, &line, &["ovs1"], &moves)
    }

    fn vxlan(&mut self) -> Result<()> {
        let words_ = "link add u1 netns host1 type veth peer name u2 netns host2";
        exec::run("ip", words_.split(' '))?;
        for (here, there) in [(1, 2), (2, 1)] {
            signals::check()?;
            let (host, under, over) = (format!("host{here}"), format!("brphy{here}"), format!("ovs{here}"));
            let (uplink, port, agent) = (format!("u{here}"), format!("port{here}"), format!("agent{here}"));
            let switch = self.start_switch(&host)?;
            let mut line = switch.bridge(&under);
            line.extend(words(&format!("-- add-port {under} {uplink}")));
            switch.configure(line.iter().map(String::as_str))?;
            for device in [&uplink, &under] {
                exec::run("ip", ["-n", &host, "link", "set", device, "up"])?;
            }
            exec::run(
                "ip",
                [
                    "-n",
                    &host,
                    "addr",
                    "add",
                    &format!("172.31.1.{here}/24"),
                    "dev",
                    &under,
                ],
            )?;
            let mut line = switch.bridge(&over);
            line.extend(words(&format!(
                "-- add-port {over} vxlan0 -- set interface vxlan0 type=vxlan \
                 options:remote_ip=172.31.1.{there} options:key=42"
            )));
            line.extend(internal(&over, &port));
            finish(&switch, &line, &[&over], &[(&port, &agent)])?;
        }
        Ok(())
    }

    fn veth(&mut self) -> Result<()> {
        let line = "link add port1 netns agent1 type veth peer name port2 netns agent2";
        exec::run("ip", line.split(' ')).map(drop)
    }

    fn namespace(&mut self, name: &str) -> Result<()> {
        signals::check()?;
        self.state.record(Step::Namespace { name: name.to_owned() })?;
        if let Err(error) = namespace::create(name) {
            if format!("{error:#}").contains("File exists") {
                self.state.withdraw()?;
                bail!("{}", super::taken(name));
            }
            return Err(error);
        }
        namespace::set_sysctls(name, &AT_ONCE)
    }

    pub(super) fn start_switch(&mut self, namespace: &str) -> Result<Switch> {
        signals::check()?;
        let directory = self.directory(namespace)?;
        self.state.record(Step::Switch {
            namespace: namespace.to_owned(),
            directory: directory.clone(),
        })?;
        Switch::start(namespace, &directory, self.datapath)
    }

    /// A directory for the files of what runs in `namespace`.
    pub(super) fn directory(&mut self, namespace: &str) -> Result<PathBuf> {
        let path = Path::new(DIRECTORY).join(namespace);
        self.state.record(Step::Directory { path: path.clone() })?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

/// The words that add an internal port.
fn internal(bridge: &str, port: &str) -> Vec<String> {
    words(&format!(
        "-- add-port {bridge} {port} -- set interface {port} type=internal"
    ))
}

/// Has the switch carry out `line`, brings its bridges up and hands its ports to their namespaces.
fn finish(switch: &Switch, line: &[String], bridges: &[&str], moves: &[(&str, &str)]) -> Result<()> {
    switch.configure(line.iter().map(String::as_str))?;
    bridges.iter().try_for_each(|bridge| switch.bring_up(bridge))?;
    moves
        .iter()
        .try_for_each(|(port, namespace)| switch.hand_over(port, namespace))
}

/// Gives the agent's port its addresses, and the route that multicast takes.
pub(super) fn configure(agent: &AgentNs, mtu: Option<&str>) -> Result<()> {
    let AgentNs {
        namespace,
        interface,
        v4,
        v6,
    } = agent;
    let ip = |line: String| exec::run("ip", ["-n", namespace].into_iter().chain(line.split(' '))).map(drop);
    if let Some(mtu) = mtu {
        ip(format!("link set {interface} mtu {mtu}"))?;
    }
    ip(format!("link set {interface} up"))?;
    ip(format!("addr add {v4}/24 dev {interface}"))?;
    ip(format!("addr add {v6}/64 dev {interface} nodad"))?;
    ip(format!("route add 224.0.0.0/4 dev {interface}"))
}
