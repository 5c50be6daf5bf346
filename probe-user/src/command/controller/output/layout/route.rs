//! Chooses the curve of each link and the place of its label: straight if it can be, around other boxes if need be.

use crate::command::controller::output::layout::geometry::{Curve, GAP, Path, Place, Rect, Routed};

/// Rounds in which each link may choose again, knowing the choices of the others.
const ROUNDS: usize = 3;
/// Where on the visible part of a straight line its label may be.
const PARTS: [f64; 7] = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74];
/// How far aside the middle of a curve may be.
const ASIDE: [f64; 7] = [14.0, 28.0, 45.0, 65.0, 90.0, 130.0, 180.0];

// Costs of a choice; less is better.
const THROUGH_BOX: f64 = 100.0;
const THROUGH_LABEL: f64 = 12.0;
const OFF_MIDDLE: f64 = 1.0;
const BENT: f64 = 3.0;
const AS_PLACED: f64 = 6.0;
const SAME_LINE: f64 = 40.0;
const BENT_PER_PIXEL: f64 = 0.08;

/// Routes `links` between `boxes`. `labels` overlap nothing, or are empty.
pub(super) fn route(boxes: &[Rect], mut labels: Vec<Rect>, links: &[(usize, usize)]) -> Vec<Routed> {
    let ends = |link: usize| [boxes[links[link].0].centre, boxes[links[link].1].centre];
    let mut curves: Vec<Curve> = (0..links.len())
        .map(|link| {
            let [from, to] = ends(link);
            match labels.get(link) {
                Some(label) => Curve::through(from, label.centre, to),
                None => Curve::straight(from, to),
            }
        })
        .collect();
    let mut paths: Vec<Path> = curves.iter().copied().map(Path::of).collect();
    for _ in 0..ROUNDS {
        let mut has_changed = false;
        for link in 0..links.len() {
            let scene = Scene {
                boxes,
                labels: &labels,
                links,
                paths: &paths,
                link,
            };
            let best = scene.best(curves[link]);
            if best.curve != curves[link] || best.label.is_some_and(|label| label != labels[link]) {
                has_changed = true;
                curves[link] = best.curve;
                paths[link] = Path::of(best.curve);
                if let Some(label) = best.label {
                    labels[link] = label;
                }
            }
        }
        if !has_changed {
            break;
        }
    }
    let label = |link: usize| labels.get(link).copied();
    curves
        .into_iter()
        .enumerate()
        .map(|(link, curve)| Routed {
            curve,
            label: label(link),
        })
        .collect()
}

/// Everything that is in the way of one link.
struct Scene<'a> {
    boxes: &'a [Rect],
    labels: &'a [Rect],
    links: &'a [(usize, usize)],
    paths: &'a [Path],
    link: usize,
}

impl Scene<'_> {
    fn best(&self, present: Curve) -> Routed {
        let (from, to) = (self.boxes[self.links[self.link].0], self.boxes[self.links[self.link].1]);
        let label = self.labels.get(self.link).copied();
        let mut best = Routed { curve: present, label };
        let mut least = AS_PLACED + self.cost(&best, f64::INFINITY);
        let mut try_it = |curve: Curve, middle: Place, own: f64| {
            let label = label.map(|label| Rect {
                centre: middle,
                ..label
            });
            let candidate = Routed { curve, label };
            if own < least && label.is_none_or(|label| self.is_free(&label)) {
                let cost = own + self.cost(&candidate, least - own);
                if cost < least {
                    (best, least) = (candidate, cost);
                }
            }
        };
        let straight = Curve::straight(from.centre, to.centre);
        let (begin, end) = (leaves(&from, to.centre), 1.0 - leaves(&to, from.centre));
        for (place, part) in PARTS.into_iter().enumerate() {
            let middle = straight.at(begin + (end - begin) * part);
            try_it(straight, middle, OFF_MIDDLE * place.div_ceil(2) as f64);
        }
        let half = straight.at(begin + (end - begin) / 2.0);
        let length = from.centre.distance(to.centre).max(1.0);
        let normal = Place {
            x: -(to.centre.y - from.centre.y) / length,
            y: (to.centre.x - from.centre.x) / length,
        };
        for aside in ASIDE.into_iter().flat_map(|aside| [aside, -aside]) {
            let middle = half.moved(Place {
                x: normal.x * aside,
                y: normal.y * aside,
            });
            let curve = Curve::through(from.centre, middle, to.centre);
            try_it(curve, middle, BENT + BENT_PER_PIXEL * aside.abs());
        }
        best
    }

    fn is_free(&self, label: &Rect) -> bool {
        let mut others = self.labels.iter().enumerate().filter(|(link, _)| *link != self.link);
        self.boxes.iter().all(|rect| rect.overlap(label, GAP).is_none())
            && others.all(|(_, other)| other.overlap(label, GAP).is_none())
    }

    /// The cost of a choice. Counting stops above `limit`.
    fn cost(&self, choice: &Routed, limit: f64) -> f64 {
        let (from, to) = self.links[self.link];
        let path = Path::of(choice.curve);
        let foreign = |index: &usize| *index != from && *index != to;
        let through = (0..self.boxes.len())
            .filter(foreign)
            .filter(|index| path.crosses(&self.boxes[*index], GAP / 2.0))
            .count();
        let mut cost = THROUGH_BOX * through as f64;
        if cost > limit {
            return cost;
        }
        let others = (0..self.links.len()).filter(|other| *other != self.link);
        for other in others {
            let ends = self.links[other];
            if (ends == (from, to) || ends == (to, from)) && path.is_along(&self.paths[other]) {
                cost += SAME_LINE;
            }
            if self
                .labels
                .get(other)
                .is_some_and(|label| path.crosses(label, GAP / 2.0))
            {
                cost += THROUGH_LABEL;
            }
            if choice.label.is_some_and(|label| self.paths[other].crosses(&label, 0.0)) {
                cost += THROUGH_LABEL;
            }
            if cost > limit {
                break;
            }
        }
        cost
    }
}

/// The part of the way from the middle of `rect` to `to` that is within `rect`.
fn leaves(rect: &Rect, to: Place) -> f64 {
    let part = |size: f64, way: f64| size / 2.0 / way.abs().max(1e-9);
    let x = part(rect.width, to.x - rect.centre.x);
    let y = part(rect.height, to.y - rect.centre.y);
    x.min(y).min(0.5)
}
