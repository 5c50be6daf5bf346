//! One peer by one path.

use std::collections::VecDeque;
use std::net::IpAddr;

use probe_core::stats::report::Path;

use crate::output::model::hops::HopHistory;
use crate::output::report::record::{Quantiles, Results};
use crate::output::report::session::{Counts, Part};
use crate::output::time::Utc;

/// Windows that are kept: four minutes of the agent that `top` starts, twenty of one with 10 s.
pub const MAX_POINTS: usize = 120;
/// Losses are those of this time.
const LOSS_NS: u64 = 60_000_000_000;
/// A row is stale if it has no window while others have had so many.
const STALE_WINDOWS: u64 = 3;

pub type Key = (IpAddr, Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Up,
    /// No window yet.
    New,
    /// Some probes of the last minute are lost.
    Loss,
    /// All probes of the last window are lost.
    Lost,
    /// No window for some time.
    Stale,
    Down,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::New => "new",
            Self::Loss => "loss",
            Self::Lost => "lost",
            Self::Stale => "stale",
            Self::Down => "down",
        }
    }
}

/// A window in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub start: Utc,
    pub end: Utc,
    /// Probes that are answered or lost.
    pub resolved: u64,
    pub lost: Losses,
    pub rtt: Option<Quantiles>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    pub forward: u64,
    pub backward: u64,
    pub unknown: u64,
}

impl Losses {
    pub fn total(self) -> u64 {
        self.forward.saturating_add(self.backward).saturating_add(self.unknown)
    }
}

#[derive(Debug, Clone)]
pub struct Row {
    pub peer: IpAddr,
    pub path: Path,
    /// The last windows, the oldest first.
    pub points: VecDeque<Point>,
    pub latest: Option<Box<Results>>,
    /// Counts of all windows.
    pub counts: Counts,
    /// With `--hops`.
    pub hops: Option<Box<HopHistory>>,
}

impl Row {
    pub fn new(peer: IpAddr, path: Path) -> Self {
        Self {
            peer,
            path,
            points: VecDeque::new(),
            latest: None,
            counts: Counts::default(),
            hops: None,
        }
    }

    pub fn key(&self) -> Key {
        (self.peer, self.path)
    }

    /// Adds a window; one that is there already is left out.
    pub fn add(&mut self, window: Results) {
        if self.last_end().is_some_and(|end| window.end <= end) {
            return;
        }
        self.counts += Part::from(&window).counts;
        if self.points.len() >= MAX_POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            start: window.start,
            end: window.end,
            resolved: window.received.saturating_add(window.lost),
            lost: Losses {
                forward: window.lost_forward,
                backward: window.lost_backward,
                unknown: window.lost_unknown,
            },
            rtt: window.rtt_ns,
        });
        self.latest = Some(Box::new(window));
    }

    pub fn last_end(&self) -> Option<Utc> {
        self.points.back().map(|point| point.end)
    }

    pub fn name(&self) -> Option<&str> {
        self.latest.as_ref()?.peer_name.as_deref()
    }

    /// Round trips of the last window.
    pub fn rtt(&self) -> Option<Quantiles> {
        self.points.back()?.rtt
    }

    /// The 99th percentile of the delay variation in the last window (RFC 5481, section 4.2).
    pub fn jitter_ns(&self) -> Option<i64> {
        Some(self.latest.as_ref()?.pdv_ns?.p99)
    }

    /// Probes of the last minute that are answered or lost, and those that are lost. The last window counts whole.
    pub fn losses(&self) -> (u64, Losses) {
        let Some(end) = self.last_end() else {
            return Default::default();
        };
        let since = end.unix_ns.saturating_sub(LOSS_NS);
        let recent = self.points.iter().rev().enumerate();
        let recent = recent.take_while(|(place, point)| *place == 0 || point.start.unix_ns >= since);
        recent.fold(Default::default(), |(resolved, lost), (_, point)| {
            let sum = Losses {
                forward: lost.forward.saturating_add(point.lost.forward),
                backward: lost.backward.saturating_add(point.lost.backward),
                unknown: lost.unknown.saturating_add(point.lost.unknown),
            };
            (u64::saturating_add(resolved, point.resolved), sum)
        })
    }

    /// `newest`: the end of the last window of any row.
    pub fn state(&self, is_down: bool, newest: Option<Utc>) -> State {
        if is_down {
            return State::Down;
        }
        let (Some(last), Some(newest)) = (self.points.back(), newest) else {
            return State::New;
        };
        let length_ns = last.end.unix_ns.saturating_sub(last.start.unix_ns);
        let silent_ns = newest.unix_ns.saturating_sub(last.end.unix_ns);
        match last.lost.total() {
            _ if silent_ns > length_ns.saturating_mul(STALE_WINDOWS) => State::Stale,
            lost if lost > 0 && lost == last.resolved => State::Lost,
            _ if self.losses().1.total() > 0 => State::Loss,
            _ => State::Up,
        }
    }
}
