//! The hops of the probes to one peer on one path.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::hops::asking::Asking;
use crate::hops::cause::{Seen, cause};
use crate::hops::event::{Cause, Excess, Half, HopEvent, HopSample, Outlier};
use crate::hops::loss::{self, Knowledge};
use crate::hops::ordinary::Ordinary;
use crate::hops::split::{Split, Trip};
use crate::hops::stamp::{Hook, Part, Segment};
use crate::hops::stamps::Stamps;
use crate::hops::table::{ProbeKey, Table};
use crate::hops::traversal::{Expected, Roles, Traversals};
use crate::hops::window::{Durations, Subject, Window};
use crate::session::Outcome;
use crate::stats::report::{OneWayClock, Path, Report};

/// Windows that wait for their report. More can only be left over.
const MAX_WINDOWS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopsConfig {
    /// Whether each probe becomes a [`HopEvent::Probe`].
    pub samples: bool,
    /// Whether each part of a window has its durations in buckets.
    pub delays: bool,
    /// Round trips (T4 − T1) above which a probe is an outlier; `None`: four times the 99th percentile of the last windows.
    pub outlier_ns: Option<u64>,
    /// As [`ProbeConfig::timeout_ns`](crate::agent::config::ProbeConfig::timeout_ns).
    pub timeout_ns: u64,
}

/// The devices of one host.
#[derive(Debug, Clone)]
pub(super) struct Devices {
    pub hooks: Arc<[Hook]>,
    pub roles: Roles,
}

impl Devices {
    pub fn new(hooks: &[Hook]) -> Self {
        Self {
            hooks: hooks.into(),
            roles: Roles::of(hooks),
        }
    }

    /// Whether each device still has its place.
    pub fn is_continued_by(&self, hooks: &[Hook]) -> bool {
        let is_same = |(before, after): (&Hook, &Hook)| before.device == after.device;
        self.hooks.len() <= hooks.len() && self.hooks.iter().zip(hooks).all(is_same)
    }
}

/// What all peers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub config: HopsConfig,
    pub devices: Devices,
    /// Stamps of this host's own probes.
    pub near: Table,
    pub events: VecDeque<HopEvent>,
}

impl Shared {
    /// Whether a device of this host that has no stamp of a probe did not see it.
    fn is_complete(&self, peer: IpAddr, probe: &Resolved, now_ns: u64) -> bool {
        self.near.complete_since(peer, now_ns) < probe.sent_ns
    }
}

/// The outcome of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolved {
    pub ssid: u16,
    pub window_ns: u64,
    /// T1, or when the kernel got it.
    pub sent_ns: u64,
    pub outcome: Outcome,
    /// Both hosts said that their clocks are synchronised, and the stamps do not refute it.
    pub is_synced: bool,
    /// With a reply in time.
    pub trip: Option<Trip>,
}

/// Stamps of the reflector for one probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct FarStamps {
    pub stamps: Stamps,
    /// A device that has no stamp did not see it.
    pub is_complete: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    address: IpAddr,
    path: Path,
    pub asking: Asking,
    /// It waits in the queue of those that are asked.
    pub is_queued: bool,
    ssid: u16,
    /// Probes with an outcome that are not settled, by sequence number.
    resolved: HashMap<u32, Resolved>,
    windows: VecDeque<Window>,
    spare: Option<Box<Durations>>,
    far: Devices,
    expected_own: Expected,
    expected_far: Expected,
    ordinary: Ordinary,
    /// What backs the one-way delays of the last window.
    clock: Option<OneWayClock>,
    /// The last outcome or window.
    pub used_ns: u64,
}

impl Peer {
    pub fn new(address: IpAddr, path: Path, config: &HopsConfig) -> Self {
        Self {
            address,
            path,
            asking: Asking::new(config.timeout_ns),
            is_queued: false,
            ssid: 0,
            resolved: HashMap::new(),
            windows: VecDeque::new(),
            spare: None,
            far: Devices::new(&[]),
            expected_own: Expected::default(),
            expected_far: Expected::default(),
            ordinary: Ordinary::default(),
            clock: None,
            used_ns: 0,
        }
    }

    pub fn ssid(&self) -> u16 {
        self.ssid
    }

    /// Whether nothing of it is left.
    pub fn is_idle(&self) -> bool {
        self.windows.is_empty() && self.resolved.is_empty()
    }

    /// Whether no probe with an outcome waits for its far half.
    pub fn is_settled(&self) -> bool {
        self.resolved.is_empty()
    }

    /// This host's hooks are others.
    pub fn forget_own_hooks(&mut self) {
        self.expected_own = Expected::default();
    }

    /// A probe has its outcome.
    pub fn resolved(&mut self, seq: u32, probe: Resolved, shared: &mut Shared, now_ns: u64) {
        self.used_ns = now_ns;
        if self.ssid != probe.ssid {
            self.settle_all(shared, now_ns);
            self.ssid = probe.ssid;
        }
        let threshold_ns = self.threshold_ns(&shared.config);
        let is_outlier = |trip: &Trip| threshold_ns.is_some_and(|threshold_ns| trip.elapsed_ns() > threshold_ns);
        let is_urgent = probe.trip.as_ref().is_none_or(is_outlier);
        self.window(probe.window_ns).unsettled += 1;
        if let Some(trip) = &probe.trip {
            self.asking.note_round_trip(trip.elapsed_ns());
            if shared.is_complete(self.address, &probe, now_ns) {
                let own = shared.near.get(&self.key(seq, &probe));
                self.expected_own.note(Traversals::own(&own, shared.devices.roles));
            }
        }
        self.resolved.insert(seq, probe);
        if let Some(too_many) = self.asking.add(seq, is_urgent, now_ns) {
            self.settle(too_many, None, shared, now_ns);
        }
    }

    /// A probe that was lost has a reply after all.
    pub fn answered_late(&mut self, seq: u32) {
        if let Some(probe) = self.resolved.get_mut(&seq) {
            probe.outcome = Outcome::Late;
        }
    }

    /// The agent has handed out a window.
    pub fn close(&mut self, report: &Report, now_ns: u64) {
        self.used_ns = now_ns;
        self.clock = report.clock;
        self.window(report.start_ns).close(report);
    }

    fn window(&mut self, start_ns: u64) -> &mut Window {
        let place = match self.windows.binary_search_by_key(&start_ns, |window| window.start_ns) {
            Ok(place) => place,
            Err(place) => {
                let durations = self.spare.take().unwrap_or_default();
                self.windows.insert(place, Window::open(start_ns, durations));
                place
            }
        };
        &mut self.windows[place]
    }

    /// Whether a probe was sent less than `age_ns` ago.
    pub fn is_younger(&self, seq: u32, age_ns: u64, now_ns: u64) -> bool {
        let probe = self.resolved.get(&seq);
        probe.is_some_and(|probe| now_ns.saturating_sub(probe.sent_ns) < age_ns)
    }

    /// Which of its hooks see probes that are answered. Probes that were lost are settled by that.
    pub fn note_far(&mut self, seq: u32, far: &FarStamps) {
        let is_answered = self.resolved.get(&seq).is_some_and(|probe| probe.trip.is_some());
        if is_answered && far.is_complete {
            self.expected_far.note(Traversals::far(&far.stamps, self.far.roles));
        }
    }

    /// The devices of the peer's host, which an answer has.
    pub fn set_far_hooks(&mut self, hooks: &[Hook]) {
        if *self.far.hooks != *hooks {
            if !self.far.is_continued_by(hooks) {
                self.expected_far = Expected::default();
            }
            self.far = Devices::new(hooks);
        }
    }

    /// Gives up the probes whose time is over. Returns the nonce of the open question if its answer is overdue.
    pub fn expire(&mut self, shared: &mut Shared, now_ns: u64) -> Option<u64> {
        let overdue = self.asking.take_overdue(now_ns);
        let nonce = overdue.map(|(nonce, given_up)| {
            given_up
                .into_iter()
                .for_each(|seq| self.settle(seq, None, shared, now_ns));
            nonce
        });
        while let Some(seq) = self.asking.give_up(now_ns) {
            self.settle(seq, None, shared, now_ns);
        }
        nonce
    }

    pub fn settle_all(&mut self, shared: &mut Shared, now_ns: u64) {
        let mut left: Vec<u32> = self.resolved.keys().copied().collect();
        left.sort_unstable();
        left.into_iter().for_each(|seq| self.settle(seq, None, shared, now_ns));
    }

    /// Decides about a probe by what is known of it now.
    pub fn settle(&mut self, seq: u32, far: Option<FarStamps>, shared: &mut Shared, now_ns: u64) {
        let Some(probe) = self.resolved.remove(&seq) else {
            return;
        };
        let key = self.key(seq, &probe);
        let is_complete = shared.is_complete(self.address, &probe, now_ns);
        let own = shared.near.take(&key);
        let settled = Settled { seq, probe, own, far };
        let (split, lost_at) = match probe.trip {
            Some(trip) => (Some(self.answered(&settled, &trip, is_complete, shared)), None),
            None => (None, self.lost(&settled, is_complete, shared)),
        };
        let window = self.window(probe.window_ns);
        window.unsettled = window.unsettled.saturating_sub(1);
        if shared.config.samples {
            let sample = self.sample(&settled, split, lost_at, shared);
            shared.events.push_back(HopEvent::Probe(Box::new(sample)));
        }
    }

    fn answered(&mut self, settled: &Settled, trip: &Trip, is_complete: bool, shared: &mut Shared) -> Split {
        let own = Traversals::own(&whole(&settled.own), shared.devices.roles);
        let own = match is_complete {
            true => self.expected_own.note(own),
            false => self.expected_own.of(own),
        };
        let far = settled
            .far
            .map(|far| Traversals::far(&whole(&far.stamps), self.far.roles));
        let far = far.map(|far| self.expected_far.of(far));
        let split = trip.split(&own, far.as_ref());
        let threshold_ns = self.threshold_ns(&shared.config);
        let window = self.window(settled.probe.window_ns);
        window.answered(&split);
        if let Some(threshold_ns) = threshold_ns.filter(|&threshold_ns| split.elapsed_ns > threshold_ns)
            && window.has_room_for_outlier()
        {
            let outlier = self.outlier(settled, split, threshold_ns, [Some(own), far], is_complete);
            shared.events.push_back(HopEvent::Outlier(Box::new(outlier)));
        }
        split
    }

    fn outlier(
        &self,
        settled: &Settled,
        split: Split,
        threshold_ns: u64,
        traversals: [Option<Traversals>; 2],
        is_complete: bool,
    ) -> Outlier {
        // The clock of the last window: that of the probe's own window is not known yet.
        let clock = self.clock.filter(|clock| match clock {
            OneWayClock::Synced { .. } => settled.probe.is_synced,
            OneWayClock::SameClock | OneWayClock::Estimated { .. } => true,
        });
        let largest = self.ordinary.largest(&split, clock);
        let stamps = [Some(settled.own), settled.far.map(|far| far.stamps)];
        let [own, far] = [0, 1].map(|host| {
            let (stamps, traversals) = (stamps[host]?, traversals[host]?);
            Some(Seen { stamps, traversals })
        });
        Outlier {
            peer: self.address,
            path: self.path,
            ssid: settled.probe.ssid,
            seq: settled.seq,
            sent_ns: settled.probe.sent_ns,
            threshold_ns,
            split,
            largest,
            cause: largest.and_then(|largest| known_cause(largest, settled, [own, far], is_complete)),
        }
    }

    fn lost(&mut self, settled: &Settled, is_complete: bool, shared: &Shared) -> Option<Part> {
        let window_ns = settled.probe.window_ns;
        if settled.probe.outcome == Outcome::Late {
            self.window(window_ns).answered_late();
            return None;
        }
        let own = Knowledge {
            traversals: self
                .expected_own
                .of(Traversals::own(&settled.own, shared.devices.roles)),
            is_complete: is_complete && !settled.own.is_cut(),
        };
        let far = settled.far.map(|far| Knowledge {
            traversals: self.expected_far.of(Traversals::far(&far.stamps, self.far.roles)),
            is_complete: far.is_complete && !far.stamps.is_cut(),
        });
        let lost_at = loss::place(&own, far.as_ref());
        self.window(window_ns).lost(lost_at);
        lost_at
    }

    fn sample(&self, settled: &Settled, split: Option<Split>, lost_at: Option<Part>, shared: &Shared) -> HopSample {
        let Settled { seq, probe, own, far } = settled;
        HopSample {
            peer: self.address,
            path: self.path,
            ssid: probe.ssid,
            seq: *seq,
            sent_ns: probe.sent_ns,
            outcome: probe.outcome,
            own: half(&shared.devices, own),
            far: far.map(|far| half(&self.far, &far.stamps)),
            split,
            lost_at,
        }
    }

    /// Hands out the windows that are ready, in their order.
    pub fn hand_out(&mut self, shared: &mut Shared) {
        while self.windows.front().is_some_and(Window::is_ready) || self.windows.len() > MAX_WINDOWS {
            let Some(window) = self.windows.pop_front() else { return };
            let subject = Subject {
                peer: self.address,
                path: self.path,
                own_hooks: shared.devices.hooks.clone(),
                far_hooks: self.far.hooks.clone(),
                threshold_ns: self.threshold_ns(&shared.config),
                delays: shared.config.delays,
            };
            if let Some((window, quantiles, mut durations)) = window.hand_out(&subject) {
                if let Some(quantiles) = quantiles {
                    self.ordinary.note(quantiles);
                    self.expected_own.roll();
                    self.expected_far.roll();
                }
                durations.clear();
                self.spare = Some(durations);
                shared.events.push_back(HopEvent::Window(Box::new(window)));
            }
        }
    }

    fn key(&self, seq: u32, probe: &Resolved) -> ProbeKey {
        ProbeKey {
            peer: self.address,
            ssid: probe.ssid,
            seq,
        }
    }

    fn threshold_ns(&self, config: &HopsConfig) -> Option<u64> {
        config.outlier_ns.or(self.ordinary.threshold_ns())
    }
}

/// A probe and all that is known of it.
#[derive(Debug, Clone, Copy)]
struct Settled {
    seq: u32,
    probe: Resolved,
    own: Stamps,
    far: Option<FarStamps>,
}

/// Why `largest` took long; `None` if it may have been an upcall that was lost. `is_complete`: no stamp or upcall of this host
/// was lost.
fn known_cause(largest: Excess, settled: &Settled, [own, far]: [Option<Seen>; 2], is_complete: bool) -> Option<Cause> {
    let is_complete = match largest.part.segment {
        Segment::OwnSwitch => is_complete,
        Segment::FarSwitch => settled.far.is_some_and(|far| far.is_complete),
        _ => true,
    };
    let cause = cause(largest, own.as_ref(), far.as_ref());
    Some(cause).filter(|cause| is_complete || !matches!(cause, Cause::Queue | Cause::FarSwitch))
}

/// None of them if some are missing, because a segment would end at the wrong device.
fn whole(stamps: &Stamps) -> Stamps {
    if stamps.is_cut() { Stamps::default() } else { *stamps }
}

fn half(devices: &Devices, stamps: &Stamps) -> Half {
    let mut marks: Vec<_> = stamps.marks().collect();
    marks.sort_by_key(|mark| (mark.direction, mark.at_ns));
    Half {
        hooks: devices.hooks.clone(),
        marks,
    }
}
