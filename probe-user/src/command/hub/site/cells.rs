//! The matrix for the page: the cells of pairs of hosts in columns, which a browser uses as they are.
//!
//! A message is the length of its head (32 bits, little-endian), the head in JSON, and one column after the other.

use probe_hub::hub::alerts::{Alerts, Kind, Subject};
use probe_hub::hub::matrix::{Cell, Matrix};
use probe_hub::message::event::Direction;
use serde::Serialize;

use crate::command::hub::site::rows::HubLine;
use crate::command::hub::site::view::{Host, View};
use crate::output::time::Utc;

/// Steps of a delay's code in a factor of two: a code is within 0.04 % of the delay.
const DELAY_STEPS: f64 = 1_024.0;
/// Of a share's code: it is within 2.2 % of the share.
const SHARE_STEPS: f64 = 16.0;
const S: u64 = 1_000_000_000;

/// Indices of the hosts, and their worst pair of ports.
pub type Row = (u16, u16, Cell);

#[derive(Serialize)]
pub struct Head<'a> {
    pub hub: HubLine,
    /// Of the matrix.
    pub version: u64,
    pub hosts_version: String,
    pub time: Utc,
    /// `None` if the client has them.
    pub hosts: Option<&'a [Host]>,
    pub hosts_in_all: usize,
    pub zones: &'a [String],
    pub down: &'a [u16],
    pub silent: Vec<(u16, u16, Direction)>,
    /// Rows of each column.
    pub cells: usize,
}

/// Pairs of hosts that are silent, and where.
pub fn silent(view: &View, alerts: &Alerts) -> Vec<(u16, u16, Direction)> {
    let index = |name| view.hosts.binary_search_by(|host| host.name.cmp(name)).ok();
    let pairs = alerts
        .raised()
        .filter(|alert| alert.kind == Kind::Silent)
        .filter_map(|alert| {
            let Subject::Pair { from, to } = &alert.subject else {
                return None;
            };
            let (from, to) = (index(&from.host)? as u16, index(&to.host)? as u16);
            (from != to).then_some((from, to, alert.direction.unwrap_or(Direction::Unknown)))
        });
    pairs.collect()
}

/// What the client knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub since: u64,
    pub hosts_version: String,
}

/// The cells that the client does not know, and whether it has to forget the others.
pub fn news(view: &View, matrix: &Matrix, known: &Known, now_ns: u64) -> (Vec<Row>, bool) {
    let is_all = known.hosts_version != version_of(view) || known.since > matrix.version();
    let since = if is_all { 0 } else { known.since };
    (view.changed(matrix, since, now_ns), is_all)
}

pub fn version_of(view: &View) -> String {
    format!("{:016x}", view.version())
}

pub fn message(head: &Head<'_>, cells: &[Row], now_ns: u64) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(head)?;
    // Columns of 16 bits begin at even places.
    text.resize(text.len().next_multiple_of(4), b' ');
    let mut message = Vec::with_capacity(4 + text.len() + 15 * cells.len());
    message.extend((text.len() as u32).to_le_bytes());
    message.extend(text);
    let columns: [fn(&Row, u64) -> u16; 6] = [
        |(from, _, _), _| *from,
        |(_, to, _), _| *to,
        |(_, _, cell), _| delay_code(cell.p50_ns()),
        |(_, _, cell), _| delay_code(cell.p99_ns()),
        |(_, _, cell), now_ns| seconds(cell.age_ns(now_ns)),
        |(_, _, cell), _| seconds(cell.stale_ns()),
    ];
    for column in columns {
        for row in cells {
            message.extend_from_slice(&column(row, now_ns).to_le_bytes());
        }
    }
    let losses: [&dyn Fn(&Cell) -> u32; 3] = [&|cell| cell.lost_forward, &|cell| cell.lost_backward, &|cell| {
        cell.lost_unknown
    }];
    for lost in losses {
        for (_, _, cell) in cells {
            message.push(share_code(lost(cell), cell.lost() + cell.received));
        }
    }
    Ok(message)
}

fn seconds(ns: u64) -> u16 {
    u16::try_from(ns / S).unwrap_or(u16::MAX)
}

/// 0 without a delay, else 1 and the steps above a nanosecond.
fn delay_code(ns: Option<u64>) -> u16 {
    let Some(ns) = ns else { return 0 };
    let steps = (ns.max(1) as f64).log2() * DELAY_STEPS;
    (1.0 + steps.round()).min(f64::from(u16::MAX)) as u16
}

/// 0 for nothing, 255 for all, below that steps.
fn share_code(part: u32, all: u32) -> u8 {
    if part == 0 || all == 0 {
        return 0;
    }
    let steps = (f64::from(part) / f64::from(all)).log2() * SHARE_STEPS;
    (255.0 + steps.round()).clamp(1.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_close_to_what_it_stands_for() {
        assert_eq!(delay_code(None), 0);
        for ns in [1, 2, 999, 161_000, 2_000_000_000, 60_000_000_000] {
            let decoded = 2_f64.powf(f64::from(delay_code(Some(ns)) - 1) / DELAY_STEPS);
            assert!((decoded / ns as f64 - 1.0).abs() < 0.000_4, "{ns} {decoded}");
        }
        assert_eq!(delay_code(Some(u64::MAX)), u16::MAX);
        assert_eq!([share_code(0, 7), share_code(7, 7), share_code(0, 0)], [0, 255, 0]);
        for (part, all) in [(1, 2), (1, 20), (1, 10_000), (19, 20)] {
            let decoded = 2_f64.powf((f64::from(share_code(part, all)) - 255.0) / SHARE_STEPS);
            let share = f64::from(part) / f64::from(all);
            assert!((decoded / share - 1.0).abs() < 0.022, "{part}/{all} {decoded}");
        }
        assert_eq!(share_code(1, u32::MAX), 1);
    }
}
