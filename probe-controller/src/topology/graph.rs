//! The network as a graph. Edges are usable links, weighted by delay.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::{astar, min_spanning_tree};
use petgraph::data::Element;
use petgraph::graph::{EdgeIndex, NodeIndex, UnGraph};

use crate::openflow::id::Dpid;
use crate::topology::{Link, PortId};

/// Delay of a segment, and of paths that cross one: it is not measured, so that any measured path is better.
pub const UNMEASURED_NS: u64 = 1 << 48;

/// A usable link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub link: Link,
    pub delay_ns: u64,
    /// Bound of the error of the delay.
    pub error_ns: u64,
}

/// A link as it is passed on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Where a frame leaves a switch.
    pub out: PortId,
    /// Where it enters the next.
    pub into: PortId,
}

impl Hop {
    pub fn link(&self) -> Link {
        Link::between(self.out, self.into)
    }
}

/// A path between two switches; without hops from a switch to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub hops: Vec<Hop>,
    /// Sum of the one-way delays when the path was computed.
    pub delay_ns: u64,
}

impl Path {
    /// Whether all its links are measured.
    pub fn is_measured(&self) -> bool {
        self.delay_ns < UNMEASURED_NS
    }
}

/// Switches, and the links that may be used.
#[derive(Debug, Default)]
pub struct Graph {
    graph: UnGraph<Dpid, Edge>,
    nodes: BTreeMap<Dpid, NodeIndex>,
    edges: BTreeMap<Link, EdgeIndex>,
}

impl Graph {
    /// Edges to unknown switches are left out.
    pub fn new(switches: impl IntoIterator<Item = Dpid>, edges: impl IntoIterator<Item = Edge>) -> Self {
        let mut network = Self::default();
        for dpid in switches {
            let node = network.graph.add_node(dpid);
            network.nodes.insert(dpid, node);
        }
        for edge in edges {
            let [from, to] = [edge.link.from, edge.link.to].map(|port| network.nodes.get(&port.dpid).copied());
            if let (Some(from), Some(to)) = (from, to) {
                let index = network.graph.add_edge(from, to, edge);
                network.edges.insert(edge.link, index);
            }
        }
        network
    }

    /// Delay one way of a link, if it may be used.
    pub fn delay_ns(&self, link: Link) -> Option<u64> {
        self.edges.get(&link).map(|edge| self.graph[*edge].delay_ns)
    }

    pub fn least_delay(&self, from: Dpid, to: Dpid) -> Option<Path> {
        let (start, goal) = (*self.nodes.get(&from)?, *self.nodes.get(&to)?);
        // The sum saturates, so that absurd delays cannot wrap around to small ones.
        let cost = |edge: petgraph::graph::EdgeReference<'_, Edge>| Cost(edge.weight().delay_ns, 1);
        let (_, nodes) = astar(&self.graph, start, |node| node == goal, cost, |_| Cost(0, 0))?;
        let hops: Vec<Hop> = nodes.windows(2).filter_map(|pair| self.hop(pair[0], pair[1])).collect();
        let delay_ns = self.path_delay_ns(&hops)?;
        Some(Path { hops, delay_ns })
    }

    /// Present delay of a path; `None` if one of its links is not usable.
    pub fn path_delay_ns(&self, hops: &[Hop]) -> Option<u64> {
        hops.iter()
            .try_fold(0u64, |sum, hop| Some(sum.saturating_add(self.delay_ns(hop.link())?)))
    }

    /// Error of the difference of two path delays: the errors of the links on only one of them, taken as independent.
    pub fn difference_error_ns(&self, one: &[Hop], other: &[Hop]) -> f64 {
        let [one, other]: [BTreeSet<Link>; 2] = [one, other].map(|hops| hops.iter().map(Hop::link).collect());
        let edges = one.symmetric_difference(&other).filter_map(|link| self.edges.get(link));
        let squares = edges.map(|edge| (self.graph[*edge].error_ns as f64).powi(2));
        squares.sum::<f64>().sqrt()
    }

    /// A spanning tree of each connected part: of least total delay, but with as many links of `kept` as possible.
    pub fn tree(&self, kept: &BTreeSet<Link>) -> BTreeSet<Link> {
        let preferring = self.graph.map(
            |_, _| (),
            |_, edge| (!kept.contains(&edge.link), edge.delay_ns, edge.link),
        );
        min_spanning_tree(&preferring)
            .filter_map(|element| match element {
                Element::Edge {
                    weight: (_, _, link), ..
                } => Some(link),
                Element::Node { .. } => None,
            })
            .collect()
    }

    /// Whether a set of links spans each connected part without a loop.
    pub fn is_spanned_by(&self, tree: &BTreeSet<Link>) -> bool {
        let parts = petgraph::algo::connected_components(&self.graph);
        if tree.len() + parts != self.nodes.len() {
            return false;
        }
        // As many links as a spanning tree has: it is one if they connect as much.
        let edges = tree
            .iter()
            .filter_map(|link| self.edges.get(link))
            .map(|edge| self.graph[*edge]);
        let alone = Graph::new(self.nodes.keys().copied(), edges);
        alone.edges.len() == tree.len() && petgraph::algo::connected_components(&alone.graph) == parts
    }

    /// The link of least delay between neighbours.
    fn hop(&self, from: NodeIndex, to: NodeIndex) -> Option<Hop> {
        let between = self.graph.edges_connecting(from, to).map(|edge| *edge.weight());
        let link = between.min_by_key(|edge| (edge.delay_ns, edge.link))?.link;
        let [out, into] = if link.from.dpid == self.graph[from] {
            [link.from, link.to]
        } else {
            [link.to, link.from]
        };
        Some(Hop { out, into })
    }
}

/// Delay, then number of links: of two equal paths, the one with fewer links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost(u64, u32);

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0), self.1.saturating_add(other.1))
    }
}
