//! Plots of a report.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::output::plot::{
    FONT, GRID, HEAT_LEVELS, INK, MAX_MARKS, SIZE, colour, cumulative, delay_marks, delay_range, draw, heat, mesh,
    round,
};
use crate::output::report::session::{Band, Session, Span};
use crate::output::time::Utc;

const MAP_WIDTH: u32 = 960;
/// Height of the axis of a loss map and of each row.
const MAP_AXIS: u32 = 60;
const MAP_ROW: u32 = 18;
/// Rows of a loss map.
pub const MAX_ROWS: usize = 60;
/// Lines of a plot, each with a colour.
pub const MAX_LINES: usize = 8;

/// The colours of the quantiles over time.
pub const MEDIAN: usize = 1;
pub const TAIL: usize = 0;

/// Upper bounds of the shares of lost probes, by colour; the first is that of no loss.
const SHARES: [f64; HEAT_LEVELS] = [0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0];

/// Nanoseconds since the start of a plot, in seconds.
fn since(start_ns: u64, at_ns: u64) -> f64 {
    (at_ns as i128 - start_ns as i128) as f64 / 1e9
}

/// Seconds since the start of a plot, with labels at these.
struct Times(Range<f64>, Vec<f64>);

impl Ranged for Times {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.0.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.1.clone()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

/// Whole times between two, as seconds since the first: at most `most`.
fn time_marks(start_ns: u64, end_ns: u64, most: u64) -> Vec<f64> {
    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;
    const STEPS: [u64; 22] = [
        10 * MS,
        50 * MS,
        100 * MS,
        200 * MS,
        500 * MS,
        S,
        2 * S,
        5 * S,
        10 * S,
        15 * S,
        30 * S,
        60 * S,
        120 * S,
        300 * S,
        600 * S,
        1_800 * S,
        3_600 * S,
        7_200 * S,
        21_600 * S,
        43_200 * S,
        86_400 * S,
        604_800 * S,
    ];
    let first = |step: u64| start_ns.div_ceil(step);
    let number = |step: u64| (end_ns / step + 1).saturating_sub(first(step));
    let fits = STEPS.into_iter().find(|&step| number(step) <= most);
    let step = fits.unwrap_or_else(|| ((end_ns - start_ns) / most).max(1));
    (0..number(step))
        .map(|mark| since(start_ns, (first(step) + mark).saturating_mul(step)))
        .collect()
}

fn time_label(start_ns: u64, lasts_ns: u64) -> impl Fn(&f64) -> String {
    move |at| {
        let at_ns = start_ns.saturating_add((at.max(0.0) * 1e9) as u64);
        Utc { unix_ns: at_ns }.on_axis(lasts_ns)
    }
}

/// Columns that follow each other, at most one column apart.
fn runs<'a>(columns: &'a [(&'a Span, Band)]) -> impl Iterator<Item = &'a [(&'a Span, Band)]> {
    columns.chunk_by(|((from, to, _), _), ((next, ..), _)| next.saturating_sub(*to) <= to - from)
}

/// Quantiles of the round-trip time over time: a band from the minimum to the 99th percentile, the median, the maximum as dots.
pub fn over_time(spans: &[Span]) -> Option<String> {
    let columns: Vec<(&Span, Band)> = spans.iter().filter_map(|span| Some((span, span.2.rtt?))).collect();
    let (start_ns, end_ns) = (columns.first()?.0.0, columns.last()?.0.1);
    let bounds = columns
        .iter()
        .flat_map(|(_, band)| [band.quantiles.min as f64, band.quantiles.max as f64]);
    let delays = delay_range(bounds)?;
    let marks = delay_marks(delays.start, delays.end);
    let times = time_marks(start_ns, end_ns, 4);
    let x = |at_ns| since(start_ns, at_ns);
    let y = |delay: i64| delay.max(1) as f64;
    draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(34)
            .x_label_area_size(30)
            .y_label_area_size(74)
            .build_cartesian_2d(Times(0.0..x(end_ns), times), delays.log_scale().with_key_points(marks))?;
        mesh!(chart)
            .x_labels(4)
            .y_labels(MAX_MARKS)
            .x_label_formatter(&time_label(start_ns, end_ns - start_ns))
            .y_label_formatter(&round)
            .draw()?;
        for run in runs(&columns) {
            let steps = |of: fn(&Band) -> i64| {
                let ends = |((from, to, _), band): &(&Span, Band)| [(x(*from), y(of(band))), (x(*to), y(of(band)))];
                run.iter().flat_map(ends).collect::<Vec<_>>()
            };
            let (low, high) = (steps(|band| band.quantiles.min), steps(|band| band.quantiles.p99));
            let outline: Vec<_> = low.into_iter().chain(high.iter().rev().copied()).collect();
            chart.draw_series([Polygon::new(outline, colour(MEDIAN).mix(0.25).filled())])?;
            chart.draw_series(LineSeries::new(high, colour(TAIL).stroke_width(2)))?;
            let median = steps(|band| band.quantiles.p50);
            chart.draw_series(LineSeries::new(median, colour(MEDIAN).stroke_width(2)))?;
        }
        let longest = columns.iter().map(|((from, to, _), band)| {
            let middle = from + (to - from) / 2;
            Circle::new((x(middle), y(band.quantiles.max)), 2, colour(TAIL).filled())
        });
        chart.draw_series(longest).map(drop)
    })
}

/// Cumulative distribution of the round-trip times of some sessions.
pub fn distributions(sessions: &[&Session]) -> Option<String> {
    let lines: Vec<_> = sessions
        .iter()
        .take(MAX_LINES)
        .map(|session| session.cumulative())
        .collect();
    let delays = delay_range(lines.iter().flatten().map(|(delay, _)| *delay as f64))?;
    let percent = |(delay, share): (i64, f64)| (delay.max(1) as f64, share * 100.0);
    let lines = lines.into_iter().map(|line| line.into_iter().map(percent));
    cumulative(delays, lines.enumerate())
}

/// The share of lost probes over time, a row for each session; rows are numbered from 1, and the first is on top.
pub fn loss_map(rows: &[Vec<Span>]) -> Option<String> {
    let spans = || rows.iter().flatten();
    let start_ns = spans().map(|(from, ..)| *from).min()?;
    let end_ns = spans().map(|(_, to, _)| *to).max()?;
    let height = MAP_AXIS + MAP_ROW * u32::try_from(rows.len()).unwrap_or(0);
    let number = rows.len();
    let times = time_marks(start_ns, end_ns, 10);
    draw((MAP_WIDTH, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(34)
            .x_label_area_size(30)
            .y_label_area_size(40)
            .build_cartesian_2d(Times(0.0..since(start_ns, end_ns), times), number as f64..0.0)?;
        mesh!(chart)
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(10)
            .x_label_formatter(&time_label(start_ns, end_ns - start_ns))
            .draw()?;
        for (place, row) in rows.iter().enumerate() {
            let top = place as f64;
            let cells = row
                .iter()
                .filter(|(_, _, part)| part.counts.sent > 0)
                .map(|(from, to, part)| {
                    let corners = [(since(start_ns, *from), top + 0.1), (since(start_ns, *to), top + 0.9)];
                    Rectangle::new(corners, heat(loss_level(part.counts.lost, part.counts.sent)).filled())
                });
            chart.draw_series(cells)?;
            let style = FONT.into_font().color(&INK);
            let label = format!("{}", place + 1);
            // To the left of the plot, in the middle of its row.
            let (_, y) = chart.backend_coord(&(0.0, top + 0.5));
            area.draw(&Text::new(label, (10, y - 8), style))?;
        }
        Ok(())
    })
}

/// The colour of a share of lost probes.
pub fn loss_level(lost: u64, sent: u64) -> usize {
    let share = lost as f64 / sent.max(1) as f64;
    SHARES.iter().position(|&most| share <= most).unwrap_or(HEAT_LEVELS - 1)
}

/// The shares of each colour, in words.
pub fn loss_levels() -> Vec<String> {
    let more = |share: f64| format!("up to {} %", share * 100.0);
    let first = std::iter::once("no loss".to_owned());
    first.chain(SHARES[1..].iter().map(|&share| more(share))).collect()
}

/// The colour of a delay between the shortest and the longest of a matrix; the scale is logarithmic.
pub fn delay_level(delay_ns: i64, shortest_ns: i64, longest_ns: i64) -> usize {
    let log = |delay: i64| (delay.max(1) as f64).ln();
    let whole = log(longest_ns) - log(shortest_ns);
    if whole <= 0.0 {
        return 0;
    }
    let share = (log(delay_ns) - log(shortest_ns)) / whole;
    ((share * HEAT_LEVELS as f64) as usize).min(HEAT_LEVELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_loss_begin_with_none_and_end_with_all() {
        let table = [
            (0, 0, 0),
            (0, 9, 0),
            (1, 1_000_000, 1),
            (1, 100, 2),
            (3, 100, 4),
            (100, 100, 7),
        ];
        for (lost, sent, level) in table {
            assert_eq!(loss_level(lost, sent), level, "{lost} of {sent}");
        }
        assert_eq!(loss_levels()[..3], ["no loss", "up to 0.1 %", "up to 1 %"]);
    }

    #[test]
    fn marks_are_at_whole_times() {
        let s = 1_000_000_000;
        let table = [
            (0, 3_600 * s, 4, vec![0.0, 1_800.0, 3_600.0]),
            (10 * s + 1, 13 * s, 4, vec![0.999_999_999, 1.999_999_999, 2.999_999_999]),
            (5 * s, 5 * s, 4, vec![0.0]),
        ];
        for (start, end, most, expected) in table {
            assert_eq!(time_marks(start, end, most), expected, "{start} to {end}");
        }
        assert!(time_marks(0, u64::MAX, 4).len() <= 6);
    }

    #[test]
    fn levels_of_delay_are_logarithmic() {
        let level = |delay| delay_level(delay, 1_000, 256_000);
        assert_eq!(
            [1_000, 1_999, 2_001, 16_001, 256_000, 999_000].map(level),
            [0, 0, 1, 4, 7, 7]
        );
        assert_eq!(delay_level(5, 5, 5), 0);
    }
}
