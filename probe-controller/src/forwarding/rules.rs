//! All rules that switches get: matches, actions, priorities, cookies.

use std::collections::BTreeSet;

use crate::openflow::cookie;
use crate::openflow::flow::{Action, FlowMod, Match};
use crate::openflow::id::{Dpid, MacAddress, PortNumber};
use crate::openflow::lldp::{BOUNCE_DESTINATION, ETH_TYPE_BOUNCE};

const PRIORITY_BOUNCE: u16 = 65_534;
const PRIORITY_RESERVED: u16 = 40_000;
const PRIORITY_BLOCKED: u16 = 35_000;
const PRIORITY_PATH: u16 = 30_000;
const PRIORITY_GROUP_FROM_HOST: u16 = 20_001;
const PRIORITY_GROUP: u16 = 20_000;

const RETURN: u64 = cookie::MEASURING | 2;
const BOUNCE: u64 = cookie::MEASURING | 3;
const RESERVED: u64 = cookie::FORWARDING | 2;
const GROUP: u64 = cookie::FORWARDING | 3;
const BLOCKED: u64 = cookie::FORWARDING | 4;
/// One of the 24 free bits of a cookie marks a path; the others number it.
const PATH: u64 = cookie::FORWARDING | 0x80_0000;
const PATH_NUMBERS: u64 = 0x7f_ffff;

/// Source address of the frames that a switch sends to be bounced. It depends on the switch only, so that rules of an
/// earlier run cannot make two switches bounce a frame forever: no switch bounces its own frames.
pub(super) fn marker(dpid: Dpid) -> MacAddress {
    // FNV-1a, because datapath ids often differ in few bits. Equal markers cost a bounce, see `bounce_rule`.
    let hash = dpid
        .0
        .to_be_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let [.., a, b, c, d, e] = (hash ^ (hash >> 40)).to_be_bytes();
    MacAddress([0x02, a, b, c, d, e])
}

fn bouncing(from: Dpid) -> Match {
    Match::any()
        .eth_type(ETH_TYPE_BOUNCE)
        .eth_dst(BOUNCE_DESTINATION)
        .eth_src(marker(from))
}

/// Bounced frames that come back go to the controller.
pub(super) fn returned(dpid: Dpid) -> FlowMod {
    let to_controller = vec![Action::Output(PortNumber::CONTROLLER)];
    FlowMod::add(RETURN, PRIORITY_BOUNCE, bouncing(dpid), to_controller)
}

/// Returns frames of the neighbour out of their ingress port. `None` if both switches have the same marker.
pub(super) fn bounce_rule(at: Dpid, port: PortNumber, neighbour: Dpid) -> Option<FlowMod> {
    let matching = bouncing(neighbour).in_port(port);
    let back = vec![Action::Output(PortNumber::IN_PORT)];
    (marker(at) != marker(neighbour)).then(|| FlowMod::add(BOUNCE, PRIORITY_BOUNCE, matching, back))
}

/// The opposite of [`bounce_rule`].
pub(super) fn no_bounce_rule(port: PortNumber, neighbour: Dpid) -> FlowMod {
    FlowMod::delete_strict(BOUNCE, PRIORITY_BOUNCE, bouncing(neighbour).in_port(port))
}

/// Frames to a bridge's own group addresses go no further (IEEE 802.1Q §8.6.3). LLDP to the controller goes first.
pub(super) fn reserved() -> FlowMod {
    let group = MacAddress([0x01, 0x80, 0xc2, 0, 0, 0]);
    let mask = MacAddress([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]);
    let matching = Match::any().eth_dst_masked(group, mask);
    FlowMod::add(RESERVED, PRIORITY_RESERVED, matching, Vec::new())
}

pub(super) fn path_cookie(generation: u64) -> u64 {
    PATH | (generation & PATH_NUMBERS)
}

fn between(source: MacAddress, destination: MacAddress) -> Match {
    Match::any().eth_src(source).eth_dst(destination)
}

pub(super) fn path(cookie: u64, source: MacAddress, destination: MacAddress, out: Action) -> FlowMod {
    FlowMod::add(cookie, PRIORITY_PATH, between(source, destination), vec![out])
}

/// The opposite of [`path`].
pub(super) fn no_path(cookie: u64, source: MacAddress, destination: MacAddress) -> FlowMod {
    FlowMod::delete_strict(cookie, PRIORITY_PATH, between(source, destination))
}

/// Group frames go out of all these ports except their ingress port.
pub(super) fn group(ports: &BTreeSet<PortNumber>) -> FlowMod {
    let matching = Match::any().eth_dst_group();
    FlowMod::add(GROUP, PRIORITY_GROUP, matching, outputs(ports))
}

/// As [`group`], and to the controller, which learns the position of the host.
pub(super) fn group_from_host(port: PortNumber, ports: &BTreeSet<PortNumber>) -> FlowMod {
    let mut actions = outputs(ports);
    actions.push(Action::Output(PortNumber::CONTROLLER));
    let matching = Match::any().in_port(port).eth_dst_group();
    FlowMod::add(GROUP, PRIORITY_GROUP_FROM_HOST, matching, actions)
}

/// The opposite of [`group_from_host`].
pub(super) fn no_group_from_host(port: PortNumber) -> FlowMod {
    let matching = Match::any().in_port(port).eth_dst_group();
    FlowMod::delete_strict(GROUP, PRIORITY_GROUP_FROM_HOST, matching)
}

/// Frames of a segment that come in at a port other than those that carry them would be forwarded twice, or in a loop.
pub(super) fn blocked(port: PortNumber) -> FlowMod {
    FlowMod::add(BLOCKED, PRIORITY_BLOCKED, Match::any().in_port(port), Vec::new())
}

/// The opposite of [`blocked`].
pub(super) fn not_blocked(port: PortNumber) -> FlowMod {
    FlowMod::delete_strict(BLOCKED, PRIORITY_BLOCKED, Match::any().in_port(port))
}

fn outputs(ports: &BTreeSet<PortNumber>) -> Vec<Action> {
    ports.iter().copied().map(Action::Output).collect()
}
