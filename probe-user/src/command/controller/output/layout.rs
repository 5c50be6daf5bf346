//! Lays a network out without overlaps: boxes of switches, labels of links, and a curve through each label. `manatee` (fCoSE)
//! finds the places, with each label as a node of its own on its link; [`spread`] moves apart what still overlaps, and [`route`]
//! makes the links straight where nothing is in the way. The same network always has the same layout.

mod geometry;
mod route;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::f64::consts::TAU;

pub(super) use crate::command::controller::output::layout::geometry::{Curve, Place, Rect, Routed};
use crate::command::controller::output::layout::geometry::{GAP, Path};
use crate::command::controller::output::layout::route::route;
use crate::command::controller::output::layout::spread::spread;

/// Width and height.
pub(super) type Size = (f64, f64);

/// Between a box and the label of its link.
const LINK_LENGTH: f64 = 22.0;
/// More of it for each link beyond a few of the same switch: labels around it need room.
const LENGTH_BY_DEGREE: f64 = 5.0;
const FEW_LINKS: usize = 4;
/// Between two switches, without labels.
const BARE_LINK_LENGTH: f64 = 90.0;
const SEEDS: [u64; 2] = [1, 2];
/// How far places are pulled apart, in width and height, from one attempt to the next.
const ROOM: [(f64, f64); 5] = [(1.0, 1.0), (1.35, 1.0), (1.6, 1.2), (2.0, 1.6), (2.6, 2.2)];
/// Attempts times links, squared: an attempt compares each link with each other one.
const ATTEMPT_WORK: usize = 10_000;
/// More links than this are straight.
const MAX_ROUTED: usize = 260;
/// Leaves of a star are closer than side by side in a row, because those beside each other differ in height.
const STAR_ROOM: f64 = 0.62;

// Parts of the score of an arrangement; less is better. Its stretch, 1 where places are not pulled apart, adds to it.
/// For each link through the box of another switch.
const THROUGH_BOX: f64 = 8.0;
/// If all links are bent.
const BENT: f64 = 4.0;
/// Below this score, no other seed is tried.
const GOOD: f64 = 8.0;
/// Width of the whole by its height.
const ASPECT: f64 = 1.4;

/// A network to lay out. No link joins a switch with itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) boxes: Vec<Size>,
    /// Indices of two boxes each.
    pub(super) links: Vec<(usize, usize)>,
    /// Size of every label, whatever it says, so that a new delay moves nothing; `None` without labels.
    pub(super) label: Option<Size>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) size: Size,
    pub(super) boxes: Vec<Rect>,
    pub(super) links: Vec<Routed>,
}

impl Network {
    pub(super) fn lay_out(&self) -> Layout {
        let mut parts: Vec<Part> = self.components().into_iter().map(|part| self.part(part)).collect();
        // Large parts first; a stable order among equals.
        parts.sort_by(|one, other| other.area().total_cmp(&one.area()));
        self.pack(parts)
    }

    /// Indices of the boxes that links join.
    fn components(&self) -> Vec<Vec<usize>> {
        let mut neighbours = vec![Vec::new(); self.boxes.len()];
        for &(from, to) in &self.links {
            neighbours[from].push(to);
            neighbours[to].push(from);
        }
        let mut is_found = vec![false; self.boxes.len()];
        let mut components = Vec::new();
        for first in 0..self.boxes.len() {
            if is_found[first] {
                continue;
            }
            is_found[first] = true;
            let mut component = vec![first];
            let mut next = 0;
            while let Some(&at) = component.get(next) {
                next += 1;
                for &neighbour in &neighbours[at] {
                    if !std::mem::replace(&mut is_found[neighbour], true) {
                        component.push(neighbour);
                    }
                }
            }
            component.sort_unstable();
            components.push(component);
        }
        components
    }

    fn part(&self, boxes: Vec<usize>) -> Part {
        let at: BTreeMap<usize, usize> = boxes.iter().enumerate().map(|(place, &index)| (index, place)).collect();
        let links: Vec<usize> = (0..self.links.len())
            .filter(|&link| at.contains_key(&self.links[link].0))
            .collect();
        let ends: Vec<(usize, usize)> = links
            .iter()
            .map(|&link| (at[&self.links[link].0], at[&self.links[link].1]))
            .collect();
        let mut sizes: Vec<Size> = boxes.iter().map(|&index| self.boxes[index]).collect();
        if let Some(label) = self.label {
            sizes.extend(links.iter().map(|_| label));
        }
        let (rects, routed) = arrange(&sizes, boxes.len(), &ends);
        Part {
            bounds: Rect::around(rects.iter().copied().chain(routed.iter().flat_map(Routed::rects))),
            boxes: boxes.into_iter().zip(rects).collect(),
            links: links.into_iter().zip(routed).collect(),
        }
    }

    /// Puts the parts in rows.
    fn pack(&self, parts: Vec<Part>) -> Layout {
        let area: f64 = parts.iter().map(Part::area).sum();
        let widest = parts.iter().map(|part| part.bounds.width).fold(0.0, f64::max);
        let width = widest.max((area * ASPECT).sqrt());
        let mut layout = Layout {
            size: (0.0, 0.0),
            boxes: vec![Rect::default(); self.boxes.len()],
            links: vec![Routed::default(); self.links.len()],
        };
        let (mut x, mut y, mut height) = (GAP, GAP, 0.0_f64);
        for part in parts {
            if x > GAP && x + part.bounds.width > width + GAP {
                (x, y, height) = (GAP, y + height + 3.0 * GAP, 0.0);
            }
            let by = Place {
                x: x - part.bounds.left(),
                y: y - part.bounds.top(),
            };
            for (index, rect) in part.boxes {
                layout.boxes[index] = rect.moved(by);
            }
            for (index, routed) in part.links {
                layout.links[index] = Routed {
                    curve: routed.curve.moved(by),
                    label: routed.label.map(|label| label.moved(by)),
                };
            }
            height = height.max(part.bounds.height);
            layout.size = (
                layout.size.0.max(x + part.bounds.width + GAP),
                layout.size.1.max(y + height + GAP),
            );
            x += part.bounds.width + 3.0 * GAP;
        }
        layout
    }
}

/// The switches that links join, laid out by themselves.
struct Part {
    bounds: Rect,
    /// With their indices in the network.
    boxes: Vec<(usize, Rect)>,
    links: Vec<(usize, Routed)>,
}

impl Part {
    fn area(&self) -> f64 {
        (self.bounds.width + 3.0 * GAP) * (self.bounds.height + 3.0 * GAP)
    }
}

/// Arranges `boxes` boxes and the labels of `links` by their `sizes`. Of several arrangements it takes the one that reads best.
fn arrange(sizes: &[Size], boxes: usize, links: &[(usize, usize)]) -> (Vec<Rect>, Vec<Routed>) {
    let mut best: Option<(f64, Vec<Rect>, Vec<Routed>)> = None;
    let mut attempts = (ATTEMPT_WORK / links.len().pow(2).max(1)).max(1);
    for seed in SEEDS {
        let found = star(sizes, boxes, links).unwrap_or_else(|| places(sizes, boxes, links, seed));
        for room in ROOM {
            let rect = |(place, size): (&Place, &Size)| Rect::new(place.scaled(room), *size);
            let mut rects: Vec<Rect> = found.iter().zip(sizes).map(rect).collect();
            spread(&mut rects);
            let labels = rects.split_off(boxes);
            let routed = match links.len() <= MAX_ROUTED {
                true => route(&rects, labels, links),
                false => straight(&rects, links),
            };
            let bent = routed.iter().filter(|link| !link.curve.is_straight()).count();
            let through = through_boxes(&rects, links, &routed);
            let score = THROUGH_BOX * through as f64 + BENT * bent as f64 / links.len().max(1) as f64 + room.0 * room.1;
            if best.as_ref().is_none_or(|(least, ..)| score < *least) {
                best = Some((score, rects, routed));
            }
            attempts -= 1;
            if attempts == 0 || (bent == 0 && through == 0) {
                break;
            }
        }
        if attempts == 0 || best.as_ref().is_some_and(|(least, ..)| *least < GOOD) {
            break;
        }
    }
    best.map(|(_, rects, routed)| (rects, routed)).unwrap_or_default()
}

/// Straight links without labels.
fn straight(rects: &[Rect], links: &[(usize, usize)]) -> Vec<Routed> {
    let link = |&(from, to): &(usize, usize)| Routed {
        curve: Curve::straight(rects[from].centre, rects[to].centre),
        label: None,
    };
    links.iter().map(link).collect()
}

/// How often links pass through the box of another switch.
fn through_boxes(rects: &[Rect], links: &[(usize, usize)], routed: &[Routed]) -> usize {
    let of_link = |(link, &(from, to)): (&Routed, &(usize, usize))| {
        let path = Path::of(link.curve);
        let others = (0..rects.len()).filter(|at| *at != from && *at != to);
        others.filter(|at| path.crosses(&rects[*at], 0.0)).count()
    };
    routed.iter().zip(links).map(of_link).sum()
}

/// Places of a switch with many others around it, and of no more: an ellipse. `None` of other networks.
fn star(sizes: &[Size], boxes: usize, links: &[(usize, usize)]) -> Option<Vec<Place>> {
    let (hub, leaves) = (0..boxes)
        .map(|hub| {
            (
                hub,
                links.iter().filter(|(from, to)| *from == hub || *to == hub).count(),
            )
        })
        .max_by_key(|(_, leaves)| *leaves)?;
    if leaves <= FEW_LINKS || leaves != links.len() || leaves + 1 != boxes {
        return None;
    }
    let widest = sizes.iter().map(|size| size.0).fold(0.0, f64::max);
    let radius = (leaves as f64 * (widest + 3.0 * GAP) / TAU * STAR_ROOM).max(widest * 2.0);
    let mut places = vec![Place::default(); sizes.len()];
    for (at, &(from, to)) in links.iter().enumerate() {
        let turn = TAU * at as f64 / leaves as f64;
        let leaf = Place {
            x: radius * ASPECT * turn.cos(),
            y: radius * turn.sin(),
        };
        places[if from == hub { to } else { from }] = leaf;
        if let Some(label) = places.get_mut(boxes + at) {
            *label = leaf.scaled((0.65, 0.65));
        }
    }
    Some(places)
}

/// Places for `sizes`: of `boxes` boxes, then of the labels of `links` if there are any.
fn places(sizes: &[Size], boxes: usize, links: &[(usize, usize)], seed: u64) -> Vec<Place> {
    if sizes.len() < 2 {
        return vec![Place::default(); sizes.len()];
    }
    let has_labels = sizes.len() > boxes;
    let mut degrees = vec![0_usize; boxes];
    for &(from, to) in links {
        degrees[from] += 1;
        degrees[to] += 1;
    }
    let node = |(index, &(width, height)): (usize, &Size)| manatee::Node {
        id: index.to_string(),
        parent: None,
        width,
        height,
        x: 0.0,
        y: 0.0,
        bounds_extras: manatee::BoundsExtras::default(),
    };
    let edge = |from: usize, to: usize, length: f64| manatee::Edge {
        id: format!("{from} {to}"),
        source: from.to_string(),
        target: to.to_string(),
        label_width: None,
        label_height: None,
        source_anchor: None,
        target_anchor: None,
        ideal_length: length,
        elasticity: 0.0,
    };
    let beside = |end: usize| LINK_LENGTH + LENGTH_BY_DEGREE * degrees[end].saturating_sub(FEW_LINKS) as f64;
    let edges = links.iter().enumerate().flat_map(|(link, &(from, to))| {
        let label = boxes + link;
        match has_labels {
            true => vec![edge(from, label, beside(from)), edge(label, to, beside(to))],
            false => vec![edge(from, to, BARE_LINK_LENGTH)],
        }
    });
    let graph = manatee::Graph {
        nodes: sizes.iter().enumerate().map(node).collect(),
        edges: edges.collect(),
        compounds: Vec::new(),
    };
    let length = if has_labels { LINK_LENGTH } else { BARE_LINK_LENGTH };
    let options = manatee::FcoseOptions {
        random_seed: seed,
        node_separation: Some(3.0 * length),
        default_edge_length: Some(length),
        ..manatee::FcoseOptions::default()
    };
    let found = manatee::layout(&graph, manatee::Algorithm::Fcose(options)).ok();
    let place = |index: usize| {
        let point = found.as_ref()?.positions.get(&index.to_string())?;
        let is_usable = point.x.is_finite() && point.y.is_finite();
        is_usable.then_some(Place { x: point.x, y: point.y })
    };
    // A circle is a layout too.
    let on_circle = |index: usize| {
        let turn = TAU * index as f64 / sizes.len() as f64;
        let radius = 20.0 * sizes.len() as f64;
        Place {
            x: radius * turn.cos(),
            y: radius * turn.sin(),
        }
    };
    let mut places: Vec<Place> = (0..sizes.len())
        .map(|index| place(index).unwrap_or_else(|| on_circle(index)))
        .collect();
    // The first switch is on the left, as one reads.
    if places[0].x > places[boxes - 1].x {
        places.iter_mut().for_each(|place| place.x = -place.x);
    }
    places
}
