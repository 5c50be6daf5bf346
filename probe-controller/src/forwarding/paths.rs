//! Installs rules for the frames from one host to another. A new path is installed from its far end, each switch
//! confirming before the next gets its rule, and the old rules are deleted last, so that no frame is lost and no loop can form.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::forwarding::quota::Quota;
use crate::forwarding::rules;
use crate::forwarding::switches::{Outbox, Switches};
use crate::openflow::flow::Action;
use crate::openflow::id::{Dpid, MacAddress, PortNumber};
use crate::openflow::message::{Message, PacketOut};
use crate::openflow::server::Command;
use crate::topology::PortId;

/// Pairs of hosts with rules: of the sources on one port, and of all.
pub(super) const PAIRS_PER_PORT: usize = 4_096;
const MAX_PAIRS: usize = 16_384;
/// Frames per pair that wait for their path; further frames are dropped.
const MAX_HELD: usize = 16;
/// A switch that has not confirmed after this time is asked again.
const RETRY_NS: u64 = 2_000_000_000;

const FIRST: MacAddress = MacAddress([0; 6]);
const LAST: MacAddress = MacAddress([0xff; 6]);

/// Source and destination.
pub(super) type Pair = (MacAddress, MacAddress);

/// A frame that waits for its path, with the port that received it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) at: PortId,
    pub(super) frame: Vec<u8>,
}

#[derive(Debug)]
struct Installed {
    /// The port of the source, and the number of the first path: the pair's place in the quota.
    place: (PortId, u64),
    /// Rules that switches may have: cookie and output.
    present: BTreeMap<Dpid, (u64, PortNumber)>,
    /// The present path: switches and their outputs, in order.
    wanted: Vec<(Dpid, PortNumber)>,
    cookie: u64,
    /// Number of switches of `wanted`, from its end, that have confirmed.
    confirmed: usize,
    /// Token of the barrier of the next switch.
    awaited: Option<u64>,
    asked_ns: u64,
    held: VecDeque<Held>,
}

#[derive(Debug)]
pub(super) struct Paths {
    pairs: BTreeMap<Pair, Installed>,
    /// Destination and source of each pair.
    to: BTreeSet<(MacAddress, MacAddress)>,
    quota: Quota<Pair>,
    awaited: BTreeMap<u64, Pair>,
    generation: u64,
}

/// What sending rules needs.
pub(super) struct Dispatch<'a> {
    pub(super) switches: &'a Switches,
    pub(super) token: &'a mut u64,
    pub(super) outbox: &'a mut Outbox,
    pub(super) now_ns: u64,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            pairs: BTreeMap::new(),
            to: BTreeSet::new(),
            quota: Quota::new(PAIRS_PER_PORT, MAX_PAIRS),
            awaited: BTreeMap::new(),
            generation: 0,
        }
    }
}

impl Paths {
    /// The pair that must go before a pair from this port gets rules.
    pub(super) fn surplus(&self, pair: Pair, from: PortId) -> Option<Pair> {
        (!self.pairs.contains_key(&pair)).then(|| self.quota.surplus(from))?
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.pairs.keys().copied()
    }

    /// Keeps a frame until its path is installed. False if there is no path, or too many frames wait.
    pub(super) fn hold(&mut self, pair: Pair, held: Held, dispatch: &mut Dispatch<'_>) -> bool {
        let Some(installed) = self.pairs.get_mut(&pair) else {
            return false;
        };
        if installed.held.len() >= MAX_HELD {
            return false;
        }
        installed.held.push_back(held);
        if installed.is_done() {
            installed.release(dispatch);
        }
        true
    }

    /// Whether the pair's rules follow this path, confirmed or not.
    pub(super) fn is_along(&self, pair: Pair, path: &[(Dpid, PortNumber)]) -> bool {
        self.pairs.get(&pair).is_some_and(|installed| installed.wanted == path)
    }

    /// Where a switch on the path of a pair sends its frames.
    pub(super) fn output(&self, pair: Pair, dpid: Dpid) -> Option<PortNumber> {
        let wanted = &self.pairs.get(&pair)?.wanted;
        wanted.iter().find(|(switch, _)| *switch == dpid).map(|(_, out)| *out)
    }

    /// Installs a path for frames from a host on `from`: the switches to the destination, each with its output.
    pub(super) fn install(
        &mut self,
        pair: Pair,
        from: PortId,
        path: Vec<(Dpid, PortNumber)>,
        dispatch: &mut Dispatch<'_>,
    ) {
        self.generation += 1;
        let place = (from, self.generation);
        if !self.pairs.contains_key(&pair) {
            self.quota.insert(from, self.generation, pair);
            self.to.insert((pair.1, pair.0));
        }
        let installed = self.pairs.entry(pair).or_insert_with(|| Installed {
            place,
            present: BTreeMap::new(),
            wanted: Vec::new(),
            cookie: 0,
            confirmed: 0,
            awaited: None,
            asked_ns: 0,
            held: VecDeque::new(),
        });
        installed.cookie = rules::path_cookie(self.generation);
        installed.wanted = path;
        installed.confirmed = 0;
        self.advance(pair, dispatch);
    }

    /// Takes the answer to a barrier: the next switch may get its rule.
    pub(super) fn confirmed(&mut self, token: u64, dispatch: &mut Dispatch<'_>) {
        let Some(pair) = self.awaited.remove(&token) else {
            return;
        };
        let Some(installed) = self
            .pairs
            .get_mut(&pair)
            .filter(|installed| installed.awaited == Some(token))
        else {
            return;
        };
        installed.awaited = None;
        installed.confirmed += 1;
        if installed.is_done() {
            installed.clear_away(pair, dispatch);
            installed.release(dispatch);
        } else {
            self.advance(pair, dispatch);
        }
    }

    /// Sends rules again to switches that have not confirmed for long.
    pub(super) fn retry(&mut self, dispatch: &mut Dispatch<'_>) {
        let late = |installed: &Installed| {
            !installed.is_done() && dispatch.now_ns.saturating_sub(installed.asked_ns) > RETRY_NS
        };
        let pairs: Vec<Pair> = self
            .pairs
            .iter()
            .filter(|(_, installed)| late(installed))
            .map(|(pair, _)| *pair)
            .collect();
        for pair in pairs {
            self.advance(pair, dispatch);
        }
    }

    /// A switch connected or is gone: its rules are gone, too.
    pub(super) fn switch_reset(&mut self, dpid: Dpid) {
        for installed in self.pairs.values_mut() {
            installed.present.remove(&dpid);
            if installed.wanted.iter().any(|(switch, _)| *switch == dpid) {
                // The next evaluation installs it again.
                installed.wanted.clear();
            }
        }
    }

    /// Deletes the rules from and to a host.
    pub(super) fn remove_host(&mut self, host: MacAddress, dispatch: &mut Dispatch<'_>) {
        self.remove_source(host, dispatch);
        let sources = self.to.range((host, FIRST)..=(host, LAST));
        for pair in sources.map(|(to, from)| (*from, *to)).collect::<Vec<_>>() {
            self.remove(pair, dispatch);
        }
    }

    /// Deletes the rules from a host.
    pub(super) fn remove_source(&mut self, host: MacAddress, dispatch: &mut Dispatch<'_>) {
        let pairs = self.pairs.range((host, FIRST)..=(host, LAST));
        for pair in pairs.map(|(pair, _)| *pair).collect::<Vec<_>>() {
            self.remove(pair, dispatch);
        }
    }

    /// Deletes the rules of a pair.
    pub(super) fn remove(&mut self, pair: Pair, dispatch: &mut Dispatch<'_>) {
        if let Some(mut installed) = self.pairs.remove(&pair) {
            let (port, number) = installed.place;
            self.quota.remove(port, number, pair);
            self.to.remove(&(pair.1, pair.0));
            if let Some(token) = installed.awaited {
                self.awaited.remove(&token);
            }
            installed.wanted.clear();
            installed.clear_away(pair, dispatch);
        }
    }

    /// Sends the rule of the next switch from the far end.
    fn advance(&mut self, pair: Pair, dispatch: &mut Dispatch<'_>) {
        let Some(installed) = self.pairs.get_mut(&pair) else {
            return;
        };
        let Some((dpid, out)) = installed.next() else { return };
        let rule = rules::path(installed.cookie, pair.0, pair.1, Action::Output(out));
        installed.asked_ns = dispatch.now_ns;
        if !dispatch
            .switches
            .command(dpid, Command::Send(Message::FlowMod(rule)), dispatch.outbox)
        {
            return;
        }
        installed.present.insert(dpid, (installed.cookie, out));
        *dispatch.token += 1;
        dispatch
            .switches
            .command(dpid, Command::Barrier(*dispatch.token), dispatch.outbox);
        if let Some(former) = installed.awaited.replace(*dispatch.token) {
            self.awaited.remove(&former);
        }
        self.awaited.insert(*dispatch.token, pair);
    }
}

impl Installed {
    fn is_done(&self) -> bool {
        self.confirmed >= self.wanted.len()
    }

    fn next(&self) -> Option<(Dpid, PortNumber)> {
        self.wanted.iter().rev().nth(self.confirmed).copied()
    }

    /// Deletes the rules of former paths.
    fn clear_away(&mut self, pair: Pair, dispatch: &mut Dispatch<'_>) {
        let wanted = &self.wanted;
        self.present.retain(|dpid, (cookie, _)| {
            let stays = wanted.iter().any(|(switch, _)| switch == dpid);
            if !stays {
                let rule = rules::no_path(*cookie, pair.0, pair.1);
                dispatch
                    .switches
                    .command(*dpid, Command::Send(Message::FlowMod(rule)), dispatch.outbox);
            }
            stays
        });
    }

    /// Sends the waiting frames, each from the switch that received it.
    fn release(&mut self, dispatch: &mut Dispatch<'_>) {
        for Held { at, frame } in self.held.drain(..) {
            let Some((_, (_, out))) = self.present.get_key_value(&at.dpid) else {
                continue;
            };
            // A switch sends nothing out of its ingress port, except by IN_PORT.
            let out = if *out == at.port { PortNumber::IN_PORT } else { *out };
            let packet = PacketOut {
                in_port: at.port,
                actions: vec![Action::Output(out)],
                frame,
            };
            dispatch
                .switches
                .command(at.dpid, Command::Send(Message::PacketOut(packet)), dispatch.outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(kind: u8, number: u32) -> MacAddress {
        let [.., b, c, d] = number.to_be_bytes();
        MacAddress([2, kind, 0, b, c, d])
    }

    #[test]
    fn the_pairs_of_a_port_that_floods_displace_each_other_only() {
        let port = |number| PortId {
            dpid: Dpid(1),
            port: PortNumber(number),
        };
        let (switches, mut token, mut outbox) = (Switches::default(), 0, Outbox::new());
        let mut dispatch = Dispatch {
            switches: &switches,
            token: &mut token,
            outbox: &mut outbox,
            now_ns: 0,
        };
        let mut paths = Paths::default();
        let add = |paths: &mut Paths, pair, from, dispatch: &mut Dispatch<'_>| {
            if let Some(surplus) = paths.surplus(pair, from) {
                paths.remove(surplus, dispatch);
            }
            paths.install(pair, from, vec![(Dpid(1), PortNumber(9))], dispatch);
        };
        let honest = (address(1, 1), address(1, 2));
        add(&mut paths, honest, port(1), &mut dispatch);
        for number in 0..100_000 {
            let pair = (address(2, number), address(3, number % 7));
            add(&mut paths, pair, port(2), &mut dispatch);
        }
        assert_eq!(paths.pairs().count(), 1 + PAIRS_PER_PORT);
        assert!(paths.pairs().any(|pair| pair == honest));
        // As a destination, a host takes its pairs with it.
        for number in 0..7 {
            paths.remove_host(address(3, number), &mut dispatch);
        }
        assert_eq!(paths.pairs().collect::<Vec<_>>(), [honest]);
        paths.remove_source(honest.0, &mut dispatch);
        assert_eq!((paths.pairs().count(), paths.to.len(), paths.awaited.len()), (0, 0, 0));
    }
}
