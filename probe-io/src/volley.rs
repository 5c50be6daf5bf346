//! Volleys and trains: probes that kernel programs send, turn around and count.

mod device;
mod error;
mod launcher;
pub mod object;
mod samples;
mod setup;
mod shared;
mod start;
mod template;
mod transmitter;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use probe_common::volley::{Count, Epoch};
use probe_core::volley::{Losses, Plan, ReflectorCounter, Refused, Snapshot, Totals};
use probe_host::clock::monotonic_ns;
use probe_host::wall::WallOffset;

pub use crate::volley::device::capabilities;
pub use crate::volley::error::VolleyError;
use crate::volley::launcher::Launcher;
use crate::volley::samples::Samples;
pub use crate::volley::samples::VolleySample;
pub use crate::volley::setup::VolleyConfig;
use crate::volley::setup::{Links, Setup};
use crate::volley::shared::{Counted, Delay, Shared};

/// A run. When it is dropped, or when the process is killed, the kernel detaches the programs, and the balls land.
pub struct Volley {
    /// Dropped first, so that the thread ends before the programs are detached.
    launcher: Option<Launcher>,
    setup: Option<Setup>,
    links: Links,
    shared: Arc<Shared>,
    samples: Samples,
    plan: Plan,
    one_way: bool,
    epoch: Epoch,
    /// The reading of the clocks that `epoch` is made of.
    wall: WallOffset,
    /// The latest step of the wall clock away from `wall`.
    clock_step_ns: Option<i64>,
    /// Sequence number of the first probe.
    first: u64,
    sent_before: u64,
    deadline_ns: u64,
    reflector: ReflectorCounter,
}

/// Time between two readings of the counts while a run stops.
const LOOK: Duration = Duration::from_millis(1);
/// How long to wait for balls to land. They need a round trip.
const LANDING_NS: u64 = 50_000_000;

impl Volley {
    /// The plan in effect. If [`Volley::start`] has chosen another mode than the configured one, `reason` says why.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The number of probes that [`Volley::start`] has sent before the run, which does not count them.
    pub fn sent_before(&self) -> u64 {
        self.sent_before
    }

    /// Whether the duration has passed, or a failure has ended the run.
    pub fn is_over(&self) -> bool {
        monotonic_ns() >= self.deadline_ns || self.failure().is_some()
    }

    /// Why the run ended early, in one line.
    pub fn failure(&self) -> Option<String> {
        self.launcher.as_ref().and_then(Launcher::failure)
    }

    /// The counts and delays so far, read from shared memory without a system call, while each CPU goes on counting. Without
    /// one-way delays if the wall clock was stepped.
    pub fn snapshot(&mut self) -> Snapshot {
        let at_ns = monotonic_ns();
        let one_way = |delay| self.one_way.then(|| self.shared.histogram(delay));
        let (forward, backward) = (one_way(Delay::Forward), one_way(Delay::Backward));
        let residence = self.shared.histogram(Delay::Residence);
        let rtt = self.shared.histogram(Delay::Rtt);
        // After the replies, so that what they answer is certainly counted as sent.
        let counted = self.shared.counted();
        let snapshot = Snapshot {
            at_ns,
            totals: self.totals(&counted, rtt.count()),
            rtt,
            residence,
            forward,
            backward,
            clock_step_ns: None,
        };
        // After the delays, so that none of them is of a step that is not noticed yet.
        self.look_at_clocks();
        snapshot.without_stepped(self.clock_step_ns)
    }

    /// Slewing changes both clocks alike, so the wall clock was stepped if the readings differ by more than their uncertainty,
    /// which is some tens of nanoseconds. A step that is undone between two snapshots is not noticed.
    fn look_at_clocks(&mut self) {
        let now = WallOffset::now();
        if self.wall.differs(&now) {
            self.clock_step_ns = Some(now.ahead_ns().wrapping_sub(self.wall.ahead_ns()));
        }
    }

    /// Replaces the reading of the clocks at the start of the run, for tests.
    pub fn set_wall(&mut self, wall: WallOffset) {
        self.wall = wall;
    }

    /// The counts, of which `with_delay` replies are in the histogram: those that came while it was read are still pending.
    fn totals(&mut self, counted: &Counted, with_delay: u64) -> Totals {
        let of = |count| counted.of(count);
        let (sent, implausible) = (of(Count::Sent), of(Count::Implausible));
        let received = with_delay + implausible;
        let lost = counted.lost + of(Count::Overrun);
        let copied = of(Count::CopiedForward);
        // Without copies: of a copy that is copied again, both count as second answers of the reflector.
        let reflected = self.reflector.follow(&counted.newest, received);
        let losses = Losses::new(lost, received, copied, reflected);
        Totals {
            sent,
            received,
            implausible,
            lost,
            lost_forward: losses.forward,
            lost_backward: losses.backward,
            lost_unknown: losses.unknown,
            pending: sent.saturating_sub(received + lost),
            late: of(Count::Late),
            duplicates: copied + of(Count::CopiedBackward),
            reordered: of(Count::Reordered),
            samples_lost: of(Count::SampleLost),
            refused: Refused {
                not_from_peer: of(Count::NotFromPeer),
                bad_checksum: of(Count::BadChecksum),
                malformed: of(Count::Malformed),
                unknown: of(Count::Unknown),
                wrong_t1: of(Count::WrongT1),
            },
        }
    }

    /// The number of probes waiting for a reply by the slots of the ring, independent of the counts.
    pub fn pending_in_ring(&self) -> u64 {
        let next = self.shared.next().load(Ordering::Acquire);
        self.shared.count_pending(self.first, next)
    }

    /// The number of balls by the kernel's own record of each probe.
    pub fn flying_in_ring(&self) -> u64 {
        let next = self.shared.next().load(Ordering::Acquire);
        self.shared.count_flying(self.first, next)
    }

    /// Takes the samples that have arrived.
    pub fn take_samples(&mut self) -> Vec<VolleySample> {
        self.samples.take(&self.epoch)
    }

    /// Stops sending, waits for replies until the timeout, and returns the whole run. With `at_once`, it waits at most 50 ms,
    /// in which the balls land.
    pub async fn stop(&mut self, at_once: bool) -> Snapshot {
        let stopped_ns = monotonic_ns();
        self.deadline_ns = self.deadline_ns.min(stopped_ns);
        if let Some(launcher) = &self.launcher {
            launcher.hold();
        }
        loop {
            // In a loop, because the thread may be writing a new limit.
            self.shared.limit().store(0, Ordering::SeqCst);
            let waited_ns = monotonic_ns() - stopped_ns;
            let counted = self.shared.counted();
            let concluded = counted.of(Count::Received) + counted.of(Count::Overrun) + counted.lost;
            let resolved = concluded >= counted.of(Count::Sent);
            // The thread declares the last probes lost within one period after the timeout.
            let wait_ns = match at_once {
                true => LANDING_NS,
                false => self.plan.timeout_ns + self.plan.burst.period_ns + LANDING_NS,
            };
            let is_late = waited_ns > wait_ns;
            if is_late && !at_once {
                // Probes that waited for their next hop got T1 after the thread had looked for lost ones.
                self.shared.lose(self.first, self.shared.next().load(Ordering::Acquire));
            }
            if resolved || is_late {
                return self.snapshot();
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
