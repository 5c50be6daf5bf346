//! Two hosts with a switch each, joined by a VXLAN tunnel. A hurt segment is cut, and a delay line joins its ends again.
//!
//! The lines are in a namespace of their own, so agents that look at the devices of a host do not see them.

use std::path::PathBuf;

use anyhow::Result;

use crate::exec::KillOnDrop;
use crate::lab::delay::{self, DelayLine};
use crate::lab::hurt::{Hurts, Segment};
use crate::lab::namespace::{self, ip};
use crate::lab::state::State;
use crate::lab::switch::{Datapath, Switch};
use crate::lab::topology::LINES;
use crate::signals;

/// What hurts the path.
#[derive(Debug, Default)]
pub(crate) struct Hurting {
    /// In words.
    pub(crate) means: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// They let switches stall.
    pub(crate) stalls: Vec<KillOnDrop>,
}

/// The delay line of a segment.
#[derive(Debug)]
pub(crate) struct Line {
    segment: Segment,
    /// Its ports, the one towards agent1 first.
    ports: [String; 2],
    now: DelayLine,
    /// For the log of the forwarder.
    directory: PathBuf,
    /// `None` with netem.
    forwarder: Option<KillOnDrop>,
}

impl Line {
    /// Delays and drops what `hurts` say, from now on.
    pub(crate) fn set(&mut self, hurts: Hurts<'_>) -> Result<()> {
        let wanted = hurts.line(self.segment);
        if wanted == self.now {
            return Ok(());
        }
        let [left, right] = &self.ports;
        if self.forwarder.take().is_some() {
            self.forwarder = Some(delay::forward(LINES, left, right, &wanted, &self.directory)?);
        } else {
            delay::set_netem(LINES, right, wanted.left_to_right)?;
        }
        self.now = wanted;
        Ok(())
    }
}

/// Builds the hosts. Returns what hurts.
pub(crate) fn build(state: &mut State, datapath: Datapath, hurts: Hurts<'_>) -> Result<Hurting> {
    let mut lines = Lines::new(state, hurts)?;
    lines.join_hosts()?;
    for (here, there) in [(1, 2), (2, 1)] {
        signals::check()?;
        let host = format!("host{here}");
        let switch = state.start_switch(&host, datapath)?;
        let (in_switch, in_encapsulation) = match here {
            1 => (Segment::OwnSwitch, Segment::OwnEncapsulation),
            _ => (Segment::FarSwitch, Segment::FarEncapsulation),
        };
        let (underlay, overlay) = (format!("brphy{here}"), format!("ovs{here}"));
        switch.configure(&switch.add_bridge(&underlay))?;
        let nic = lines.second_bridge(&switch, here, &underlay, "brnic", in_encapsulation)?;
        switch.configure(&format!("-- add-port {nic} u{here}"))?;
        for device in [&format!("u{here}"), &underlay] {
            ip(&host, &format!("link set {device} up"))?;
        }
        ip(&host, &format!("addr add 172.31.1.{here}/24 dev {underlay}"))?;
        let port = (&*overlay, &*format!("port{here}"), &*format!("agent{here}"));
        switch.add_ports(&switch.add_bridge(&overlay), &[port])?;
        let tunnel = lines.second_bridge(&switch, here, &overlay, "brtun", in_switch)?;
        switch.configure(&format!(
            "-- add-port {tunnel} vxlan0 -- set interface vxlan0 type=vxlan \
             options:remote_ip=172.31.1.{there} options:key=42"
        ))?;
        if let Some(stall) = hurts.stall(in_switch) {
            let hurting = &mut lines.hurting;
            hurting.stalls.push(delay::stall(&host, &switch, stall)?);
            hurting
                .means
                .push(format!("{}: stalls for {stall:?} in each second", in_switch.field()));
        }
    }
    Ok(lines.hurting)
}

/// The delay lines of hurt segments.
struct Lines<'a> {
    hurts: Hurts<'a>,
    /// For the logs of forwarders.
    directory: PathBuf,
    hurting: Hurting,
}

impl<'a> Lines<'a> {
    fn new(state: &mut State, hurts: Hurts<'a>) -> Result<Self> {
        if hurts.have_lines() {
            state.create_namespace(LINES)?;
            // Without IPv6 addresses, the lines send no packets of their own.
            namespace::set_sysctls(LINES, &[("ipv6/conf/default/disable_ipv6", "1")])?;
        }
        Ok(Self {
            hurts,
            directory: state.make_directory(LINES)?,
            hurting: Hurting::default(),
        })
    }

    fn join_hosts(&mut self) -> Result<()> {
        if !self.hurts.have_line(Segment::Underlay) {
            return ip("host1", "link add u1 type veth peer name u2 netns host2");
        }
        for number in [1, 2] {
            ip(
                &format!("host{number}"),
                &format!("link add u{number} type veth peer name w{number} netns {LINES}"),
            )?;
        }
        self.join(Segment::Underlay, ["w1", "w2"].map(str::to_owned))
    }

    /// The bridge for the ports at the far side of `bridge`: itself, or one behind the line of a hurt segment.
    fn second_bridge(
        &mut self,
        switch: &Switch,
        host: u8,
        bridge: &str,
        prefix: &str,
        segment: Segment,
    ) -> Result<String> {
        if !self.hurts.have_line(segment) {
            return Ok(bridge.to_owned());
        }
        let second = format!("{prefix}{host}");
        let (here, there) = (format!("{bridge}-line"), format!("{second}-line"));
        let ports = [(bridge, &*here, LINES), (&*second, &*there, LINES)];
        switch.add_ports(&switch.add_bridge(&second), &ports)?;
        // The second bridge is a device of the host, too, and would answer ARP requests for the first one's address: the path
        // would then lead around the line.
        namespace::set_sysctls(&format!("host{host}"), &[("ipv4/conf/all/arp_ignore", "1")])?;
        // Left is towards agent1.
        self.join(segment, if host == 1 { [here, there] } else { [there, here] })?;
        Ok(second)
    }

    fn join(&mut self, segment: Segment, ports: [String; 2]) -> Result<()> {
        let now = self.hurts.line(segment);
        let (means, forwarder) = delay::join(LINES, &ports[0], &ports[1], &now, &self.directory)?;
        self.hurting.means.push(format!("{}: {means}", segment.field()));
        self.hurting.lines.push(Line {
            segment,
            ports,
            now,
            directory: self.directory.clone(),
            forwarder,
        });
        Ok(())
    }
}
