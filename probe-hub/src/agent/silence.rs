//! Which assigned peers have become silent, probe by probe.

use std::collections::HashMap;
use std::net::IpAddr;

use probe_core::observation::Reply;

use crate::name::PortName;

/// A peer is silent after this many lost probes in a row.
pub const LOST_IN_A_ROW: usize = 3;

/// The addresses that are probed for the hub.
#[derive(Debug, Default)]
pub struct Watch {
    peers: HashMap<IpAddr, Watched>,
}

#[derive(Debug)]
struct Watched {
    port: PortName,
    /// Monotonic T1 of the newest answered probe.
    answered_ns: Option<u64>,
    /// The number of its reply, plus 1.
    replies: Option<u32>,
    /// When the lost probes since then were sent, in ascending order. No more than make the peer silent.
    lost_ns: Vec<u64>,
    is_silent: bool,
}

/// What one probe has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Silent {
        port: PortName,
        /// When the first lost probe was sent, monotonic.
        since_ns: u64,
        lost: u64,
        /// As [`Silence::replies`](crate::message::event::Silence::replies).
        replies: Option<u32>,
    },
    Answering {
        port: PortName,
        silent_ns: u64,
    },
}

impl Watch {
    /// Goes on with those that are already watched.
    pub fn set_peers(&mut self, peers: impl IntoIterator<Item = (IpAddr, PortName)>) {
        let mut before = std::mem::take(&mut self.peers);
        let watched = |(address, port)| {
            let known = before.remove(&address).filter(|known| known.port == port);
            let watched = known.unwrap_or_else(|| Watched {
                port,
                answered_ns: None,
                replies: None,
                lost_ns: Vec::new(),
                is_silent: false,
            });
            (address, watched)
        };
        self.peers = peers.into_iter().map(watched).collect();
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// The number of peers that have answered, and are not silent.
    pub fn answering(&self) -> usize {
        let answers = |peer: &&Watched| peer.answered_ns.is_some() && !peer.is_silent;
        self.peers.values().filter(answers).count()
    }

    pub fn port(&self, address: IpAddr) -> Option<&PortName> {
        self.peers.get(&address).map(|peer| &peer.port)
    }

    /// A probe that was sent at `sent_ns` is lost.
    pub fn lost(&mut self, address: IpAddr, sent_ns: u64) -> Option<Change> {
        let peer = self.peers.get_mut(&address)?;
        let is_after = peer.answered_ns.is_none_or(|answered_ns| answered_ns < sent_ns);
        if peer.is_silent || !is_after {
            return None;
        }
        let place = peer.lost_ns.partition_point(|lost_ns| *lost_ns < sent_ns);
        peer.lost_ns.insert(place, sent_ns);
        peer.is_silent = peer.lost_ns.len() == LOST_IN_A_ROW;
        peer.is_silent.then(|| Change::Silent {
            port: peer.port.clone(),
            since_ns: peer.lost_ns[0],
            lost: peer.lost_ns.len() as u64,
            replies: peer.replies,
        })
    }

    /// A reply, in time or not. One to a probe from before the silence changes nothing.
    pub fn answered(&mut self, reply: &Reply) -> Option<Change> {
        let peer = self.peers.get_mut(&reply.peer)?;
        if peer.answered_ns >= Some(reply.sent_mono_ns) {
            return None;
        }
        peer.answered_ns = Some(reply.sent_mono_ns);
        peer.replies = Some(reply.reflector_seq.wrapping_add(1));
        if peer.lost_ns.is_empty() {
            return None;
        }
        let since_ns = peer.lost_ns[0];
        peer.lost_ns.retain(|lost_ns| *lost_ns > reply.sent_mono_ns);
        let ends = peer.is_silent && peer.lost_ns.len() < LOST_IN_A_ROW;
        ends.then(|| {
            peer.is_silent = false;
            Change::Answering {
                port: peer.port.clone(),
                silent_ns: reply.received_mono_ns.saturating_sub(since_ns),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_data::reply;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A probe of this time is lost.
        Lost(u64),
        /// A probe of the first time is answered at the second.
        Reply(u64, u64),
        /// The assignment is the same peer, or another one.
        Assign(&'static str),
    }
    use Step::{Assign, Lost, Reply};

    /// Events as text, for short tables.
    fn run(steps: &[Step]) -> Vec<String> {
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        let mut watch = Watch::default();
        let assign = |watch: &mut Watch, port: &str| watch.set_peers([(address, port.parse().unwrap())]);
        assign(&mut watch, "h2/p");
        let mut events = Vec::new();
        for step in steps {
            let change = match *step {
                Lost(sent_ns) => watch.lost(address, sent_ns),
                Reply(sent_ns, received_ns) => watch.answered(&reply(sent_ns, received_ns - sent_ns)),
                Assign(port) => {
                    assign(&mut watch, port);
                    None
                }
            };
            events.extend(change.map(|change| match change {
                Change::Silent {
                    since_ns,
                    lost,
                    replies,
                    ..
                } => format!("silent since {since_ns} lost {lost} replies {replies:?}"),
                Change::Answering { silent_ns, .. } => format!("answering after {silent_ns}"),
            }));
        }
        events
    }

    #[test]
    fn three_lost_probes_in_a_row_make_a_peer_silent_and_a_reply_ends_it() {
        let silent = |since, replies: Option<u32>| format!("silent since {since} lost 3 replies {replies:?}");
        let table: [(&str, &[Step], Vec<String>); 14] = [
            ("two are too few", &[Reply(1, 2), Lost(2), Lost(3)], vec![]),
            (
                "a peer that has never answered",
                &[Lost(1), Lost(2), Lost(3)],
                vec![silent(1, None)],
            ),
            (
                "said once",
                &[Reply(1, 2), Lost(2), Lost(3), Lost(4), Lost(5), Lost(6), Lost(7)],
                vec![silent(2, Some(2))],
            ),
            (
                "a reply in between",
                &[Lost(1), Lost(2), Reply(3, 4), Lost(4), Lost(5)],
                vec![],
            ),
            (
                "a reply ends the silence",
                &[Lost(1), Lost(2), Lost(3), Lost(4), Reply(9, 10), Lost(10), Lost(11)],
                vec![silent(1, None), "answering after 9".to_owned()],
            ),
            (
                "and another one begins",
                &[Lost(1), Lost(2), Lost(3), Reply(9, 10), Lost(10), Lost(11), Lost(12)],
                vec![silent(1, None), "answering after 9".to_owned(), silent(10, Some(10))],
            ),
            (
                "the loss of probes before an answered one comes late",
                &[Reply(9, 10), Lost(5), Lost(6), Lost(7)],
                vec![],
            ),
            (
                "losses out of order",
                &[Reply(1, 2), Lost(7), Lost(5), Lost(6)],
                vec![silent(5, Some(2))],
            ),
            (
                "a reply out of order proves only what was before it",
                &[Lost(5), Lost(6), Reply(4, 7), Lost(7)],
                vec![silent(5, Some(5))],
            ),
            (
                "a reply to the probe in the middle leaves the later losses",
                &[Lost(5), Lost(7), Reply(6, 8), Lost(8), Lost(9)],
                vec![silent(7, Some(7))],
            ),
            (
                "a late reply to a lost probe: the peer answers",
                &[Lost(5), Lost(6), Lost(7), Reply(6, 30)],
                vec![silent(5, None), "answering after 25".to_owned()],
            ),
            (
                "a late reply to a probe from before the silence is no answer",
                &[Reply(1, 2), Lost(5), Lost(6), Lost(7), Reply(4, 30), Reply(1, 31)],
                vec![silent(5, Some(2))],
            ),
            (
                "a new assignment of the same peer changes nothing",
                &[Lost(1), Lost(2), Assign("h2/p"), Lost(3), Assign("h2/p"), Reply(4, 5)],
                vec![silent(1, None), "answering after 4".to_owned()],
            ),
            (
                "another port at this address begins anew",
                &[Lost(1), Lost(2), Assign("h3/p"), Lost(3), Lost(4), Lost(5)],
                vec![silent(3, None)],
            ),
        ];
        for (what, steps, want) in table {
            assert_eq!(run(steps), want, "{what}");
        }
    }

    #[test]
    fn only_assigned_peers_are_watched() {
        let [known, stranger]: [IpAddr; 2] = ["10.0.0.2", "10.0.0.3"].map(|address| address.parse().unwrap());
        let mut watch = Watch::default();
        watch.set_peers([(known, "h2/p".parse().unwrap())]);
        for sent_ns in 1..9 {
            assert_eq!(watch.lost(stranger, sent_ns), None);
        }
        assert_eq!(
            watch.answered(&probe_core::observation::Reply {
                peer: stranger,
                ..reply(9, 1)
            }),
            None
        );
        assert_eq!((watch.len(), watch.answering()), (1, 0));
        watch.answered(&reply(1, 1));
        assert_eq!(watch.answering(), 1);
        for sent_ns in 2..5 {
            watch.lost(known, sent_ns);
        }
        assert_eq!(watch.answering(), 0);
        watch.set_peers([]);
        assert_eq!((watch.len(), watch.port(known)), (0, None));
    }
}
