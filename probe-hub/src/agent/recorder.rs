//! Takes the events of the measuring loop: windows are put together by interval, single probes picked, silences noticed.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use probe_core::agent::event::Event;
use probe_core::observation::Reply;
use probe_core::session::Outcome;
use probe_core::stats::report::{Path, Report};
use probe_host::wall::WallOffset;
use tokio::sync::oneshot;

use crate::agent::probes::{LostProbe, Picked, Picker};
use crate::agent::silence::{Change, Watch};
use crate::message::event::{Session, Silence, What};
use crate::name::PortName;

/// Peers without a probe for so many intervals are forgotten.
const MAX_IDLE_INTERVALS: u64 = 16;

/// What the loop hands to the thread.
#[derive(Debug)]
pub enum Item {
    Interval(Box<Interval>),
    Event(What),
    Finish {
        timeout: Duration,
        done: oneshot::Sender<()>,
    },
}

/// The windows of all peers that ended at one time.
#[derive(Debug, Default)]
pub struct Interval {
    /// Monotonic, as `end_ns`.
    pub start_ns: u64,
    pub end_ns: u64,
    pub windows: Vec<Measured>,
}

#[derive(Debug)]
pub struct Measured {
    pub report: Report,
    /// Of a peer that was assigned.
    pub port: Option<PortName>,
    pub probes: Picked,
}

#[derive(Debug)]
pub struct Recorder {
    report_ns: u64,
    /// Of the last interval.
    window_end_ns: u64,
    watch: Watch,
    pickers: HashMap<(IpAddr, Path), Probed>,
    /// By their end.
    intervals: BTreeMap<u64, Interval>,
}

#[derive(Debug)]
struct Probed {
    picker: Picker,
    /// When the last probe was sent.
    last_ns: u64,
}

impl Recorder {
    pub fn new(report_ns: u64, now_ns: u64) -> Self {
        Self {
            report_ns,
            window_end_ns: now_ns,
            watch: Watch::default(),
            pickers: HashMap::new(),
            intervals: BTreeMap::new(),
        }
    }

    pub fn set_peers(&mut self, peers: impl IntoIterator<Item = (IpAddr, PortName)>) {
        self.watch.set_peers(peers);
    }

    pub fn peers(&self) -> u32 {
        self.watch.len() as u32
    }

    pub fn answering(&self) -> u32 {
        self.watch.answering() as u32
    }

    pub fn note(&mut self, event: &Event, session: impl FnOnce(IpAddr) -> Option<Session>) -> Option<Item> {
        match event {
            Event::Sample {
                peer,
                path,
                seq,
                sent_ns,
                reply,
                outcome,
            } => {
                let change = match (reply, sent_ns) {
                    (Some(reply), _) => self.answered(*path, reply, *outcome),
                    (None, Some(sent_ns)) if *outcome == Outcome::Lost => self.lost(*peer, *path, *seq, *sent_ns),
                    _ => None,
                };
                what(change?, *peer, session).map(Item::Event)
            }
            Event::Window(report) => {
                self.window(report);
                None
            }
            _ => None,
        }
    }

    fn answered(&mut self, path: Path, reply: &Reply, outcome: Outcome) -> Option<Change> {
        if outcome == Outcome::Ok {
            self.picker(reply.peer, path, reply.sent_mono_ns).answered(reply);
        }
        match path {
            Path::Unicast => self.watch.answered(reply),
            Path::Group => None,
        }
    }

    fn lost(&mut self, peer: IpAddr, path: Path, seq: u32, sent_ns: u64) -> Option<Change> {
        self.picker(peer, path, sent_ns).lost(LostProbe { seq, sent_ns });
        match path {
            Path::Unicast => self.watch.lost(peer, sent_ns),
            Path::Group => None,
        }
    }

    fn picker(&mut self, peer: IpAddr, path: Path, sent_ns: u64) -> &mut Picker {
        let probed = self.pickers.entry((peer, path)).or_insert_with(|| Probed {
            picker: Picker::new(self.report_ns, self.window_end_ns),
            last_ns: sent_ns,
        });
        probed.last_ns = probed.last_ns.max(sent_ns);
        &mut probed.picker
    }

    fn window(&mut self, report: &Report) {
        let &Report {
            peer,
            path,
            start_ns,
            end_ns,
            ..
        } = report;
        let probed = self.pickers.get_mut(&(peer, path));
        let probes = probed
            .map(|probed| probed.picker.take(start_ns, end_ns))
            .unwrap_or_default();
        let interval = self.intervals.entry(end_ns).or_insert_with(|| Interval {
            start_ns,
            end_ns,
            windows: Vec::new(),
        });
        interval.start_ns = interval.start_ns.min(start_ns);
        interval.windows.push(Measured {
            report: report.clone(),
            port: self.watch.port(peer).cloned(),
            probes,
        });
    }

    /// Whether there is an interval of which no more windows come.
    pub fn is_due(&self, held_ns: Option<u64>) -> bool {
        let first_ns = self.intervals.first_key_value().map(|(end_ns, _)| *end_ns);
        first_ns.is_some_and(|first_ns| held_ns.is_none_or(|held_ns| first_ns < held_ns))
    }

    /// Those intervals, in their order.
    pub fn flush(&mut self, held_ns: Option<u64>) -> impl Iterator<Item = Interval> + use<> {
        let later = held_ns.map_or_else(BTreeMap::new, |held_ns| self.intervals.split_off(&held_ns));
        let complete = std::mem::replace(&mut self.intervals, later);
        if let Some(end_ns) = complete.keys().last() {
            self.window_end_ns = *end_ns;
            let oldest_ns = end_ns.saturating_sub(MAX_IDLE_INTERVALS.saturating_mul(self.report_ns));
            self.pickers.retain(|_, probed| probed.last_ns >= oldest_ns);
        }
        complete.into_values()
    }
}

/// The event of a change. None without a session: such a peer is not probed.
fn what(change: Change, address: IpAddr, session: impl FnOnce(IpAddr) -> Option<Session>) -> Option<What> {
    Some(match change {
        Change::Answering { port, silent_ns } => What::Answering {
            peer: port,
            address,
            silent_ns,
        },
        Change::Silent {
            port,
            since_ns,
            lost,
            replies,
        } => What::Silent(Silence {
            peer: port,
            address,
            since_ns: WallOffset::now().wall_ns(since_ns),
            lost,
            session: session(address)?,
            replies,
        }),
    })
}
