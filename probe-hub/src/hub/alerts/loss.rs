//! Which pairs lose more probes than the limit, by their newest windows.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::hub::fleet::PortId;
use crate::hub::matrix::{self, Cell, FORGET_NS};
use crate::message::event::Direction;

/// Windows that are added up.
const WINDOWS: usize = 3;
/// Pairs with losses that are followed at once. Losses of others do not count.
const MAX_TRACKS: usize = 200_000;

/// Limits above which losses raise an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossLimits {
    /// A share of the probes.
    pub loss: f64,
    /// Fewer losses do not count.
    pub losses: u64,
}

impl Default for LossLimits {
    fn default() -> Self {
        Self { loss: 0.02, losses: 10 }
    }
}

/// Losses above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lossy {
    pub direction: Direction,
    pub lost: u64,
    pub of: u64,
    /// Start of the first window with a loss.
    pub since_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Above(Lossy),
    Below,
    /// A window of a silent pair has replies and no loss.
    Answers {
        start_ns: u64,
    },
}

type Pair = (PortId, PortId);

#[derive(Debug, Default)]
pub struct LossWatch {
    limits: LossLimits,
    tracks: HashMap<Pair, Track>,
    /// Windows that start before do not count: a process of this port has begun or ended.
    restarts: HashMap<PortId, u64>,
    verdicts: BTreeMap<Pair, Verdict>,
}

/// A pair with losses, or a silent one.
#[derive(Debug, Default)]
struct Track {
    recent: VecDeque<Cell>,
    /// Windows that start before do not count.
    from_ns: u64,
    is_silent: bool,
    is_above: bool,
}

impl LossWatch {
    pub fn new(limits: LossLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Takes the newest window of a pair.
    pub fn take(&mut self, from: PortId, cell: &Cell) {
        let restarted_ns = |port| self.restarts.get(&port).copied().unwrap_or(0);
        let pair = (from, cell.to);
        if cell.start_ns() < restarted_ns(from).max(restarted_ns(cell.to)) {
            // Begin anew afterwards.
            if self.tracks.get(&pair).is_some_and(|track| !track.is_silent) {
                self.tracks.remove(&pair);
            }
            return;
        }
        let is_clean = cell.lost() == 0;
        if is_clean && !self.tracks.contains_key(&pair) {
            return;
        }
        if self.tracks.len() >= MAX_TRACKS && !self.tracks.contains_key(&pair) {
            return;
        }
        let track = self.tracks.entry(pair).or_default();
        if cell.start_ns() < track.from_ns {
            return;
        }
        if track.is_silent {
            if is_clean && cell.received > 0 {
                let start_ns = cell.start_ns();
                self.verdicts.insert(pair, Verdict::Answers { start_ns });
            }
            return;
        }
        if track.recent.len() == WINDOWS {
            track.recent.pop_front();
        }
        track.recent.push_back(*cell);
        let (lossy, share) = track.sum();
        let is_above = lossy.lost >= self.limits.losses && share > self.limits.loss;
        if is_above && !track.is_above {
            track.is_above = true;
            self.verdicts.insert(pair, Verdict::Above(lossy));
        } else if track.is_above && share <= self.limits.loss / 2.0 {
            track.is_above = false;
            self.verdicts.insert(pair, Verdict::Below);
        }
        if lossy.lost == 0 {
            self.tracks.remove(&pair);
        }
    }

    /// What has changed since the last call.
    pub fn verdicts(&mut self) -> BTreeMap<Pair, Verdict> {
        std::mem::take(&mut self.verdicts)
    }

    /// All silent pairs; those that are no longer among them start anew.
    pub fn set_silent(&mut self, silent: &HashSet<Pair>, now_ns: u64) {
        for (pair, track) in &mut self.tracks {
            if track.is_silent && !silent.contains(pair) {
                *track = Track {
                    from_ns: now_ns,
                    ..Track::default()
                };
            }
        }
        for &pair in silent {
            let track = self.tracks.entry(pair).or_default();
            if !track.is_silent {
                *track = Track {
                    is_silent: true,
                    ..Track::default()
                };
                self.verdicts.remove(&pair);
            }
        }
    }

    /// A process of this port has begun or ended: losses up to now do not count.
    pub fn restarted(&mut self, port: PortId, now_ns: u64) {
        self.restarts.insert(port, now_ns);
    }

    /// Forgets pairs that have had no window for long.
    pub fn forget(&mut self, now_ns: u64) {
        let is_old = |time_ns: u64| now_ns.saturating_sub(time_ns) > FORGET_NS;
        self.restarts.retain(|_, time_ns| !is_old(*time_ns));
        self.tracks.retain(|_, track| {
            let last_ns = track.recent.back().map_or(0, |cell| cell.end_ns);
            track.is_silent || !is_old(last_ns.max(track.from_ns))
        });
    }
}

impl Track {
    /// With the share of all probes of [`WINDOWS`] windows: those before the first loss were as long and had none.
    fn sum(&self) -> (Lossy, f64) {
        let add = |count: fn(&Cell) -> u32| self.recent.iter().map(|cell| u64::from(count(cell))).sum::<u64>();
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let by_direction = [
            add(|cell| cell.lost_forward),
            add(|cell| cell.lost_backward),
            add(|cell| cell.lost_unknown),
        ];
        let [forward, backward, unknown] = by_direction.map(small);
        let lost = by_direction.iter().sum();
        let of = lost + add(|cell| cell.received);
        let first = self.recent.iter().find(|cell| cell.lost() > 0);
        let lossy = Lossy {
            direction: matrix::direction(forward, backward, unknown).unwrap_or(Direction::Unknown),
            lost,
            of,
            since_ns: first.map_or(0, Cell::start_ns),
        };
        let all = of as f64 * WINDOWS as f64 / self.recent.len() as f64;
        (lossy, if of > 0 { lost as f64 / all } else { 0.0 })
    }
}

#[cfg(test)]
mod tests;
