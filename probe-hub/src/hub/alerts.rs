//! Alerts: each is raised once and resolved once. Without I/O; `now_ns` is UTC.
//!
//! A pair is silent when its agent says so ([`Alerts::silent`]), and loses when its windows do ([`loss`]). While a whole host is
//! down, one alert stands for all pairs to it.

mod alert;
pub mod loss;
pub mod share;

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::hub::alerts::alert::Key;
use crate::hub::alerts::loss::{LossWatch, Lossy};
use crate::hub::alerts::share::Shares;
use crate::hub::problems::{Problem, ProblemKind};
use crate::message::event::Direction;
use crate::message::heartbeat;
use crate::name::{HostName, PortName};

pub use alert::{Alert, Change, End, Kind, Subject};

/// A host is down when no heartbeat has come for this time.
pub const DOWN_NS: u64 = 3 * heartbeat::INTERVAL_NS;
/// A silent pair whose peer could not be asked, or has just started, is shown after this time, or when the peer lives.
pub const HOLD_NS: u64 = DOWN_NS + heartbeat::INTERVAL_NS;
/// Alerts that are shown at once.
pub const MAX_SHOWN: usize = 1000;
/// Of those, the ones that one host has caused: what it says must not hide what others say.
const MAX_OF_HOST: usize = 200;
/// After [`MAX_OF_HOST`] alerts by one host, or about it, one more is raised in this time. Others wait.
const RAISE_INTERVAL_NS: u64 = 6_000_000_000;
/// Alerts that are kept at once. Further ones are dropped.
const MAX_KEPT: usize = 20_000;
/// Of those, the ones by one host, or about it.
const MAX_KEPT_OF_HOST: usize = 2000;
/// Resolved ones that are remembered.
const MAX_RESOLVED: usize = 1000;

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLife {
    /// Since the last heartbeat of any of its ports, or since this hub listens.
    pub silent_ns: u64,
}

/// What a pair's alert needs to know of the fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairLife {
    /// Both ports are in the fleet.
    pub is_present: bool,
    /// There are windows of it.
    pub is_measured: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    alert: Alert,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not shown before this time, except that the peer is known to live: by a heartbeat after `or_beat_ns`.
    Held {
        until_ns: u64,
        or_beat_ns: Option<u64>,
    },
    Shown,
    /// The alert about its host stands for it.
    Folded,
    /// More than [`MAX_SHOWN`] are there, or more than [`MAX_OF_HOST`], or its host has had its share.
    Beyond,
}

/// A pair of ports that is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    pub from: PortName,
    pub to: PortName,
    /// Transmit time of the first lost probe.
    pub since_ns: u64,
    /// `None` if the peer did not answer.
    pub direction: Option<Direction>,
    /// The peer's process has begun or ended meanwhile, or does not yet know that it is probed.
    pub has_restarted: bool,
}

#[derive(Debug)]
pub struct Alerts {
    entries: BTreeMap<Key, Entry>,
    /// The number of entries by host.
    kept_of: HashMap<HostName, usize>,
    /// How many alerts each host may still raise.
    shares: Shares,
    shown: usize,
    resolved: VecDeque<Alert>,
    changes: Vec<Change>,
    dropped: u64,
    pub losses: LossWatch,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            kept_of: HashMap::new(),
            shares: Shares::new(MAX_OF_HOST as u64, RAISE_INTERVAL_NS),
            shown: 0,
            resolved: VecDeque::new(),
            changes: Vec::new(),
            dropped: 0,
            losses: LossWatch::default(),
        }
    }
}

impl Alerts {
    pub fn new(losses: LossWatch) -> Self {
        Self {
            losses,
            ..Self::default()
        }
    }

    /// What is raised now, by kind.
    pub fn raised(&self) -> impl Iterator<Item = &Alert> {
        self.in_stage(Stage::Shown)
    }

    /// The number of alerts that are raised, but not shown.
    pub fn more(&self) -> usize {
        self.in_stage(Stage::Beyond).count()
    }

    /// Alerts for which there was no room since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The last ones that were resolved, the newest first.
    pub fn resolved(&self) -> impl Iterator<Item = &Alert> {
        self.resolved.iter().rev()
    }

    /// What was raised and resolved since the last call.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// All silent pairs, also those that are not shown.
    pub fn silent_pairs(&self) -> impl Iterator<Item = (&PortName, &PortName)> {
        self.entries.keys().filter_map(|key| match key {
            (Kind::Silent, Subject::Pair { from, to }) => Some((from, to)),
            _ => None,
        })
    }

    /// A pair has become silent.
    pub fn silent(&mut self, silent: Silent, now_ns: u64) {
        let Silent { from, to, .. } = silent;
        let direction = silent.direction.unwrap_or(Direction::Unknown);
        let why = match direction {
            Direction::Forward => "probes do not reach it",
            Direction::Backward => "its replies do not come back",
            Direction::Unknown => "it could not be asked where they are lost",
        };
        let text = format!("{to} does not answer {from}: {why}");
        let until_ns = now_ns.saturating_add(HOLD_NS);
        let stage = match (silent.has_restarted, silent.direction) {
            (true, _) => Stage::Held {
                until_ns,
                or_beat_ns: None,
            },
            (false, None) => Stage::Held {
                until_ns,
                or_beat_ns: Some(now_ns),
            },
            (false, Some(_)) => Stage::Shown,
        };
        let pair = Subject::Pair { from, to };
        self.end(&(Kind::Loss, pair.clone()), End::Folded, now_ns);
        let mut alert = Alert::new(Kind::Silent, pair, text, silent.since_ns);
        alert.direction = Some(direction);
        self.enter(alert, stage, now_ns);
    }

    /// A pair was not silent at `time_ns`, by the clock of its agent.
    pub fn answering(&mut self, from: PortName, to: PortName, time_ns: u64, now_ns: u64) {
        let key = (Kind::Silent, Subject::Pair { from, to });
        let is_news = self
            .entries
            .get(&key)
            .is_some_and(|entry| entry.alert.since_ns < time_ns);
        if is_news {
            self.end(&key, End::Recovered, now_ns);
        }
    }

    /// The windows of a pair lose more than the limit, or lose less again.
    pub fn loss(&mut self, from: PortName, to: PortName, lossy: Option<Lossy>, now_ns: u64) {
        let pair = Subject::Pair { from, to };
        let is_silent = self.entries.contains_key(&(Kind::Silent, pair.clone()));
        match lossy {
            Some(lossy) if !is_silent => {
                let percent = 100.0 * lossy.lost as f64 / lossy.of as f64;
                let text = format!(
                    "{pair}: {} of {} probes were lost ({percent:.1} %)",
                    lossy.lost, lossy.of
                );
                let mut alert = Alert::new(Kind::Loss, pair, text, lossy.since_ns);
                alert.direction = Some(lossy.direction);
                self.enter(alert, Stage::Shown, now_ns);
            }
            Some(_) => {}
            None => self.end(&(Kind::Loss, pair), End::Recovered, now_ns),
        }
    }

    /// All problems of ports. If `are_complete`, those that are no longer among them are resolved.
    pub fn problems<'a>(
        &mut self,
        problems: impl Iterator<Item = (&'a PortName, ProblemKind, &'a Problem)>,
        are_complete: bool,
        now_ns: u64,
    ) {
        let alert = |(port, kind, problem): (&PortName, _, &Problem)| {
            let text = format!("{port}: {}", problem.text);
            Alert::new(
                Kind::Problem(kind),
                Subject::Port { port: port.clone() },
                text,
                problem.since_ns,
            )
        };
        let problems: BTreeMap<Key, Alert> = problems.map(alert).map(|alert| (alert.key(), alert)).collect();
        let solved = |key: &&Key| are_complete && matches!(key.0, Kind::Problem(_)) && !problems.contains_key(*key);
        let solved: Vec<_> = self.entries.keys().filter(solved).cloned().collect();
        for key in solved {
            self.end(&key, End::Recovered, now_ns);
        }
        for alert in problems.into_values() {
            self.enter(alert, Stage::Shown, now_ns);
        }
    }

    /// Updates what depends on time. `hosts` are those in the fleet; not to be called while this hub gets no heartbeats.
    pub fn tick(
        &mut self,
        hosts: &BTreeMap<HostName, HostLife>,
        pair: impl Fn(&PortName, &PortName) -> PairLife,
        now_ns: u64,
    ) {
        let is_down = |host: &HostName| hosts.get(host).is_some_and(|life| life.silent_ns > DOWN_NS);
        for (host, life) in hosts.iter().filter(|(host, _)| is_down(host)) {
            let text = format!("{host} sends no heartbeats");
            let subject = Subject::Host { host: host.clone() };
            let since_ns = now_ns.saturating_sub(life.silent_ns);
            self.enter(
                Alert::new(Kind::HostDown, subject, text, since_ns),
                Stage::Shown,
                now_ns,
            );
        }
        let mut folded: BTreeMap<HostName, usize> = BTreeMap::new();
        for key in self.entries.keys().cloned().collect::<Vec<_>>() {
            match &key {
                (Kind::HostDown, Subject::Host { host }) if !is_down(host) => {
                    let end = if hosts.contains_key(host) {
                        End::Recovered
                    } else {
                        End::Left
                    };
                    self.end(&key, end, now_ns);
                }
                (_, Subject::Pair { from, to }) => {
                    let life = pair(from, to);
                    if !life.is_present {
                        self.end(&key, End::Left, now_ns);
                    } else if !life.is_measured || is_down(&from.host) {
                        self.end(&key, End::NotMeasured, now_ns);
                    } else if is_down(&to.host) {
                        *folded.entry(to.host.clone()).or_default() += 1;
                        self.fold(&key, now_ns);
                    } else {
                        let beat_ns = hosts.get(&to.host).map(|life| now_ns.saturating_sub(life.silent_ns));
                        self.unfold(&key, beat_ns, now_ns);
                    }
                }
                _ => {}
            }
        }
        for (host, pairs) in folded {
            if let Some(entry) = self.entries.get_mut(&(Kind::HostDown, Subject::Host { host })) {
                entry.alert.pairs = pairs;
            }
        }
        self.show_more(now_ns);
        self.shares.trim(now_ns);
    }

    /// Takes over from the hub that raised `stored`. Afterwards [`Self::changes`] are the ones that it did not make.
    pub fn adopt(&mut self, stored: Vec<Alert>, now_ns: u64) {
        let mut fresh: BTreeMap<Key, Alert> = self.raised().map(|alert| (alert.key(), alert.clone())).collect();
        self.changes.clear();
        for alert in stored.into_iter().take(MAX_SHOWN) {
            let key = alert.key();
            fresh.remove(&key);
            let was_resolved = |own: &&Alert| own.key() == key && own.until_ns >= Some(alert.since_ns);
            let resolved = self.resolved().find(was_resolved).cloned();
            match (self.entries.get_mut(&key), resolved) {
                (Some(own), _) => {
                    (own.alert.id, own.alert.since_ns) = (alert.id, alert.since_ns);
                    let is_hidden = own.stage != Stage::Shown;
                    own.stage = Stage::Shown;
                    self.shown += usize::from(is_hidden);
                }
                (None, Some(own)) => {
                    let (until_ns, end) = (own.until_ns.or(Some(now_ns)), own.end);
                    self.changes.push(Change::Resolved(Alert { until_ns, end, ..alert }));
                }
                (None, None) => {
                    let stage = Stage::Shown;
                    *self.kept_of.entry(key.1.host().clone()).or_default() += 1;
                    self.entries.insert(key, Entry { alert, stage });
                    self.shown += 1;
                }
            }
        }
        self.changes.extend(fresh.into_values().map(Change::Raised));
    }

    fn in_stage(&self, stage: Stage) -> impl Iterator<Item = &Alert> {
        let entries = self.entries.values().filter(move |entry| entry.stage == stage);
        entries.map(|entry| &entry.alert)
    }

    /// Enters an alert, unless it is there: then a hidden one may be shown.
    fn enter(&mut self, alert: Alert, stage: Stage, now_ns: u64) {
        let key = alert.key();
        let host = key.1.host();
        let kept_of_host = self.kept_of.get(host).copied().unwrap_or_default();
        // There are no more of these than hosts, and what hosts say must not hide them.
        let is_about_host = matches!(key.1, Subject::Host { .. });
        let is_full = !is_about_host && (self.entries.len() >= MAX_KEPT || kept_of_host >= MAX_KEPT_OF_HOST);
        match self.entries.entry(key.clone()) {
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                if matches!(alert.kind, Kind::Problem(_)) {
                    entry.alert.text = alert.text;
                    return;
                }
                if !matches!(entry.stage, Stage::Held { .. }) {
                    return;
                }
                (entry.alert.direction, entry.alert.text) = (alert.direction, alert.text);
            }
            Slot::Vacant(_) if is_full => {
                self.dropped += 1;
                return;
            }
            Slot::Vacant(slot) => {
                // Until it is shown.
                let stage = if stage == Stage::Shown { Stage::Beyond } else { stage };
                slot.insert(Entry { alert, stage });
                *self.kept_of.entry(host.clone()).or_default() += 1;
            }
        }
        if stage == Stage::Shown {
            self.show(&key, now_ns);
        }
    }

    fn show(&mut self, key: &Key, now_ns: u64) {
        let is_folded = match &key.1 {
            Subject::Pair { to, .. } => {
                let host = Subject::Host { host: to.host.clone() };
                self.entries.contains_key(&(Kind::HostDown, host))
            }
            _ => false,
        };
        let is_full = self.shown >= MAX_SHOWN || !self.has_room(&key.1, self.shown_of(key.1.host()), now_ns);
        let Some(entry) = self.entries.get_mut(key) else { return };
        if is_folded {
            entry.stage = Stage::Folded;
        } else if is_full {
            entry.stage = Stage::Beyond;
        } else {
            entry.stage = Stage::Shown;
            self.shown += 1;
            self.shares.take(key.1.host(), now_ns);
            self.changes.push(Change::Raised(entry.alert.clone()));
        }
    }

    /// Whether one more alert about `subject` may be shown, if `shown_of_host` of its host are. Alerts about the host itself always
    /// may: what a host reports must not hide that it is down.
    fn has_room(&self, subject: &Subject, shown_of_host: usize, now_ns: u64) -> bool {
        let is_about_host = matches!(subject, Subject::Host { .. });
        is_about_host || (shown_of_host < MAX_OF_HOST && self.shares.is_left(subject.host(), now_ns))
    }

    fn shown_of(&self, host: &HostName) -> usize {
        self.raised().filter(|alert| alert.subject.host() == host).count()
    }

    fn show_more(&mut self, now_ns: u64) {
        let mut shown: BTreeMap<&HostName, usize> = BTreeMap::new();
        for alert in self.raised() {
            *shown.entry(alert.subject.host()).or_default() += 1;
        }
        let room = MAX_SHOWN.saturating_sub(self.shown);
        let mut next = Vec::new();
        // A peer that comes and goes uses up the share of those that probe it: what has lasted for longest must go first.
        let mut waiting: Vec<&Alert> = self.in_stage(Stage::Beyond).collect();
        waiting.sort_by_key(|alert| (!matches!(alert.subject, Subject::Host { .. }), alert.since_ns));
        for alert in waiting {
            let of_host = shown.entry(alert.subject.host()).or_default();
            if next.len() < room && self.has_room(&alert.subject, *of_host, now_ns) {
                *of_host += 1;
                next.push(alert.key());
            }
        }
        for key in next {
            self.show(&key, now_ns);
        }
    }

    fn fold(&mut self, key: &Key, now_ns: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let stage = std::mem::replace(&mut entry.stage, Stage::Folded);
        if stage == Stage::Shown {
            let alert = entry.alert.clone().ended(End::Folded, now_ns);
            self.shown -= 1;
            self.changes.push(Change::Resolved(alert));
        }
    }

    /// The host of the pair's peer is not down, and has sent its last heartbeat at `beat_ns`.
    fn unfold(&mut self, key: &Key, beat_ns: Option<u64>, now_ns: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match entry.stage {
            // Its agent may tell that it answers again.
            Stage::Folded => {
                entry.stage = Stage::Held {
                    until_ns: now_ns.saturating_add(HOLD_NS),
                    or_beat_ns: None,
                };
            }
            Stage::Held { until_ns, or_beat_ns } => {
                let lives = or_beat_ns.is_some_and(|since_ns| beat_ns > Some(since_ns));
                if lives || now_ns >= until_ns {
                    self.show(key, now_ns);
                }
            }
            Stage::Shown | Stage::Beyond => {}
        }
    }

    fn end(&mut self, key: &Key, end: End, now_ns: u64) {
        let Some(entry) = self.entries.remove(key) else { return };
        let host = key.1.host();
        match self.kept_of.get_mut(host) {
            Some(number) if *number > 1 => *number -= 1,
            _ => drop(self.kept_of.remove(host)),
        }
        if entry.stage != Stage::Shown {
            return;
        }
        let alert = entry.alert.ended(end, now_ns);
        self.shown -= 1;
        if self.resolved.len() >= MAX_RESOLVED {
            self.resolved.pop_front();
        }
        self.resolved.push_back(alert.clone());
        self.changes.push(Change::Resolved(alert));
    }
}

#[cfg(test)]
mod tests;
