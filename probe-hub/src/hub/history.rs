//! Windows of one pair, read from the streams on demand.

use crate::message::windows::Window;
use crate::subjects::{MINUTES, QUARTERS, Results, WINDOWS};

const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 60 * MINUTE_NS;

/// A part of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Since 1970, as `to_ns`. Windows that end after it and until `to_ns` are in the range.
    pub from_ns: u64,
    pub to_ns: u64,
    /// Of windows: the newest are read.
    pub limit: usize,
}

impl Range {
    /// Windows of an hour, minutes of a day, else quarters of an hour.
    pub fn results(&self) -> Results {
        match self.to_ns.saturating_sub(self.from_ns) {
            ..=HOUR_NS => WINDOWS,
            length if length <= 24 * HOUR_NS => MINUTES,
            _ => QUARTERS,
        }
    }
}

/// A window, or a roll-up, of a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    pub start_ns: u64,
    pub end_ns: u64,
    pub window: Window,
}

/// The newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// From which stream.
    pub results: Results,
    pub windows: Vec<Timed>,
    /// Older ones were left out.
    pub is_cut: bool,
}
