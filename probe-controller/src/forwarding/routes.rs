//! Paths between pairs of switches; both directions use the same links.

use std::collections::{BTreeMap, BTreeSet};

use crate::openflow::id::Dpid;
use crate::topology::{Graph, Hop, Path, Route, choose_route};

/// Up to this many switches, paths between all pairs are kept; above, only the used ones.
const ALL_UP_TO: usize = 24;

#[derive(Debug, Clone)]
pub struct RouteView {
    /// The switch with the smaller datapath id.
    pub from: Dpid,
    pub to: Dpid,
    /// The path with its present delay.
    pub path: Path,
}

#[derive(Debug, Clone)]
pub(super) struct Changed {
    pub(super) from: Dpid,
    pub(super) to: Dpid,
    pub(super) path: Path,
    /// Present delay of the former path, if there was one; `Some(None)` if it is broken.
    pub(super) former: Option<Option<u64>>,
}

#[derive(Debug)]
pub(super) struct Routes {
    gain: f64,
    /// The key has the smaller datapath id first. `None`: a path is wanted, but there is none.
    routes: BTreeMap<(Dpid, Dpid), Option<Path>>,
    /// Pairs that hosts use.
    used: BTreeSet<(Dpid, Dpid)>,
}

impl Routes {
    /// A path must be better by `gain` (0.1: 10 %) to replace the present one.
    pub(super) fn new(gain: f64) -> Self {
        Self {
            gain,
            routes: BTreeMap::new(),
            used: BTreeSet::new(),
        }
    }

    /// The hops from one switch to another; the path is kept up to date from now on.
    pub(super) fn between(&mut self, graph: &Graph, from: Dpid, to: Dpid) -> Option<Vec<Hop>> {
        let (low, high) = (from.min(to), from.max(to));
        self.used.insert((low, high));
        let route = self
            .routes
            .entry((low, high))
            .or_insert_with(|| graph.least_delay(low, high));
        let hops = &route.as_ref()?.hops;
        Some(if from == low { hops.clone() } else { reversed(hops) })
    }

    /// Chooses all paths again.
    pub(super) fn update(&mut self, graph: &Graph, switches: &[Dpid]) -> Vec<Changed> {
        if switches.len() <= ALL_UP_TO {
            for (place, from) in switches.iter().enumerate() {
                for to in &switches[place + 1..] {
                    self.routes.entry((*from, *to)).or_default();
                }
            }
        } else {
            let used = &self.used;
            self.routes.retain(|ends, _| used.contains(ends));
        }
        let mut changed = Vec::new();
        for ((from, to), present) in &mut self.routes {
            if let Route::Change(path) = choose_route(graph, *from, *to, present.as_ref(), self.gain) {
                let former = present.as_ref().map(|former| graph.path_delay_ns(&former.hops));
                *present = Some(path.clone());
                changed.push(Changed {
                    from: *from,
                    to: *to,
                    path,
                    former,
                });
            }
        }
        changed
    }

    /// All paths that work now and whose delay is known.
    pub(super) fn views(&self, graph: &Graph) -> Vec<RouteView> {
        let view = |((from, to), path): (&(Dpid, Dpid), &Option<Path>)| {
            let hops = path.as_ref()?.hops.clone();
            let delay_ns = graph.path_delay_ns(&hops)?;
            let path = Path { hops, delay_ns };
            path.is_measured().then_some(RouteView {
                from: *from,
                to: *to,
                path,
            })
        };
        self.routes
            .iter()
            .filter(|((from, to), _)| from != to)
            .filter_map(view)
            .collect()
    }
}

fn reversed(hops: &[Hop]) -> Vec<Hop> {
    let back = |hop: &Hop| Hop {
        out: hop.into,
        into: hop.out,
    };
    hops.iter().rev().map(back).collect()
}
