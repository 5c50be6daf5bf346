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

/// Peers without a probe for this many intervals are forgotten.
const MAX_IDLE_INTERVALS: u64 = 16;

/// A message of the loop to the thread.
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
                ..
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
            Path::Group | Path::Cold => None,
        }
    }

    fn lost(&mut self, peer: IpAddr, path: Path, seq: u32, sent_ns: u64) -> Option<Change> {
        self.picker(peer, path, sent_ns).lost(LostProbe { seq, sent_ns });
        match path {
            Path::Unicast => self.watch.lost(peer, sent_ns),
            Path::Group | Path::Cold => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_data::{reply, report};

    const REPORT_NS: u64 = 100;

    fn window(peer: &str, start_ns: u64) -> Event {
        Event::Window(Box::new(Report {
            peer: peer.parse().unwrap(),
            start_ns,
            end_ns: start_ns + REPORT_NS,
            ..report(&[1])
        }))
    }

    fn sample(path: Path, outcome: Outcome, sent_ns: u64, rtt_ns: u64) -> Event {
        let reply = reply(sent_ns, rtt_ns);
        let has_reply = matches!(outcome, Outcome::Ok | Outcome::Late | Outcome::Duplicate);
        Event::Sample {
            peer: reply.peer,
            path,
            ssid: reply.ssid,
            seq: reply.seq,
            window_ns: None,
            sent_ns: (!has_reply).then_some(sent_ns),
            reply: has_reply.then_some(reply),
            estimated_ns: None,
            outcome,
        }
    }

    #[test]
    fn windows_of_one_interval_are_handed_over_together_when_no_more_come() {
        let mut recorder = Recorder::new(REPORT_NS, 0);
        recorder.set_peers([("10.0.0.2".parse().unwrap(), "h2/p".parse().unwrap())]);
        let mut note = |event: &Event| assert!(recorder.note(event, |_| None).is_none());
        note(&sample(Path::Unicast, Outcome::Ok, 20, 7));
        note(&sample(Path::Unicast, Outcome::Late, 30, 900));
        note(&sample(Path::Unicast, Outcome::Lost, 40, 0));
        note(&sample(Path::Group, Outcome::Lost, 50, 0));
        note(&window("10.0.0.3", 100));
        note(&window("10.0.0.2", 0));
        note(&window("10.0.0.3", 0));
        assert!(!recorder.is_due(Some(100)) && recorder.flush(Some(100)).next().is_none());
        assert!(recorder.is_due(Some(200)) && recorder.is_due(None));
        let intervals: Vec<_> = recorder.flush(Some(200)).collect();
        let [interval] = &intervals[..] else {
            panic!("{intervals:?}");
        };
        assert_eq!((interval.start_ns, interval.end_ns), (0, 100));
        let [first, second] = &interval.windows[..] else {
            panic!("{interval:?}");
        };
        assert_eq!(first.port, Some("h2/p".parse().unwrap()));
        assert_eq!(
            first.probes.slowest.map(|reply| reply.sent_mono_ns),
            Some(20),
            "late ones are lost"
        );
        assert_eq!(first.probes.lost, [LostProbe { seq: 40, sent_ns: 40 }]);
        assert_eq!((&second.port, &second.probes), (&None, &Picked::default()));
        assert_eq!(
            recorder.flush(None).map(|interval| interval.end_ns).collect::<Vec<_>>(),
            [200]
        );
        assert!(!recorder.is_due(None));
    }

    #[test]
    fn probes_that_never_left_and_group_probes_make_no_peer_silent() {
        let mut recorder = Recorder::new(REPORT_NS, 0);
        recorder.set_peers([("10.0.0.2".parse().unwrap(), "h2/p".parse().unwrap())]);
        let session = |address: IpAddr| {
            Some(Session {
                source: address,
                destination: address,
                source_port: 1,
                destination_port: 2,
                ssid: 3,
            })
        };
        let failed = Outcome::Failed(probe_core::observation::SendFailure::NoAddress);
        for sent_ns in 1..9 {
            for event in [
                sample(Path::Unicast, failed, sent_ns, 0),
                sample(Path::Group, Outcome::Lost, sent_ns, 0),
            ] {
                assert!(recorder.note(&event, session).is_none());
            }
        }
        let mut lost = (10..).map(|sent_ns| sample(Path::Unicast, Outcome::Lost, sent_ns, 0));
        let said = lost
            .by_ref()
            .take(3)
            .map(|event| recorder.note(&event, session).is_some());
        assert_eq!(said.collect::<Vec<_>>(), [false, false, true]);
        assert_eq!((recorder.peers(), recorder.answering()), (1, 0));
    }

    #[test]
    fn peers_that_are_gone_are_forgotten() {
        let mut recorder = Recorder::new(REPORT_NS, 0);
        for number in 0..100 {
            let start_ns = number * REPORT_NS;
            let mut reply = reply(start_ns, 1);
            reply.peer = IpAddr::from([10, 0, 1, number as u8]);
            recorder.answered(Path::Unicast, &reply, Outcome::Ok);
            recorder.note(&window("10.0.0.2", start_ns), |_| None);
            assert_eq!(recorder.flush(None).count(), 1);
        }
        assert!(recorder.pickers.len() as u64 <= MAX_IDLE_INTERVALS + 2);
    }
}
