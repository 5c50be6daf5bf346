//! Moves overlapping rectangles apart.

use crate::command::controller::output::layout::geometry::{GAP, Place, Rect};

/// After so many rounds everything moves away from the middle, which makes room.
const ROUNDS_UNTIL_GROWTH: usize = 30;
const GROWTH: f64 = 1.08;
/// Never reached by a network that is drawn; a bound all the same.
const MAX_ROUNDS: usize = 6_000;
/// A little more than the overlap, so that rounding leaves none.
const BEYOND: f64 = 0.01;

/// Leaves [`GAP`] between all. Each pair is pushed apart along the axis on which it overlaps less.
pub(super) fn spread(rects: &mut [Rect]) {
    for round in 1..=MAX_ROUNDS {
        if !push_all(rects) {
            return;
        }
        if round % ROUNDS_UNTIL_GROWTH == 0 {
            for rect in rects.iter_mut() {
                rect.centre = Place::default().towards(rect.centre, GROWTH);
            }
        }
    }
}

fn push_all(rects: &mut [Rect]) -> bool {
    let mut has_moved = false;
    for one in 0..rects.len() {
        for other in one + 1..rects.len() {
            let Some((x, y)) = rects[one].overlap(&rects[other], GAP) else {
                continue;
            };
            has_moved = true;
            let (from, to) = (rects[one].centre, rects[other].centre);
            // Half each; at the same place, the second goes right or down.
            let half = |overlap: f64, forward: bool| (overlap + BEYOND) / 2.0 * if forward { 1.0 } else { -1.0 };
            let by = if x < y {
                Place {
                    x: half(x, to.x >= from.x),
                    y: 0.0,
                }
            } else {
                Place {
                    x: 0.0,
                    y: half(y, to.y >= from.y),
                }
            };
            rects[other].centre = to.moved(by);
            rects[one].centre = from.moved(Place { x: -by.x, y: -by.y });
        }
    }
    has_moved
}
