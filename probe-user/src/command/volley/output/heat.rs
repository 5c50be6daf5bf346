//! A heat map: the number of round trips in each interval of time and of delay. Its size does not grow with the run.

use std::collections::BTreeMap;

use plotters::prelude::*;

use crate::output::plot::{
    FONT, GRID, HEAT_LEVELS, INK, MAX_MARKS, colour, delay_marks, draw, heat, mesh, round, seconds,
};
use crate::output::quantity::count;

/// Maximum number of columns of a map; with more, two become one.
const MAX_COLUMNS: usize = 300;
/// Maximum number of rows of a picture.
const MAX_ROWS: usize = 64;
/// Rows per power of two of the delay.
const ROWS_PER_OCTAVE: f64 = 8.0;
const SIZE: (u32, u32) = (960, 420);
const RATE_SIZE: (u32, u32) = (960, 220);

/// An interval of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Column {
    sent: u64,
    lost: u64,
    /// Round trips by row.
    rows: BTreeMap<usize, u64>,
}

impl Column {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        for (row, number) in other.rows {
            *self.rows.entry(row).or_default() += number;
        }
    }
}

#[derive(Debug, Clone)]
pub struct HeatMap {
    column_ns: u64,
    columns: Vec<Column>,
}

impl HeatMap {
    /// A map with columns of `column_ns`, which double in a long run.
    pub fn new(column_ns: u64) -> Self {
        Self {
            column_ns: column_ns.max(1),
            columns: Vec::new(),
        }
    }

    /// Adds the results of an interval that began `at_ns` after the start; `round_trips` are delays in
    /// nanoseconds and their numbers.
    pub fn add(&mut self, at_ns: u64, sent: u64, lost: u64, round_trips: impl Iterator<Item = (u64, u64)>) {
        let place = |column_ns| usize::try_from(at_ns / column_ns).unwrap_or(usize::MAX);
        while place(self.column_ns) >= MAX_COLUMNS {
            self.halve();
        }
        let mut rows = BTreeMap::new();
        for (rtt_ns, number) in round_trips.filter(|&(_, number)| number > 0) {
            *rows.entry(row_of(rtt_ns)).or_default() += number;
        }
        let place = place(self.column_ns);
        if place >= self.columns.len() {
            self.columns.resize(place + 1, Column::default());
        }
        self.columns[place].add(Column { sent, lost, rows });
    }

    fn halve(&mut self) {
        self.column_ns = self.column_ns.saturating_mul(2);
        let fine = std::mem::take(&mut self.columns);
        for (place, column) in fine.into_iter().enumerate() {
            if place % 2 == 0 {
                self.columns.push(Column::default());
            }
            self.columns[place / 2].add(column);
        }
    }

    pub fn column_ns(&self) -> u64 {
        self.column_ns
    }

    fn end(&self) -> f64 {
        seconds(self.column_ns.saturating_mul(self.columns.len() as u64))
    }

    fn from(&self, place: usize) -> f64 {
        seconds(self.column_ns.saturating_mul(place as u64))
    }

    /// The largest number in a cell of the picture.
    fn hottest(&self, merged: usize) -> u64 {
        self.cells(merged).map(|(_, _, number)| number).max().unwrap_or(0)
    }

    /// The number of rows that become one in the picture.
    fn merged(&self) -> usize {
        let rows = || self.columns.iter().flat_map(|column| column.rows.keys().copied());
        let (least, most) = (rows().min().unwrap_or(0), rows().max().unwrap_or(0));
        (most - least + 1).div_ceil(MAX_ROWS)
    }

    /// Column, row and number of each cell that is not empty.
    fn cells(&self, merged: usize) -> impl Iterator<Item = (usize, usize, u64)> {
        self.columns.iter().enumerate().flat_map(move |(place, column)| {
            let mut rows = BTreeMap::new();
            for (row, number) in &column.rows {
                *rows.entry(row / merged).or_default() += number;
            }
            rows.into_iter().map(move |(row, number)| (place, row, number))
        })
    }

    /// Time to the right, delay upwards, the number of round trips as colour; both delay and number are logarithmic.
    pub fn picture(&self) -> Option<String> {
        let merged = self.merged();
        let rows = || self.cells(merged).map(|(_, row, _)| row);
        let (least, most) = (rows().min()?, rows().max()?);
        let hottest = self.hottest(merged);
        let (low, high) = (start_of(least * merged), start_of((most + 1) * merged));
        let delays = (low..high).log_scale().with_key_points(delay_marks(low, high));
        draw(SIZE, |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(10)
                .margin_right(34)
                .x_label_area_size(30)
                .y_label_area_size(74)
                .build_cartesian_2d(0.0..self.end(), delays)?;
            mesh!(chart)
                .x_labels(8)
                .y_labels(MAX_MARKS)
                .x_label_formatter(&|at| format!("{at:.2} s"))
                .y_label_formatter(&round)
                .draw()?;
            let cells = self.cells(merged).map(|(place, row, number)| {
                let (left, low) = (self.from(place), start_of(row * merged));
                let (right, high) = (self.from(place + 1), start_of((row + 1) * merged));
                Rectangle::new([(left, low), (right, high)], heat(level(number, hottest)).filled())
            });
            chart.draw_series(cells).map(drop)
        })
    }

    /// The range of numbers of each colour in the picture.
    pub fn levels(&self) -> Vec<String> {
        let hottest = self.hottest(self.merged());
        let least: Vec<_> = (0..HEAT_LEVELS)
            .map(|level| threshold(level, hottest))
            .take_while(|&least| least <= hottest)
            .collect();
        let most = least.iter().skip(1).map(|next| next - 1).chain([hottest]);
        let name = |(&least, most): (&u64, u64)| match least == most {
            true => least.to_string(),
            false => format!("{least} to {most}"),
        };
        least.iter().zip(most).map(name).collect()
    }

    /// Probes sent and lost per second, over time.
    pub fn rates(&self) -> Option<String> {
        let per_second = |number: u64| number as f64 / seconds(self.column_ns);
        let most = self.columns.iter().map(|column| column.sent.max(column.lost)).max()?;
        let top = per_second(most.max(1)) * 1.1;
        // Each column as a step.
        let steps = |of: fn(&Column) -> u64| -> Vec<(f64, f64)> {
            let step = |(place, column)| [(self.from(place), column), (self.from(place + 1), column)];
            let rates = self.columns.iter().map(|column| per_second(of(column)));
            rates.enumerate().flat_map(step).collect()
        };
        draw(RATE_SIZE, |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(10)
                .margin_right(34)
                .x_label_area_size(30)
                .y_label_area_size(74)
                .build_cartesian_2d(0.0..self.end(), 0.0..top)?;
            mesh!(chart)
                .x_labels(8)
                .y_labels(5)
                .x_label_formatter(&|at| format!("{at:.2} s"))
                .y_label_formatter(&|rate| format!("{rate:.0}"))
                .draw()?;
            chart.draw_series(LineSeries::new(steps(|column| column.sent), colour(1).stroke_width(2)))?;
            chart.draw_series(LineSeries::new(steps(|column| column.lost), colour(0).stroke_width(2)))?;
            Ok(())
        })
    }

    /// The size of the picture in words.
    pub fn in_words(&self) -> String {
        let columns = count(self.columns.len() as u64, "column");
        let each = humantime::format_duration(std::time::Duration::from_nanos(self.column_ns));
        format!("{columns} of {each} each")
    }
}

fn row_of(rtt_ns: u64) -> usize {
    ((rtt_ns.max(1) as f64).log2() * ROWS_PER_OCTAVE) as usize
}

/// The least delay of a row, in nanoseconds.
fn start_of(row: usize) -> f64 {
    (row as f64 / ROWS_PER_OCTAVE).exp2()
}

/// The least number of a level; levels are logarithmic, and the first begins at 1.
fn threshold(level: usize, hottest: u64) -> u64 {
    let share = level as f64 / HEAT_LEVELS as f64;
    ((hottest.max(1) as f64).powf(share).round() as u64).max(level as u64 + 1)
}

fn level(number: u64, hottest: u64) -> usize {
    (0..HEAT_LEVELS)
        .rfind(|&level| threshold(level, hottest) <= number)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn delays_have_the_row_that_contains_them() {
        for rtt_ns in [1, 2, 3, 700, 2_500, 2_501, 1_000_000, u64::from(u32::MAX), 1 << 62] {
            let row = row_of(rtt_ns);
            let (from, to) = (start_of(row), start_of(row + 1));
            assert!(
                from <= rtt_ns as f64 * 1.000_001 && (rtt_ns as f64) < to,
                "{rtt_ns}: {from} to {to}"
            );
        }
        assert_eq!(row_of(0), 0);
    }

    #[test]
    fn a_long_run_has_wider_columns_and_loses_nothing() {
        let mut map = HeatMap::new(10 * MS);
        for tick in 0..10_000 {
            map.add(tick * 10 * MS, 100, 1, [(2_000, 90), (9_000, 9), (5, 0)].into_iter());
        }
        assert!(map.columns.len() <= MAX_COLUMNS && map.columns.len() > MAX_COLUMNS / 2);
        assert_eq!(map.column_ns, 640 * MS);
        let sums = map
            .columns
            .iter()
            .fold((0, 0), |(sent, lost), column| (sent + column.sent, lost + column.lost));
        assert_eq!(sums, (1_000_000, 10_000));
        let received: u64 = map.cells(map.merged()).map(|(_, _, number)| number).sum();
        assert_eq!(received, 990_000);
        map.add(u64::MAX, 1, 0, [].into_iter());
        assert!(map.columns.len() <= MAX_COLUMNS);
    }

    #[test]
    fn levels_cover_every_number_once() {
        for hottest in [1, 7, 8, 1_000, 1_000_000, u64::MAX / 2] {
            assert_eq!((level(1, hottest), threshold(0, hottest)), (0, 1), "{hottest}");
            let thresholds: Vec<_> = (0..HEAT_LEVELS).map(|level| threshold(level, hottest)).collect();
            assert!(thresholds.is_sorted_by(|a, b| a < b), "{hottest}: {thresholds:?}");
            for (place, &least) in thresholds.iter().enumerate() {
                assert_eq!(level(least, hottest), place, "{hottest}");
            }
        }
    }

    #[test]
    fn the_picture_has_a_rectangle_for_each_cell() {
        let mut map = HeatMap::new(10 * MS);
        assert_eq!(map.picture(), None);
        map.add(0, 100, 0, [(2_000, 90), (9_000, 9)].into_iter());
        map.add(10 * MS, 100, 3, [(2_000, 97)].into_iter());
        let picture = map.picture().unwrap();
        assert_eq!(picture.matches("fill=\"var(--h").count(), 3, "{picture}");
        assert!(!picture.contains("#0104"), "{picture}");
        assert!(map.rates().unwrap().contains("var(--c0)"));
        assert_eq!(
            map.levels(),
            [
                "1", "2", "3 to 5", "6 to 9", "10 to 16", "17 to 30", "31 to 54", "55 to 97"
            ]
        );
        assert_eq!(map.in_words(), "2 columns of 10ms each");
    }
}
