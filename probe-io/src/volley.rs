//! Volleys and trains: rounds of probes that kernel programs send, turn around, and count.

use std::net::IpAddr;

use probe_common::ntp::ErrorEstimate;
use probe_common::volley::Sample;
use probe_core::volley::{Capabilities, Mode, Plan, Snapshot};
use thiserror::Error;

use crate::backend::error::ObjectError;
use crate::udp::target::Target;

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
    /// One of so many probes is handed out as a [`VolleySample`].
    pub sample_every: Option<u32>,
    /// Both ends read one clock: one-way delays are kept too.
    pub one_way: bool,
    /// This host's error estimate (RFC 8762 §4.2.1).
    pub error: ErrorEstimate,
}

#[derive(Debug, Error)]
pub enum VolleyError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// In one line: what is wrong, where, and what to do.
    #[error("{0}")]
    Refused(String),
}

/// One probe and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolleySample {
    pub sequence: u32,
    /// UTC since 1970.
    pub t1_ns: u64,
    pub t2_ns: u64,
    pub t3_ns: u64,
    pub t4_ns: u64,
    pub rtt_ns: u64,
}

/// A run. When it is dropped, or the process is killed, the kernel detaches the programs, and balls in the air land.
pub struct Volley {
    plan: Plan,
}

impl Volley {
    /// Loads and attaches the programs; sends nothing. To be called from within a tokio runtime.
    pub async fn open(config: VolleyConfig) -> Result<Self, VolleyError> {
        Ok(Self { plan: config.plan })
    }

    /// What is done. `start` may have taken another mode than the configured one, and says why in `reason`.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sends one probe as a process does, and another one in the mode of the run. When both have been answered, the run
    /// begins. `may_fall_back` allows mode `sendmmsg` if the second is not answered.
    pub async fn start(&mut self, may_fall_back: bool) -> Result<(), VolleyError> {
        let _ = may_fall_back;
        todo!()
    }

    /// Whether the duration has passed, or something has ended the run.
    pub fn is_over(&self) -> bool {
        todo!()
    }

    /// The run so far. Cheap: reads memory that the kernel shares.
    pub fn snapshot(&mut self) -> Snapshot {
        todo!()
    }

    /// Takes the samples so far.
    pub fn take_samples(&mut self) -> Vec<VolleySample> {
        let _: Option<Sample> = None;
        Vec::new()
    }

    /// Lets the balls land, waits for the timeout of those that are pending, and returns the whole run. The first takes
    /// at most 100 ms, during which nothing new is sent; `at_once` leaves out the second.
    pub async fn stop(&mut self, at_once: bool) -> Result<Snapshot, VolleyError> {
        let _ = at_once;
        todo!()
    }
}

/// What each mode needs, and whether the interface has it.
pub async fn capabilities(interface: &str, peer: IpAddr) -> Result<Capabilities, VolleyError> {
    let _ = (interface, peer, Mode::ALL);
    todo!()
}
