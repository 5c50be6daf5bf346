//! A fleet that does not exist.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use probe_core::stats::native::NativeHistogram;
use probe_hub::hub::alerts::{Alerts, Silent};
use probe_hub::hub::fleet::{Fleet, Now, PortId};
use probe_hub::hub::history::{History, Range, Timed};
use probe_hub::hub::matrix::{Cell, Matrix};
use probe_hub::message::event::Direction;
use probe_hub::message::heartbeat::Heartbeat;
use probe_hub::message::presence::Presence;
use probe_hub::message::windows::{Clock, Delay, Histogram, Probe, Window, WireCounts};
use probe_hub::name::PortName;
use probe_hub::subjects::{MINUTES, QUARTERS, WINDOWS};

use super::source::Source;

const S: u64 = 1_000_000_000;
const WINDOW_NS: u64 = 10 * S;
/// Hosts of a zone, and of a rack.
const ZONE: u32 = 250;
const RACK: u32 = 20;

#[derive(Default)]
struct State {
    fleet: Mutex<Fleet>,
    matrix: Mutex<Matrix>,
    alerts: Mutex<Alerts>,
}

#[derive(Clone, Default)]
pub struct MadeUp(Arc<State>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for MadeUp {
    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        lock(&self.0.fleet)
    }

    fn matrix(&self) -> MutexGuard<'_, Matrix> {
        lock(&self.0.matrix)
    }

    fn alerts(&self) -> MutexGuard<'_, Alerts> {
        lock(&self.0.alerts)
    }

    fn name(&self) -> &str {
        "made-up"
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn is_coordinator(&self) -> bool {
        true
    }

    fn coordinator(&self) -> Option<String> {
        Some(self.name().to_owned())
    }

    fn batches(&self) -> u64 {
        self.matrix().version()
    }

    fn refused(&self) -> Vec<(&'static str, u64)> {
        vec![("unknown_port", 2)]
    }

    async fn windows(&self, from: PortName, to: PortName, range: Range) -> Result<History> {
        Ok(past(&from, &to, range))
    }
}

impl MadeUp {
    /// Each of the hosts has probed all others.
    pub fn new(hosts: u32, now: Now) -> Self {
        let state = Self::default();
        *state.fleet() = fleet(hosts, now);
        for from in 0..hosts {
            measure(&mut state.matrix(), hosts, from, now.utc_ns);
        }
        state
    }
}

pub fn name(host: u32) -> PortName {
    format!("host-{:04}/eth0", host + 1).parse().expect("a name")
}

/// Hosts with one port each, in zones and racks.
fn fleet(hosts: u32, now: Now) -> Fleet {
    let mut fleet = Fleet::default();
    let prefix = "10.0.0.0/8".parse().expect("a prefix");
    let allowed = |_: &_| Some(vec![prefix]);
    for host in 0..hosts {
        let labels = [
            ("zone", format!("zone-{}", host / ZONE + 1)),
            ("rack", format!("rack-{:02}", host / RACK + 1)),
        ];
        let presence = Presence {
            port: name(host),
            boot: 1,
            version: "0.1.0".to_owned(),
            addresses: vec![Ipv4Addr::from(0x0a00_0001 + host).into()],
            udp_port: 862,
            interval_ns: S,
            max_peers: 1_000,
            labels: labels.map(|(name, label)| (name.to_owned(), label)).into(),
            clock: "0123456789abcdef".to_owned(),
            attach: "xdp-native".to_owned(),
            kernel: "6.12.0".to_owned(),
            ended: false,
        };
        let content = serde_json::to_vec(&presence).expect("JSON");
        fleet.offer(&name(host).tokens(), Some(&content), u64::from(host) + 1, now);
    }
    fleet.settle(&allowed, now);
    fleet
}

/// Heartbeats of all hosts but the last one.
pub fn beat(fleet: &mut Fleet, hosts: u32, now: Now) {
    for host in 0..hosts.saturating_sub(1) {
        let heartbeat = Heartbeat {
            boot: 1,
            sent_ns: now.utc_ns,
            generation: 0,
            peers: hosts - 1,
            up: hosts - 1,
            waiting: 0,
            dropped: 0,
        };
        fleet.hear(&name(host).tokens(), heartbeat, now);
    }
}

/// Pseudo-random numbers, the same for the same input.
fn noise(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Probes of ten seconds. Other racks and zones are farther, some hosts lose probes, and some replies are slow.
fn counts(from: u32, to: u32, end_ns: u64) -> (WireCounts, Option<(u64, u64)>) {
    let seed = noise(u64::from(from) << 32 | u64::from(to)).wrapping_add(end_ns / WINDOW_NS);
    let mut counts = WireCounts {
        sent: 10,
        ..WireCounts::default()
    };
    match (from % 97, to % 89) {
        (13, _) => counts.lost_forward = noise(seed) % 4,
        (_, 7) => counts.lost_backward = 1 + noise(seed) % 3,
        (_, 71) if from.is_multiple_of(5) => counts.lost_unknown = 2,
        (5, 3) => counts.lost_forward = 10,
        _ => {}
    }
    counts.received = counts.sent - counts.lost();
    let steps = |size: u32| u64::from((from / size).abs_diff(to / size));
    let p50_ns = 40_000 + 150_000 * steps(ZONE) + 4_000 * steps(RACK).min(12) + noise(seed) % 30_000;
    let slow = if noise(seed + 1).is_multiple_of(50) { 3 } else { 1 };
    let p99_ns = p50_ns + slow * (20_000 + noise(seed + 2) % 60_000);
    (counts, (counts.received > 0).then_some((p50_ns, p99_ns)))
}

/// The windows of a host that ended now.
pub fn measure(matrix: &mut Matrix, hosts: u32, from: u32, now_ns: u64) {
    let cell = |to| {
        let (counts, rtt_ns) = counts(from, to, now_ns);
        Cell::new(PortId(to), now_ns - WINDOW_NS, now_ns, &counts, rtt_ns)
    };
    let mut cells: Vec<Cell> = (0..hosts).filter(|to| *to != from).map(cell).collect();
    matrix.take(PortId(from), &mut cells);
}

/// Two pairs that do not answer.
pub fn alert(alerts: &mut Alerts, now_ns: u64) {
    for (from, to, direction) in [(3, 9, Direction::Forward), (11, 2, Direction::Backward)] {
        let silent = Silent {
            from: name(from),
            to: name(to),
            since_ns: now_ns - 40 * S,
            direction: Some(direction),
            has_restarted: false,
        };
        alerts.silent(silent, now_ns);
    }
}

/// The past of a pair: a window each ten seconds, a minute each minute, or a quarter each quarter of an hour.
fn past(from: &PortName, to: &PortName, range: Range) -> History {
    let number = |port: &PortName| {
        let digits = port.host.as_str().trim_start_matches("host-");
        digits.parse::<u32>().unwrap_or(1) - 1
    };
    let (from, to) = (number(from), number(to));
    let results = range.results();
    let step_ns = match results {
        WINDOWS => WINDOW_NS,
        MINUTES => 60 * S,
        QUARTERS => 900 * S,
        _ => unreachable!(),
    };
    let ends = (range.from_ns / step_ns + 1..=range.to_ns / step_ns).rev();
    let windows = ends.map(|end| window(from, to, end * step_ns, step_ns));
    History {
        results,
        windows: windows.take(range.limit).collect(),
        is_cut: false,
    }
}

fn window(from: u32, to: u32, end_ns: u64, length_ns: u64) -> Timed {
    let (counts, rtt_ns) = counts(from, to, end_ns);
    let delay = |p50: u64, p99: u64| {
        let [p50, p99] = [p50, p99].map(u64::cast_signed);
        Delay {
            min: p50 - p50 / 10,
            mean: p50,
            p50,
            p90: (p50 + p99) / 2,
            p99,
            p999: p99,
            max: p99 + p99 / 20,
            stddev: (p99 - p50) / 2,
            count: counts.received,
            histogram: None,
        }
    };
    let rtt = rtt_ns.map(|(p50_ns, p99_ns)| {
        let probe = |number: u64| (p50_ns + (p99_ns - p50_ns) * number / counts.received).cast_signed();
        let bins = (0..counts.received).map(|number| (probe(number), 1));
        let native = NativeHistogram::new(bins.clone().map(|(ns, _)| i128::from(ns)).sum(), bins);
        Delay {
            histogram: Some(Histogram::from(&native)),
            ..delay(p50_ns, p99_ns)
        }
    });
    let sent_ns = end_ns - S;
    let lost = (0..counts.lost()).map(|number| Probe {
        seq: number as u32,
        t1_ns: sent_ns - number * S,
        ..Probe::default()
    });
    let slowest = rtt_ns.map(|(_, p99_ns)| Probe {
        seq: 9,
        t1_ns: sent_ns + 123_456_789,
        t2_ns: sent_ns + 123_456_789 + p99_ns / 2,
        t3_ns: sent_ns + 123_460_101 + p99_ns / 2,
        t4_ns: sent_ns + 123_460_101 + p99_ns,
        rtt_ns: p99_ns,
    });
    let is_window = length_ns == WINDOW_NS;
    let window = Window {
        peer: name(to).to_string(),
        counts: Some(counts),
        rtt,
        forward: rtt_ns.map(|(p50, p99)| delay(p50 * 6 / 10, p99 * 6 / 10)),
        backward: rtt_ns.map(|(p50, p99)| delay(p50 * 4 / 10, p99 * 4 / 10)),
        clock: Clock::Synced.into(),
        clock_bound_ns: 40_000,
        probes: slowest.into_iter().chain(lost).filter(|_| is_window).collect(),
        ..Window::default()
    };
    Timed {
        start_ns: end_ns - length_ns,
        end_ns,
        window,
    }
}
