//! Builds networks of OpenFlow switches, and cuts and repairs their links.
//!
//! A link is a veth pair between two switch ports. Its delay is netem on both ports; without netem, the veth of each
//! port ends in namespace `lines`, where a forwarder joins the two.

use anyhow::{Result, bail};

use crate::exec::{self, KillOnDrop};
use crate::forward::Impairment;
use crate::lab::checksums;
use crate::lab::delay::{self, ControlDelay, DelayLine};
use crate::lab::namespace::{self, ip, tc};
use crate::lab::state::State;
use crate::lab::switch::Datapath;
use crate::lab::topology::{AgentNs, Families, HOST_PORT, LINES, Link, Network, SWITCHES, Topology};
use crate::{UsageError, signals};

/// Builds `network`, whose namespaces exist. Returns the source of the delays in words, and the delaying processes.
pub(crate) fn build(
    network: &Network,
    state: &mut State,
    datapath: Datapath,
    families: Families,
    control: &[ControlDelay],
) -> Result<(&'static str, Vec<KillOnDrop>)> {
    // Without IPv6 addresses, switches and lines send no packets of their own.
    for name in [SWITCHES, LINES] {
        namespace::set_sysctls(name, &[("ipv6/conf/default/disable_ipv6", "1")])?;
    }
    let switch = state.start_switch(SWITCHES, datapath)?;
    let directory = state.make_directory(LINES)?;
    let netem = delay::has_netem(LINES);
    for link in network.links {
        signals::check()?;
        create_link(link, netem)?;
    }
    // The relays listen before the switches connect.
    let mut processes = delay::relay(control, &directory)?;
    // Without this qdisc setting, Open vSwitch removes the qdisc of each port.
    let mut commands = "-- --id=@noop create qos type=linux-noop".to_owned();
    for (name, host) in network.switches.iter().zip(network.hosts()) {
        commands += &switch.add_bridge(name);
        commands += &make_openflow(name, network, &delay::controller_of(name, control));
        // Not an internal port: Open vSwitch would report it as down once it is in another namespace.
        let port = format!("{name}-host");
        create_host_link(&port, &host)?;
        commands += &add_port(name, &port, HOST_PORT);
    }
    for link in network.links {
        for (here, there) in [(link.left, link.right), (link.right, link.left)] {
            let number = network.port_number(here, there).unwrap_or_default();
            let interface = format!("{here}-{there}");
            commands += &add_port(here, &interface, number);
            commands += &format!(" -- set port {interface} qos=@noop");
        }
    }
    switch.configure(&commands)?;
    for link in network.links.iter().filter(|link| !netem && !link.delay.is_zero()) {
        signals::check()?;
        let [left, right] = link.ports().map(|port| far_end(&port));
        let line = DelayLine::lossless(link.delay, link.delay);
        processes.push(delay::forward(LINES, &left, &right, &line, &directory)?);
    }
    for host in network.hosts() {
        signals::check()?;
        namespace::configure_port(&host, families, None)?;
    }
    let delayed_by = if netem {
        "netem"
    } else {
        "xtask forward (no netem in this kernel)"
    };
    Ok((delayed_by, processes))
}

/// The ovs-vsctl commands that add an interface to a bridge, as port `number`.
fn add_port(bridge: &str, interface: &str, number: u32) -> String {
    format!(" -- add-port {bridge} {interface} -- set interface {interface} ofport_request={number}")
}

/// The ovs-vsctl commands that make a bridge an OpenFlow 1.3 switch which forwards nothing without its controller.
fn make_openflow(name: &str, network: &Network, controller: &str) -> String {
    let dpid = network.dpid(name).unwrap_or_default();
    format!(
        " -- set bridge {name} protocols=OpenFlow13 fail_mode=secure other_config:datapath-id={dpid:016x} \
         other_config:disable-in-band=true other_config:hwaddr=02:00:00:00:00:{dpid:02x} \
         -- set-controller {name} {controller} \
         -- set controller {name} connection_mode=out-of-band max_backoff=1000"
    )
}

/// Creates the veths of `link` and brings its ports up.
fn create_link(link: &Link, netem: bool) -> Result<()> {
    let [left, right] = link.ports();
    if link.delay.is_zero() || netem {
        ip(SWITCHES, &format!("link add {left} type veth peer name {right}"))?;
    } else {
        for port in [&left, &right] {
            let far = far_end(port);
            ip(
                SWITCHES,
                &format!("link add {port} type veth peer name {far} netns {LINES}"),
            )?;
            ip(LINES, &format!("link set {far} up"))?;
        }
    }
    for port in [&left, &right] {
        if netem {
            add_netem(port, link)?;
        }
        ip(SWITCHES, &format!("link set {port} up"))?;
    }
    Ok(())
}

/// Creates a veth from port `port` to a host, whose end is down until it is configured.
fn create_host_link(port: &str, host: &AgentNs) -> Result<()> {
    let (namespace, interface) = (&host.namespace, &host.interface);
    ip(
        SWITCHES,
        &format!("link add {port} type veth peer name {interface} netns {namespace}"),
    )?;
    checksums::disable_offload(namespace, interface)?;
    ip(SWITCHES, &format!("link set {port} up"))
}

fn add_netem(port: &str, link: &Link) -> Result<()> {
    if link.delay.is_zero() {
        return Ok(());
    }
    let impairment = Impairment {
        delay: link.delay,
        loss: 0.0,
    };
    delay::set_netem(SWITCHES, port, impairment)
}

fn far_end(port: &str) -> String {
    format!("l-{port}")
}

/// Takes both ports of the link between two switches down.
pub(crate) fn cut_link(topology: Topology, one: &str, other: &str) -> Result<()> {
    set_link(&find(topology, one, other)?, "down")
}

/// Makes both ports of the link drop all frames at egress. They stay up, so no switch reports it.
pub(crate) fn cut_link_silently(topology: Topology, one: &str, other: &str) -> Result<()> {
    for port in find(topology, one, other)?.ports() {
        // A queue of length zero, in place of netem's. Every kernel has it.
        tc(SWITCHES, &format!("qdisc replace dev {port} root pfifo limit 0"))?;
    }
    Ok(())
}

/// Undoes [`cut_link`] and [`cut_link_silently`].
pub(crate) fn repair_link(topology: Topology, one: &str, other: &str) -> Result<()> {
    let link = find(topology, one, other)?;
    for port in link.ports() {
        let qdisc = exec::run("tc", ["-n", SWITCHES, "qdisc", "show", "dev", &port, "root"])?;
        if qdisc.contains("pfifo") {
            tc(SWITCHES, &format!("qdisc del dev {port} root"))?;
            if delay::has_netem(LINES) {
                add_netem(&port, &link)?;
            }
        }
    }
    set_link(&link, "up")
}

fn find(topology: Topology, one: &str, other: &str) -> Result<Link> {
    match topology.network() {
        Some(network) => network.link(one, other),
        None => bail!(UsageError(format!(
            "topology {} has no links of switches",
            topology.name()
        ))),
    }
}

fn set_link(link: &Link, state: &str) -> Result<()> {
    for port in link.ports() {
        ip(SWITCHES, &format!("link set {port} {state}"))?;
    }
    Ok(())
}
