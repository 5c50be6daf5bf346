//! Evaluates links: estimates, states, and the edges of the graph.

use std::collections::BTreeMap;

use crate::link_delay::{
    Kernel, LinkDelay, LinkEstimates, LinkState, LinkTerms, Probe, Window, link_estimates, state_of,
};
use crate::topology::{Edge, Link, Presence, Topology, UNMEASURED_NS};

/// A link. Pairs are forward (`from` to `to`) and backward.
#[derive(Debug, Clone)]
pub struct LinkView {
    pub link: Link,
    pub state: LinkState,
    pub presence: Presence,
    /// LLDP no longer arrives.
    pub silent: [bool; 2],
    /// Minima of the LLDP times.
    pub lldp_ns: [Option<i64>; 2],
    /// Samples of the LLDP times.
    pub samples: [usize; 2],
    /// Round trips by each method.
    pub estimates: LinkEstimates,
    /// One-way delay as an edge; `None` if the link is not an edge.
    pub weight_ns: Option<u64>,
    /// Estimates below zero, over the run.
    pub negatives: u64,
}

/// Negative estimates by link.
#[derive(Debug, Default)]
pub(super) struct Negatives {
    by_link: BTreeMap<Link, u64>,
}

impl Negatives {
    /// Counts the negative estimates, and returns their number.
    pub(super) fn count(&mut self, views: &[LinkView]) -> u64 {
        let is_negative = |view: &&LinkView| view.estimates.lldp_echo.is_some_and(|estimate| estimate.rtt_ns < 0);
        let mut found = 0;
        self.by_link
            .retain(|link, _| views.iter().any(|view| view.link == *link));
        for view in views.iter().filter(is_negative) {
            *self.by_link.entry(view.link).or_default() += 1;
            found += 1;
        }
        found
    }

    pub(super) fn of(&self, link: Link) -> u64 {
        self.by_link.get(&link).copied().unwrap_or(0)
    }
}

pub(super) fn views(topology: &Topology, delay: &LinkDelay, kernel: &Kernel, now_ns: u64) -> Vec<LinkView> {
    let view = |(link, presence)| LinkView {
        silent: topology.silent(link, now_ns),
        ..view(link, presence, delay, kernel)
    };
    topology.links().map(view).collect()
}

pub(super) fn edges(views: &[LinkView]) -> impl Iterator<Item = Edge> + '_ {
    views.iter().filter_map(|view| {
        Some(Edge {
            link: view.link,
            delay_ns: view.weight_ns?,
            error_ns: view.estimates.lldp_echo?.error_ns / 2,
        })
    })
}

/// A segment as links from the port that serves its hosts to each other port.
pub(super) fn segment_edges(topology: &Topology) -> Vec<Edge> {
    let others = topology.segments().filter(|(port, serving)| port != serving);
    let edge = |(port, serving)| Edge {
        link: Link::between(port, serving),
        delay_ns: UNMEASURED_NS,
        error_ns: 0,
    };
    others.map(edge).collect()
}

fn view(link: Link, presence: Presence, delay: &LinkDelay, kernel: &Kernel) -> LinkView {
    let Link { from, to } = link;
    let ends = [from, to];
    let terms = LinkTerms {
        lldp: ends.map(|end| delay.window(Probe::Lldp(end))),
        echo: ends.map(|end| delay.window(Probe::Echo(end.dpid))),
        baseline: ends.map(|end| delay.window(Probe::Baseline(end.dpid))),
        bounce: ends.map(|end| delay.window(Probe::Bounce(end))),
        kernel: ends.map(|end| kernel.window(end)),
    };
    // Terms are measured per port, and belong to this link only while it is up.
    let terms = if matches!(presence, Presence::Up) {
        terms
    } else {
        LinkTerms::default()
    };
    let estimates = link_estimates(&terms);
    let state = match presence {
        Presence::Up => state_of(estimates.lldp_echo.as_ref()),
        Presence::Stale => LinkState::Stale,
        Presence::OneWay | Presence::Down | Presence::Shared => LinkState::Missing,
    };
    let estimate = estimates.lldp_echo;
    let round_trip_ns = match state {
        LinkState::Valid => estimate.map(|estimate| estimate.rtt_ns.unsigned_abs()),
        LinkState::BelowResolution => estimate.map(|estimate| estimate.error_ns),
        LinkState::Negative | LinkState::Stale | LinkState::Missing => None,
    };
    LinkView {
        link,
        state,
        presence,
        silent: [false; 2],
        lldp_ns: terms.lldp.map(|window| window.and_then(Window::minimum)),
        samples: terms.lldp.map(|window| window.map_or(0, Window::count)),
        estimates,
        weight_ns: round_trip_ns.map(|round_trip_ns| round_trip_ns / 2),
        negatives: 0,
    }
}
