//! Numbers in few columns, and small plots of text.

use crate::command::top::model::{Point, Row};
use crate::command::top::view::canvas::Tone;
use crate::output::time::Utc;

/// Of times, which are shown without a day.
const HOUR_NS: u64 = 3_600_000_000_000;

pub fn clock(time: Utc) -> String {
    time.on_axis(HOUR_NS)
}

/// A duration in at most six columns: `850ns`, `1.28ms`, `50.5ms`; seven if it is negative.
pub fn short(ns: i64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let sign = if ns < 0 { "-" } else { "" };
    let magnitude = ns.unsigned_abs() as f64;
    let mut text = String::new();
    for (unit, per_unit) in UNITS {
        let value = magnitude / per_unit;
        let decimals = match value {
            _ if per_unit == 1.0 => 0,
            ..9.995 => 2,
            ..99.95 => 1,
            _ => 0,
        };
        text = format!("{sign}{value:.decimals$}{unit}");
        if value < 999.5 {
            break;
        }
    }
    text
}

pub fn short_or_none(ns: Option<i64>) -> String {
    ns.map_or("-".to_owned(), short)
}

/// A share in percent, in at most four columns. Only none is `0`, only all is `100`.
pub fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match part {
        _ if whole == 0 => "-".to_owned(),
        0 => "0".to_owned(),
        _ if part >= whole => "100".to_owned(),
        _ if percent < 0.01 => "<.01".to_owned(),
        _ if percent < 9.995 => format!("{percent:.2}"),
        _ => format!("{:.1}", percent.min(99.9)),
    }
}

pub fn loss_tone(part: u64) -> Tone {
    if part == 0 { Tone::Faint } else { Tone::Warning }
}

/// The last medians, one column each, between the smallest and the largest; `nothing` for a window without a reply.
pub fn sparkline(row: &Row, columns: usize, levels: [char; 8], nothing: char) -> String {
    let skipped = row.points.len().saturating_sub(columns);
    let medians: Vec<_> = row
        .points
        .iter()
        .skip(skipped)
        .map(|point| point.rtt.map(|rtt| rtt.p50))
        .collect();
    let known = || medians.iter().flatten();
    let (low, high) = (known().min().copied().unwrap_or(0), known().max().copied().unwrap_or(0));
    let level = |median: &i64| levels[scaled(*median, low, high, levels.len() - 1)];
    let columns = medians.iter().map(|median| median.as_ref().map_or(nothing, level));
    columns.collect()
}

/// Where a value is between two others, in `steps`.
pub fn scaled(value: i64, low: i64, high: i64, steps: usize) -> usize {
    let span = (high as f64 - low as f64).max(1.0);
    let share = (value as f64 - low as f64).clamp(0.0, span) / span;
    (share * steps as f64).round() as usize
}

/// The share of lost probes of each window: a blank for none.
pub fn loss_line(points: &[Point], levels: [char; 8]) -> String {
    let column = |point: &Point| match point.lost.total() {
        0 => ' ',
        lost => {
            let part = lost as f64 / point.resolved.max(1) as f64;
            levels[((part * 7.0).round() as usize).min(7)]
        }
    };
    points.iter().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_six_columns() {
        let table = [
            (0, "0ns"),
            (850, "850ns"),
            (999, "999ns"),
            (1_000, "1.00µs"),
            (9_994, "9.99µs"),
            (9_996, "10.0µs"),
            (161_400, "161µs"),
            (999_400, "999µs"),
            (999_600, "1.00ms"),
            (50_450_000, "50.5ms"),
            (2_000_000_000, "2.00s"),
            (4_000_000_000_000, "4000s"),
            (-50_450_000, "-50.5ms"),
        ];
        for (ns, want) in table {
            assert_eq!(short(ns), want);
        }
    }

    #[test]
    fn shares_take_four_columns() {
        let table = [
            ((0, 0), "-"),
            ((0, 9), "0"),
            ((1, 1_000_000), "<.01"),
            ((1, 100), "1.00"),
            ((1, 10), "10.0"),
            ((9_999, 10_000), "99.9"),
            ((9, 9), "100"),
        ];
        for ((part, whole), want) in table {
            assert_eq!(share(part, whole), want);
        }
    }
}
