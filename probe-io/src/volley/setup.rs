//! The parts of a run: its configuration, its attached programs, and its state before it begins.

use aya::programs::xdp::XdpLink;
use probe_common::ntp::ErrorEstimate;
use probe_common::volley::Settings;
use probe_core::volley::Plan;
use probe_host::link::Link;

use crate::backend::ebpf::attach::Classifier;
use crate::udp::target::Target;
use crate::volley::error::VolleyError;
use crate::volley::object::VolleyObject;
use crate::volley::transmitter::Transmitter;

/// A run to be opened.
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
    /// One of so many probes is handed out as a sample.
    pub sample_every: Option<u32>,
    /// Both ends read one clock: one-way delays are kept too.
    pub one_way: bool,
    /// This host's error estimate (RFC 8762 §4.2.1).
    pub error: ErrorEstimate,
}

/// The attached programs. Dropping them detaches.
#[derive(Default)]
pub(super) struct Links {
    pub(super) xdp: Option<XdpLink>,
    pub(super) ingress: Option<Classifier>,
    pub(super) egress: Option<Classifier>,
}

/// The parts of a run that has not begun.
pub(super) struct Setup {
    pub(super) config: VolleyConfig,
    pub(super) link: Link,
    pub(super) object: VolleyObject,
    pub(super) settings: Settings,
    pub(super) transmitter: Transmitter,
    /// Why the XDP program could not be attached, if the plan needs it.
    pub(super) xdp_refusal: Option<VolleyError>,
}
