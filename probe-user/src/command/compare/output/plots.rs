//! Plots of a comparison.

use std::ops::Range;

use plotters::prelude::*;
use probe_core::compare::Method;
use probe_core::compare::anatomy::Anatomy;
use probe_core::compare::ledger::Tally;

use crate::command::compare::output::{PhaseResult, parts};
use crate::output::plot::{FONT, GRID, INK, SIZE, colour, cumulative, delay_range, draw, mesh, round, seconds};

const BAR_SIZE: (u32, u32) = (460, 110);
/// Points of one method in one plot.
const MAX_POINTS: usize = 1_500;

/// Index of the first part's colour, after those of the methods.
pub const PARTS: usize = Method::ALL.len();

/// Cumulative distribution of the round trips of each method.
pub fn distribution(result: &PhaseResult) -> Option<String> {
    let lines = lines(result).map(|(place, tally)| (place, steps(tally)));
    cumulative(range(result)?, lines)
}

/// Round trips of each method over time.
pub fn over_time(result: &PhaseResult) -> Option<String> {
    let range = range(result)?;
    let last = |tally: &Tally| tally.series.last().map_or(0, |point| point.at_ns);
    let end_ns = lines(result).map(|(_, tally)| last(tally)).max()?.max(1);
    draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(34)
            .x_label_area_size(30)
            .y_label_area_size(74)
            .build_cartesian_2d(0.0..seconds(end_ns), range.clone().log_scale())?;
        mesh!(chart)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|at| format!("{at:.1} s"))
            .y_label_formatter(&round)
            .draw()?;
        for (place, tally) in lines(result) {
            let dot = colour(place).mix(0.7).filled();
            let points = peaks(tally).map(|(at, ns)| Circle::new((at, ns), 2, dot));
            chart.draw_series(points)?;
        }
        Ok(())
    })
}

/// The mean parts of a userspace round trip, end to end: means add up, medians do not.
pub fn anatomy(anatomy: &Anatomy) -> Option<String> {
    let parts = parts(anatomy);
    let whole: i64 = parts.iter().map(|(_, part)| part.mean).sum();
    if whole <= 0 {
        return None;
    }
    draw(BAR_SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_left(34)
            .margin_right(34)
            .x_label_area_size(30)
            .build_cartesian_2d(0.0..whole as f64, 0.0..1.0_f64)?;
        mesh!(chart)
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(5)
            .x_label_formatter(&round)
            .draw()?;
        let mut from = 0;
        for (place, (_, part)) in parts.iter().enumerate() {
            let corners = [(from as f64, 0.1), ((from + part.mean) as f64, 0.9)];
            chart.draw_series([Rectangle::new(corners, colour(PARTS + place).filled())])?;
            from += part.mean;
        }
        Ok(())
    })
}

/// The methods with round trips, and their index.
fn lines(result: &PhaseResult) -> impl Iterator<Item = (usize, &Tally)> {
    let tally = |(place, method): (usize, &Method)| Some((place, result.tally(*method)?));
    let all = Method::ALL.iter().enumerate().filter_map(tally);
    all.filter(|(_, tally)| !tally.series.is_empty())
}

/// From the shortest to the longest round trip of all methods.
fn range(result: &PhaseResult) -> Option<Range<f64>> {
    let round_trips = lines(result).flat_map(|(_, tally)| &tally.series);
    delay_range(round_trips.map(|point| point.rtt_ns as f64))
}

/// The steps of a distribution in percent, thinned out evenly; the last one is kept.
fn steps(tally: &Tally) -> Vec<(f64, f64)> {
    let mut round_trips: Vec<_> = tally.series.iter().map(|point| point.rtt_ns.max(1)).collect();
    round_trips.sort_unstable();
    let count = round_trips.len();
    let stride = count.div_ceil(MAX_POINTS).max(1);
    let step = |rank: usize| (round_trips[rank] as f64, (rank + 1) as f64 * 100.0 / count as f64);
    (0..count)
        .step_by(stride)
        .chain(count.checked_sub(1))
        .map(step)
        .collect()
}

/// Points over time; of many, the longest of each group, so that no peak is hidden.
fn peaks(tally: &Tally) -> impl Iterator<Item = (f64, f64)> {
    let stride = tally.series.len().div_ceil(MAX_POINTS).max(1);
    let longest = tally
        .series
        .chunks(stride)
        .filter_map(|group| group.iter().max_by_key(|point| point.rtt_ns));
    longest.map(|point| (seconds(point.at_ns), point.rtt_ns.max(1) as f64))
}
