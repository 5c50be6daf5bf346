//! Plots as SVG; the page defines their colours.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::output::quantity::whole;

pub const FONT: (&str, u32) = ("sans-serif", 16);
/// Number of colours in the style of the page.
const COLOURS: usize = 9;
/// Number of colours of a heat map, from few round trips to many.
pub const HEAT_LEVELS: usize = 8;

/// Size of a plot that is readable on a phone without zooming.
pub const SIZE: (u32, u32) = (460, 300);

/// Maximum number of labels on an axis of delays.
pub const MAX_MARKS: usize = 12;

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Failure = DrawingAreaErrorKind<std::io::Error>;

/// Placeholders for CSS variables, so that the page decides on light and dark.
pub const INK: RGBColor = RGBColor(1, 2, 1);
pub const GRID: RGBColor = RGBColor(1, 2, 2);

/// The CSS variable with the colour of a method or part.
pub fn colour_name(place: usize) -> String {
    format!("--c{place}")
}

/// Placeholder for the colour of a method or part.
pub fn colour(place: usize) -> RGBColor {
    RGBColor(1, 3, u8::try_from(place).unwrap_or(u8::MAX))
}

/// The CSS variable with the colour of a level of a heat map.
pub fn heat_name(level: usize) -> String {
    format!("--h{level}")
}

/// Placeholder for the colour of a level.
pub fn heat(level: usize) -> RGBColor {
    RGBColor(1, 4, u8::try_from(level).unwrap_or(u8::MAX))
}

/// A macro, because the type of a mesh contains that of its axes.
macro_rules! mesh {
    ($chart:expr) => {
        $chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(FONT.into_font().color(&INK))
    };
}
pub(crate) use mesh;

/// The range of some delays on a logarithmic axis: never empty, never from zero. `None` without delays.
pub fn delay_range(mut delays_ns: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let first = delays_ns.next()?;
    let (min, max) = delays_ns.fold((first, first), |(min, max), delay| (min.min(delay), max.max(delay)));
    Some(min.max(1.0) * 0.9..max.max(1.0) * 1.1)
}

/// Cumulative distributions: for each line, the index of its colour, and delays with the percentage of round trips up to them.
pub fn cumulative<P: IntoIterator<Item = (f64, f64)>>(
    delays: Range<f64>,
    lines: impl Iterator<Item = (usize, P)>,
) -> Option<String> {
    draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(34)
            .x_label_area_size(30)
            .y_label_area_size(58)
            .build_cartesian_2d(delays.log_scale(), 0.0..100.0_f64)?;
        mesh!(chart)
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&round)
            .y_label_formatter(&|percent| format!("{percent:.0} %"))
            .draw()?;
        for (place, points) in lines {
            chart.draw_series(LineSeries::new(points, colour(place).stroke_width(2)))?;
        }
        Ok(())
    })
}

/// Draws an SVG of this size in the colours of the page.
pub fn draw(size: (u32, u32), body: impl FnOnce(&Area<'_>) -> Result<(), Failure>) -> Option<String> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        body(&area).and_then(|()| area.present())
    };
    drawn.ok().map(|()| in_page_colours(&svg, size))
}

/// Replaces placeholders by CSS variables, and lets the page decide on the size.
fn in_page_colours(svg: &str, (width, height): (u32, u32)) -> String {
    let hex = |RGBColor(r, g, b): RGBColor| format!("#{r:02X}{g:02X}{b:02X}");
    let mut svg = svg
        .replace(&hex(INK), "var(--ink)")
        .replace(&hex(GRID), "var(--grid)")
        .replace(
            &format!("<svg width=\"{width}\" height=\"{height}\""),
            "<svg role=\"img\"",
        );
    let lines = (0..COLOURS).map(|place| (colour(place), colour_name(place)));
    let levels = (0..HEAT_LEVELS).map(|level| (heat(level), heat_name(level)));
    for (placeholder, name) in lines.chain(levels) {
        svg = svg.replace(&hex(placeholder), &format!("var({name})"));
    }
    svg
}

/// `10 µs`.
pub fn round(ns: &f64) -> String {
    whole(*ns as i64)
}

pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Delays to label between `low` and `high`: powers of ten, and more digits where few of those are in the range.
pub fn delay_marks(low: f64, high: f64) -> Vec<f64> {
    const DIGITS: [&[f64]; 3] = [
        &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        &[1.0, 2.0, 5.0],
        &[1.0],
    ];
    let with = |digits: &[f64]| -> Vec<f64> {
        let decade = |power| digits.iter().map(move |digit| digit * 10_f64.powi(power));
        let all = (0..20).flat_map(decade);
        all.filter(|delay| (low..=high).contains(delay)).collect()
    };
    let found = DIGITS
        .iter()
        .map(|digits| with(digits))
        .find(|marks| marks.len() <= MAX_MARKS);
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_of_any_length_has_some_labels() {
        for (low, high) in [(1_900.0, 2_100.0), (2_000.0, 9_700.0), (900.0, 1e6), (1.0, 4.3e9)] {
            let marks = delay_marks(low, high);
            assert!((1..=MAX_MARKS).contains(&marks.len()), "{low} to {high}: {marks:?}");
        }
        assert_eq!(delay_marks(1_900.0, 9_700.0).len(), 9);
    }
}
