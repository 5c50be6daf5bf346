//! Volleys and trains: probes that kernel programs send, turn around and count.

mod device;
mod error;
mod launcher;
pub mod object;
mod samples;
mod shared;
mod start;
mod template;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aya::programs::xdp::XdpLink;
use probe_common::ntp::ErrorEstimate;
use probe_common::volley::{Count, Epoch};
use probe_core::volley::{Losses, Plan, ReflectorCounter, Refused, Snapshot, Totals};
use probe_host::clock::monotonic_ns;

use crate::backend::ebpf::attach::Classifier;
use crate::udp::target::Target;
pub use crate::volley::device::capabilities;
pub use crate::volley::error::VolleyError;
use crate::volley::launcher::Launcher;
use crate::volley::samples::Samples;
pub use crate::volley::samples::VolleySample;
use crate::volley::shared::{Counted, Delay, Shared};
use crate::volley::start::Setup;

/// Configuration of a run.
#[derive(Debug, Clone)]
pub struct VolleyConfig {
    pub interface: String,
    /// Address of the peer, its test port, and the DSCP of probes.
    pub target: Target,
    /// `None`: any free port.
    pub source_port: Option<u16>,
    pub plan: Plan,
    /// `None`: until it is stopped.
    pub duration_ns: Option<u64>,
    /// One of so many probes is handed out as a [`VolleySample`].
    pub sample_every: Option<u32>,
    /// Both ends read one clock: one-way delays are kept too.
    pub one_way: bool,
    /// This host's error estimate (RFC 8762 §4.2.1).
    pub error: ErrorEstimate,
}

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
    /// Sequence number of the first probe.
    first: u64,
    deadline_ns: u64,
    reflector: ReflectorCounter,
}

/// What is attached. Dropping it detaches.
#[derive(Default)]
struct Links {
    xdp: Option<XdpLink>,
    ingress: Option<Classifier>,
    egress: Option<Classifier>,
}

/// Time between two readings of the counts while a run stops.
const LOOK: Duration = Duration::from_millis(1);
/// How long to wait for balls to land. They need a round trip.
const LANDING_NS: u64 = 100_000_000;

impl Volley {
    /// The plan in effect. If [`Volley::start`] has chosen another mode than the configured one, `reason` says why.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the duration has passed, or a failure has ended the run.
    pub fn is_over(&self) -> bool {
        monotonic_ns() >= self.deadline_ns || self.failure().is_some()
    }

    /// Why the run ended early, in one line.
    pub fn failure(&self) -> Option<String> {
        self.launcher.as_ref().and_then(Launcher::failure)
    }

    /// The counts and delays so far, read from shared memory without a system call.
    pub fn snapshot(&mut self) -> Snapshot {
        let at_ns = monotonic_ns();
        let counted = self.shared.counted();
        let one_way = |delay| self.one_way.then(|| self.shared.histogram(delay));
        Snapshot {
            at_ns,
            rtt: self.shared.histogram(Delay::Rtt),
            residence: self.shared.histogram(Delay::Residence),
            forward: one_way(Delay::Forward),
            backward: one_way(Delay::Backward),
            totals: self.totals(&counted),
        }
    }

    fn totals(&mut self, counted: &Counted) -> Totals {
        let of = |count| counted.of(count);
        let (sent, received) = (of(Count::Sent), of(Count::Received));
        let lost = counted.lost + of(Count::Overrun);
        let copied = of(Count::CopiedForward);
        let reflected = self.reflector.follow(&counted.newest, received + copied);
        let losses = Losses::new(lost, received, copied, reflected);
        Totals {
            sent,
            received,
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

    /// Takes the samples that have arrived.
    pub fn take_samples(&mut self) -> Vec<VolleySample> {
        self.samples.take(&self.epoch)
    }

    /// Stops sending, waits at most 100 ms until the balls have landed, then for the timeout of pending probes unless
    /// `at_once`, and returns the whole run.
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
            let landed = self.shared.airborne().load(Ordering::Acquire) == 0 || waited_ns > LANDING_NS;
            let counted = self.shared.counted();
            let concluded = counted.of(Count::Received) + counted.of(Count::Overrun) + counted.lost;
            let resolved = concluded >= counted.of(Count::Sent);
            // The thread declares the last probes lost within one period after the timeout.
            let patience_ns = self.plan.timeout_ns + self.plan.burst.period_ns + LANDING_NS;
            if resolved || landed && at_once || waited_ns > patience_ns {
                return self.snapshot();
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
