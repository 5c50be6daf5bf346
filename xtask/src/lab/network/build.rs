//! Builds a network: bridges, cables between them, hosts, and control channels.

use anyhow::Result;

use super::{HOST_PORT, LINES, Network, SWITCHES, Standing, control, links};
use crate::{
    lab::{
        AgentNs,
        build::{Build, configure},
        namespace,
        switch::words,
    },
    signals,
};

impl Build<'_> {
    /// Builds all of `network`, whose namespaces are there.
    pub(crate) fn network(&mut self, network: &Network) -> Result<(Vec<AgentNs>, Standing)> {
        // Switches and lines have no part in the network: no addresses, so nothing of their own to send.
        for name in [SWITCHES, LINES] {
            namespace::set_sysctls(name, &[("ipv6/conf/default/disable_ipv6", "1")])?;
        }
        let switch = self.start_switch(SWITCHES)?;
        let directory = self.directory(LINES)?;
        let netem = links::has_netem();
        for link in network.links {
            signals::check()?;
            links::lay(link, netem)?;
        }
        // The relays listen before the switches look for them.
        let mut children = control::start(&self.options.control, &directory)?;
        let hosts = network.hosts();
        // Otherwise Open vSwitch removes the queueing discipline of each port that it gets.
        let mut line = words("-- --id=@as_it_is create qos type=linux-noop");
        for (name, host) in network.switches.iter().zip(&hosts) {
            line.extend(switch.bridge(name));
            line.extend(openflow(name, network, &control::target(&self.options.control, name)));
            // Not an internal port: in another namespace Open vSwitch cannot see it, and reports it as down.
            links::lay_to_host(&host_port(name), host)?;
            line.extend(port(name, &host_port(name), HOST_PORT));
        }
        for link in network.links {
            for (here, there) in [(link.left, link.right), (link.right, link.left)] {
                let number = network.port_number(here, there).unwrap_or_default();
                let interface = format!("{here}-{there}");
                line.extend(port(here, &interface, number));
                line.extend(words(&format!("-- set port {interface} qos=@as_it_is")));
            }
        }
        switch.configure(line.iter().map(String::as_str))?;
        for link in network.links {
            signals::check()?;
            children.extend(links::join(link, netem, &directory)?);
        }
        for host in &hosts {
            signals::check()?;
            configure(host, None)?;
        }
        let describe = if netem {
            "links delayed by netem"
        } else {
            "links delayed by xtask forward (no netem in this kernel)"
        };
        Ok((hosts, Standing { describe, children }))
    }
}

/// The port at which `switch` has its host.
fn host_port(switch: &str) -> String {
    format!("{switch}-host")
}

/// The words that add an interface to a bridge, as port `number`.
fn port(bridge: &str, interface: &str, number: u32) -> Vec<String> {
    words(&format!(
        "-- add-port {bridge} {interface} -- set interface {interface} ofport_request={number}"
    ))
}

/// The words that make a bridge an OpenFlow 1.3 switch which does nothing without its controller.
fn openflow(name: &str, network: &Network, controller: &str) -> Vec<String> {
    let dpid = network.dpid(name).unwrap_or_default();
    words(&format!(
        "-- set bridge {name} protocols=OpenFlow13 fail_mode=secure other_config:datapath-id={dpid:016x} \
         other_config:disable-in-band=true other_config:hwaddr=02:00:00:00:00:{dpid:02x} \
         -- set-controller {name} {controller} \
         -- set controller {name} connection_mode=out-of-band max_backoff=1000"
    ))
}
