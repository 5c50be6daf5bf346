//! Rectangles and curves.

/// Free space around everything.
pub(super) const GAP: f64 = 8.0;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in super::super) struct Place {
    pub(in super::super) x: f64,
    pub(in super::super) y: f64,
}

impl Place {
    pub(super) fn moved(self, by: Self) -> Self {
        Self {
            x: self.x + by.x,
            y: self.y + by.y,
        }
    }

    pub(super) fn scaled(self, by: (f64, f64)) -> Self {
        Self {
            x: self.x * by.0,
            y: self.y * by.1,
        }
    }

    /// The place at `part` of the way to `other`.
    pub(super) fn towards(self, other: Self, part: f64) -> Self {
        Self {
            x: self.x + (other.x - self.x) * part,
            y: self.y + (other.y - self.y) * part,
        }
    }

    pub(super) fn distance(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in super::super) struct Rect {
    pub(in super::super) centre: Place,
    pub(in super::super) width: f64,
    pub(in super::super) height: f64,
}

impl Rect {
    pub(super) fn new(centre: Place, (width, height): (f64, f64)) -> Self {
        Self { centre, width, height }
    }

    /// The smallest one that contains all `rects`.
    pub(super) fn around(rects: impl Iterator<Item = Self>) -> Self {
        let corners = rects.map(|rect| {
            [
                rect.left(),
                rect.top(),
                rect.left() + rect.width,
                rect.top() + rect.height,
            ]
        });
        let outer = corners.reduce(|one, other| {
            [
                one[0].min(other[0]),
                one[1].min(other[1]),
                one[2].max(other[2]),
                one[3].max(other[3]),
            ]
        });
        let [left, top, right, bottom] = outer.unwrap_or_default();
        let centre = Place {
            x: (left + right) / 2.0,
            y: (top + bottom) / 2.0,
        };
        Self::new(centre, (right - left, bottom - top))
    }

    pub(in super::super) fn left(&self) -> f64 {
        self.centre.x - self.width / 2.0
    }

    pub(in super::super) fn top(&self) -> f64 {
        self.centre.y - self.height / 2.0
    }

    pub(super) fn moved(self, by: Place) -> Self {
        Self {
            centre: self.centre.moved(by),
            ..self
        }
    }

    /// How far the two reach into each other, or closer than `gap`, on both axes; `None` if they do not.
    pub(super) fn overlap(&self, other: &Self, gap: f64) -> Option<(f64, f64)> {
        let x = (self.width + other.width) / 2.0 + gap - (self.centre.x - other.centre.x).abs();
        let y = (self.height + other.height) / 2.0 + gap - (self.centre.y - other.centre.y).abs();
        (x > 0.0 && y > 0.0).then_some((x, y))
    }

    fn contains(&self, place: Place, margin: f64) -> bool {
        (self.centre.x - place.x).abs() < self.width / 2.0 + margin
            && (self.centre.y - place.y).abs() < self.height / 2.0 + margin
    }
}

/// A quadratic curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Curve {
    pub(in super::super) from: Place,
    pub(in super::super) control: Place,
    pub(in super::super) to: Place,
}

impl Curve {
    pub(super) fn straight(from: Place, to: Place) -> Self {
        let control = from.towards(to, 0.5);
        Self { from, control, to }
    }

    /// Its middle is at `middle`.
    pub(super) fn through(from: Place, middle: Place, to: Place) -> Self {
        // A quadratic curve passes half as far aside as its control point.
        let control = from.towards(to, 0.5).towards(middle, 2.0);
        Self { from, control, to }
    }

    pub(super) fn at(&self, part: f64) -> Place {
        let one = self.from.towards(self.control, part);
        one.towards(self.control.towards(self.to, part), part)
    }

    pub(super) fn moved(self, by: Place) -> Self {
        Self {
            from: self.from.moved(by),
            control: self.control.moved(by),
            to: self.to.moved(by),
        }
    }

    pub(super) fn is_straight(&self) -> bool {
        self.control.distance(self.from.towards(self.to, 0.5)) < 1.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Routed {
    pub(in super::super) curve: Curve,
    pub(in super::super) label: Option<Rect>,
}

impl Routed {
    pub(super) fn rects(&self) -> impl Iterator<Item = Rect> {
        let middle = Rect::new(self.curve.at(0.5), (2.0, 2.0));
        self.label.into_iter().chain([middle])
    }
}

impl Default for Routed {
    fn default() -> Self {
        Self {
            curve: Curve::straight(Place::default(), Place::default()),
            label: None,
        }
    }
}

/// A curve, prepared to be compared with many rectangles.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// A few pixels from each other.
    samples: Vec<Place>,
    bounds: Rect,
}

impl Path {
    pub(super) fn of(curve: Curve) -> Self {
        const STEP: f64 = 7.0;
        const MAX_SAMPLES: f64 = 300.0;
        let length = curve.from.distance(curve.control) + curve.control.distance(curve.to);
        let count = (length / STEP).clamp(8.0, MAX_SAMPLES) as usize;
        let samples: Vec<Place> = (0..=count).map(|at| curve.at(at as f64 / count as f64)).collect();
        Self {
            bounds: Rect::around(samples.iter().map(|sample| Rect::new(*sample, (0.0, 0.0)))),
            samples,
        }
    }

    /// Whether it passes through `rect`, or closer than `margin`.
    pub(super) fn crosses(&self, rect: &Rect, margin: f64) -> bool {
        let near = self.bounds.overlap(rect, margin).is_some();
        near && self.samples.iter().any(|sample| rect.contains(*sample, margin))
    }

    /// Whether two curves between the same ends have about the same middle.
    pub(super) fn is_along(&self, other: &Self) -> bool {
        const APART: f64 = 8.0;
        let middle = |path: &Self| path.samples[path.samples.len() / 2];
        middle(self).distance(middle(other)) < APART
    }
}
