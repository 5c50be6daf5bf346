//! Places the switches of the drawing by a force layout (Fruchterman and Reingold 1991). It starts on a circle in the
//! order of datapath ids, so that a network is always drawn alike.

/// A place in the unit square.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Place {
    pub(super) x: f64,
    pub(super) y: f64,
}

const ROUNDS: u32 = 400;

/// Places `count` switches; `links` are pairs of their indices.
pub(super) fn places(count: usize, links: &[(usize, usize)]) -> Vec<Place> {
    let turn = |place: usize| std::f64::consts::TAU * place as f64 / count as f64;
    let mut places: Vec<Place> = (0..count)
        .map(|place| Place {
            x: turn(place).cos(),
            y: turn(place).sin(),
        })
        .collect();
    if count < 2 {
        return vec![Place { x: 0.5, y: 0.5 }; count];
    }
    let ideal = 2.0 / (count as f64).sqrt();
    for round in 0..ROUNDS {
        let pushes = forces(&places, links, ideal);
        // Cooling: the largest move in this round.
        let max_move = 0.2 * f64::from(ROUNDS - round) / f64::from(ROUNDS);
        for (place, push) in places.iter_mut().zip(pushes) {
            let length = push.x.hypot(push.y).max(1e-9);
            place.x += push.x / length * length.min(max_move);
            place.y += push.y / length * length.min(max_move);
        }
    }
    into_unit_square(places)
}

fn forces(places: &[Place], links: &[(usize, usize)], ideal: f64) -> Vec<Place> {
    let mut forces = vec![Place::default(); places.len()];
    for one in 0..places.len() {
        for other in one + 1..places.len() {
            let (dx, dy) = (places[one].x - places[other].x, places[one].y - places[other].y);
            let strength = ideal * ideal / (dx * dx + dy * dy).max(1e-6);
            push(&mut forces, one, other, dx * strength, dy * strength);
        }
    }
    for (one, other) in links.iter().copied().filter(|(one, other)| one != other) {
        let (dx, dy) = (places[one].x - places[other].x, places[one].y - places[other].y);
        let strength = -dx.hypot(dy) / ideal;
        push(&mut forces, one, other, dx * strength, dy * strength);
    }
    forces
}

fn push(forces: &mut [Place], one: usize, other: usize, x: f64, y: f64) {
    forces[one].x += x;
    forces[one].y += y;
    forces[other].x -= x;
    forces[other].y -= y;
}

/// Stretches each axis by itself.
fn into_unit_square(places: Vec<Place>) -> Vec<Place> {
    let xs = stretched(places.iter().map(|place| place.x).collect());
    let ys = stretched(places.iter().map(|place| place.y).collect());
    xs.into_iter().zip(ys).map(|(x, y)| Place { x, y }).collect()
}

fn stretched(values: Vec<f64>) -> Vec<f64> {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let span = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - min;
    let part = |value: f64| if span > 1e-6 { (value - min) / span } else { 0.5 };
    values.into_iter().map(part).collect()
}
