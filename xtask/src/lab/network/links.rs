//! The links of a network: cables (veth pairs) between switch ports, with a delay in the middle, cut and repaired.
//!
//! netem on the ports where the kernel has it; else each port's cable ends in namespace `lines`, where our own
//! forwarder ([`crate::forward`]) joins the two.

use std::{path::Path, process::Child};

use anyhow::{Result, bail};

use super::{LINES, Link, SWITCHES};
use crate::{
    exec, forward,
    lab::{AgentNs, Topology, checksums, process},
};

/// A network that stands: what runs for it, and in words how its links are delayed.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) describe: &'static str,
    pub(crate) children: Vec<Child>,
}

impl Standing {
    /// Ends what still runs.
    pub(crate) fn end(mut self) {
        for child in &mut self.children {
            // Ended meanwhile, with its namespace, is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lays the cables of `link`. Its ports are there and up afterwards.
pub(super) fn lay(link: &Link, netem: bool) -> Result<()> {
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
        if netem && !link.delay.is_zero() {
            delay_by_netem(port, link)?;
        }
        ip(SWITCHES, &format!("link set {port} up"))?;
    }
    Ok(())
}

/// Lays a cable from port `port` to a host, whose end is down until it is configured.
pub(super) fn lay_to_host(port: &str, host: &AgentNs) -> Result<()> {
    let (namespace, interface) = (&host.namespace, &host.interface);
    ip(
        SWITCHES,
        &format!("link add {port} type veth peer name {interface} netns {namespace}"),
    )?;
    checksums::finish(namespace, interface)?;
    ip(SWITCHES, &format!("link set {port} up"))
}

/// Starts what delays the frames of `link`, if netem does not.
pub(super) fn join(link: &Link, netem: bool, directory: &Path) -> Result<Option<Child>> {
    if netem || link.delay.is_zero() {
        return Ok(None);
    }
    let [left, right] = link.ports();
    let arguments = [
        "forward".to_owned(),
        format!("--left={}", far_end(&left)),
        format!("--right={}", far_end(&right)),
        format!("--left-to-right={}us", link.delay.as_micros()),
        format!("--right-to-left={}us", link.delay.as_micros()),
    ];
    let log = directory.join(format!("{left}.log"));
    process::start(LINES, &arguments, &log, forward::READY).map(Some)
}

/// Whether the kernel has netem: tried on the loopback device of `lines`, where nothing passes.
pub(super) fn has_netem() -> bool {
    let add = [
        "-n", LINES, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms",
    ];
    let has = exec::run("tc", add).is_ok();
    if has {
        // It goes with the namespace too.
        let _ = exec::run("tc", ["-n", LINES, "qdisc", "del", "dev", "lo", "root"]);
    }
    has
}

/// TC egress, where kernel stamps are taken, comes before the queueing discipline: the delay lies between the stamps.
fn delay_by_netem(port: &str, link: &Link) -> Result<()> {
    let delay = link.delay.as_micros();
    tc(&format!("qdisc add dev {port} root netem limit 100000 delay {delay}us"))
}

fn far_end(port: &str) -> String {
    format!("l-{port}")
}

/// Takes both ports of the link between two switches down.
pub(crate) fn cut_link(topology: Topology, one: &str, other: &str) -> Result<()> {
    set_link(&find(topology, one, other)?, "down")
}

/// Has both ports of the link drop what they are to send. They stay up, so no switch tells of it.
pub(crate) fn drop_on_link(topology: Topology, one: &str, other: &str) -> Result<()> {
    for port in find(topology, one, other)?.ports() {
        // A queue for no frames; it takes the place of netem's. Every kernel has it.
        tc(&format!("qdisc replace dev {port} root pfifo limit 0"))?;
    }
    Ok(())
}

/// Undoes [`cut_link`] and [`drop_on_link`].
pub(crate) fn repair_link(topology: Topology, one: &str, other: &str) -> Result<()> {
    let link = find(topology, one, other)?;
    for port in link.ports() {
        let queue = exec::run("tc", ["-n", SWITCHES, "qdisc", "show", "dev", &port, "root"])?;
        if queue.contains("pfifo") {
            tc(&format!("qdisc del dev {port} root"))?;
            if !link.delay.is_zero() && has_netem() {
                delay_by_netem(&port, &link)?;
            }
        }
    }
    set_link(&link, "up")
}

fn find(topology: Topology, one: &str, other: &str) -> Result<Link> {
    match topology.network() {
        Some(network) => network.link(one, other),
        None => bail!("topology {} has no links of switches", topology.name()),
    }
}

fn set_link(link: &Link, state: &str) -> Result<()> {
    for port in link.ports() {
        ip(SWITCHES, &format!("link set {port} {state}"))?;
    }
    Ok(())
}

fn tc(words: &str) -> Result<()> {
    exec::run("tc", ["-n", SWITCHES].into_iter().chain(words.split(' '))).map(drop)
}

fn ip(namespace: &str, words: &str) -> Result<()> {
    exec::run("ip", ["-n", namespace].into_iter().chain(words.split(' '))).map(drop)
}
