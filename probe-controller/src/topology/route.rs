//! Decides when a path changes: at once if the present one is broken, else only for one that is better by a margin, so
//! that noise does not flap routes.

use std::collections::BTreeSet;

use crate::openflow::id::Dpid;
use crate::topology::{Graph, Link, Path};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Keep,
    Change(Path),
    Unreachable,
}

/// Chooses the path between two switches. Another path must be better than `present` by `gain` (0.1: 10 %), and by more
/// than the error of the difference.
pub fn choose_route(graph: &Graph, from: Dpid, to: Dpid, present: Option<&Path>, gain: f64) -> Route {
    let Some(best) = graph.least_delay(from, to) else {
        return Route::Unreachable;
    };
    let Some(present) = present else {
        return Route::Change(best);
    };
    let Some(delay_ns) = graph.path_delay_ns(&present.hops) else {
        return Route::Change(best);
    };
    let better_ns = delay_ns.saturating_sub(best.delay_ns) as f64;
    let enough_ns = (delay_ns as f64 * gain).max(graph.difference_error_ns(&best.hops, &present.hops));
    if best.hops != present.hops && better_ns > enough_ns {
        Route::Change(best)
    } else {
        Route::Keep
    }
}

/// Chooses the broadcast tree: `present` as long as it spans the network, else one with as few changes as possible.
pub fn choose_tree(graph: &Graph, present: &BTreeSet<Link>) -> BTreeSet<Link> {
    if graph.is_spanned_by(present) {
        present.clone()
    } else {
        graph.tree(present)
    }
}
