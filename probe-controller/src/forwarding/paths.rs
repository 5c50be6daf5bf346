//! Rules that lead the frames of one host to another, along the way between their switches. A new way is laid from its
//! far end, each switch confirming before the one before it is told, and only then is the old one taken away: whatever a
//! frame meets on its way, it arrives, and at no moment can rules form a loop.

use std::collections::{BTreeMap, VecDeque};

use crate::forwarding::rules;
use crate::forwarding::switches::{Outbox, Switches};
use crate::openflow::flow::Action;
use crate::openflow::id::{Dpid, MacAddress, PortNumber};
use crate::openflow::message::{Message, PacketOut};
use crate::openflow::server::Command;
use crate::topology::PortId;

/// More pairs of hosts than this get no rules.
pub(super) const MAX_PAIRS: usize = 16_384;
/// Frames that wait for their way to be laid; what comes beyond is dropped.
const MAX_HELD: usize = 16;
/// A switch that has not confirmed after this time is asked again.
const RETRY_NS: u64 = 2_000_000_000;

/// Source and destination.
pub(super) type Pair = (MacAddress, MacAddress);

/// A frame that waits where it came in.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) at: PortId,
    pub(super) frame: Vec<u8>,
}

#[derive(Debug)]
struct Laid {
    /// Rules that switches may have: cookie and output.
    present: BTreeMap<Dpid, (u64, PortNumber)>,
    /// The way from here on: switches and their outputs, in order.
    wanted: Vec<(Dpid, PortNumber)>,
    cookie: u64,
    /// How many of `wanted`, from its end, have confirmed, and what the next one is waited for with.
    confirmed: usize,
    awaited: Option<u64>,
    asked_ns: u64,
    held: VecDeque<Held>,
}

/// All pairs.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pairs: BTreeMap<Pair, Laid>,
    awaited: BTreeMap<u64, Pair>,
    generation: u64,
}

/// What laying needs besides.
pub(super) struct Dispatch<'a> {
    pub(super) switches: &'a Switches,
    pub(super) token: &'a mut u64,
    pub(super) outbox: &'a mut Outbox,
    pub(super) now_ns: u64,
}

impl Paths {
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.pairs.keys().copied()
    }

    /// Keeps a frame until the way of its pair is laid. False if there is no way, or too many wait.
    pub(super) fn hold(&mut self, pair: Pair, held: Held, dispatch: &mut Dispatch<'_>) -> bool {
        let Some(laid) = self.pairs.get_mut(&pair) else {
            return false;
        };
        if laid.held.len() >= MAX_HELD {
            return false;
        }
        laid.held.push_back(held);
        if laid.is_done() {
            laid.release(dispatch);
        }
        true
    }

    /// Whether the pair's rules are in place or on their way there, along this way.
    pub(super) fn is_along(&self, pair: Pair, way: &[(Dpid, PortNumber)]) -> bool {
        self.pairs.get(&pair).is_some_and(|laid| laid.wanted == way)
    }

    /// Lays a way: the switches from the source's to the destination's, each with its output.
    pub(super) fn lay(&mut self, pair: Pair, way: Vec<(Dpid, PortNumber)>, dispatch: &mut Dispatch<'_>) {
        self.generation += 1;
        let laid = self.pairs.entry(pair).or_insert_with(|| Laid {
            present: BTreeMap::new(),
            wanted: Vec::new(),
            cookie: 0,
            confirmed: 0,
            awaited: None,
            asked_ns: 0,
            held: VecDeque::new(),
        });
        laid.cookie = rules::path_cookie(self.generation);
        laid.wanted = way;
        laid.confirmed = 0;
        self.advance(pair, dispatch);
    }

    /// A barrier was answered: the next switch may be told.
    pub(super) fn confirmed(&mut self, token: u64, dispatch: &mut Dispatch<'_>) {
        let Some(pair) = self.awaited.remove(&token) else {
            return;
        };
        let Some(laid) = self.pairs.get_mut(&pair).filter(|laid| laid.awaited == Some(token)) else {
            return;
        };
        laid.awaited = None;
        laid.confirmed += 1;
        if laid.is_done() {
            laid.clear_away(pair, dispatch);
            laid.release(dispatch);
        } else {
            self.advance(pair, dispatch);
        }
    }

    /// Asks switches again that have not confirmed for long.
    pub(super) fn retry(&mut self, dispatch: &mut Dispatch<'_>) {
        let late = |laid: &Laid| !laid.is_done() && dispatch.now_ns.saturating_sub(laid.asked_ns) > RETRY_NS;
        let pairs: Vec<Pair> = self
            .pairs
            .iter()
            .filter(|(_, laid)| late(laid))
            .map(|(pair, _)| *pair)
            .collect();
        for pair in pairs {
            self.advance(pair, dispatch);
        }
    }

    /// A switch connected or is gone: its rules are, too. The pairs that led through it.
    pub(super) fn switch_reset(&mut self, dpid: Dpid) {
        for laid in self.pairs.values_mut() {
            laid.present.remove(&dpid);
            if laid.wanted.iter().any(|(switch, _)| *switch == dpid) {
                // It is laid anew when the routes are looked at again.
                laid.wanted.clear();
            }
        }
    }

    /// Takes away the rules from and to a host.
    pub(super) fn forget(&mut self, host: MacAddress, dispatch: &mut Dispatch<'_>) {
        let gone: Vec<Pair> = self
            .pairs
            .keys()
            .filter(|(source, destination)| *source == host || *destination == host)
            .copied()
            .collect();
        for pair in gone {
            if let Some(mut laid) = self.pairs.remove(&pair) {
                laid.wanted.clear();
                laid.clear_away(pair, dispatch);
            }
        }
    }

    /// Tells the next switch from the far end.
    fn advance(&mut self, pair: Pair, dispatch: &mut Dispatch<'_>) {
        let Some(laid) = self.pairs.get_mut(&pair) else { return };
        let Some((dpid, out)) = laid.next() else { return };
        let rule = rules::path(laid.cookie, pair.0, pair.1, Action::Output(out));
        laid.asked_ns = dispatch.now_ns;
        if !dispatch
            .switches
            .command(dpid, Command::Send(Message::FlowMod(rule)), dispatch.outbox)
        {
            return;
        }
        laid.present.insert(dpid, (laid.cookie, out));
        *dispatch.token += 1;
        dispatch
            .switches
            .command(dpid, Command::Barrier(*dispatch.token), dispatch.outbox);
        if let Some(former) = laid.awaited.replace(*dispatch.token) {
            self.awaited.remove(&former);
        }
        self.awaited.insert(*dispatch.token, pair);
    }
}

impl Laid {
    fn is_done(&self) -> bool {
        self.confirmed >= self.wanted.len()
    }

    fn next(&self) -> Option<(Dpid, PortNumber)> {
        self.wanted.iter().rev().nth(self.confirmed).copied()
    }

    /// Deletes the rules of former ways.
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

    /// Lets go what waited, each frame where it came in.
    fn release(&mut self, dispatch: &mut Dispatch<'_>) {
        for Held { at, frame } in self.held.drain(..) {
            let Some((_, (_, out))) = self.present.get_key_value(&at.dpid) else {
                continue;
            };
            // A switch sends nothing back to where it says that it came from.
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
