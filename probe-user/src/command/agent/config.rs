//! Configuration of `kstamp agent`.

use std::path::PathBuf;
use std::time::Duration;

use probe_common::abi::MAX_IN_FLIGHT;
use probe_common::family::Family;
use probe_core::agent::config::{Families, MAX_PEERS, ProbeConfig, in_flight};
use probe_core::engine::Engine;
use probe_core::hops::HopsConfig;

use crate::command::agent::args::AgentArgs;
use crate::command::agent::fleet::config::{self as fleet, FleetConfig};
use crate::command::agent::floor;
use crate::command::shared::endpoint::config::{self as endpoint, EndpointConfig, StampingConfig};
use crate::command::shared::families::{families_of, has, limit};
use crate::command::shared::ovs::Ovsdb;
use crate::command::shared::values::{self, ConfigError, wrong};
use crate::config::guarded::{self, Guard};
use crate::otlp::{OtlpConfig, target};
use crate::output::OutputConfig;
use crate::output::metrics::{Detail, NoiseFloor};
use crate::serve::ServeConfig;

/// Highest `--cold`. Each port is used again after 12.8 seconds at the earliest, and Open vSwitch forgets a flow after 10.
pub const MAX_COLD: u64 = 5;

#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub endpoint: EndpointConfig,
    pub core: ProbeConfig,
    pub legacy_peers: bool,
    /// Whether the groups are probed.
    pub group_probes: bool,
    /// `None`: until a signal comes.
    pub duration_ns: Option<u64>,
    pub output: OutputConfig,
    /// `None` without `--listen`.
    pub serve: Option<ServeConfig>,
    /// `None` without `--otlp`.
    pub otlp: Option<OtlpConfig>,
    pub metrics_detail: Detail,
    /// Shown in the metrics.
    pub noise_floor: Option<NoiseFloor>,
    /// `None` without `--hub-credentials`.
    pub fleet: Option<FleetConfig>,
    /// Where Open vSwitch's facts of the port are read.
    pub ovsdb: Ovsdb,
    /// Probes that are sent as new flows; `None` without `--cold`.
    pub cold: Option<ColdConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdConfig {
    /// Between two probes to the same peer.
    pub interval_ns: u64,
}

impl AgentConfig {
    /// How long it sends probes, if that ends; without the time until a peer is found.
    pub fn length(&self) -> Option<Duration> {
        let of_count_ns = self.core.count.map(|count| count.saturating_mul(self.core.interval_ns));
        [of_count_ns, self.duration_ns]
            .into_iter()
            .flatten()
            .min()
            .map(Duration::from_nanos)
    }

    /// Families of which the interface has no address wait for one, unless they are required or a named peer has one.
    /// If no family is left, all stay, and opening the port fails with the reason.
    pub fn limit_to(&mut self, present: Families) {
        if self.endpoint.families_required {
            return;
        }
        let peers = families_of(&self.core.static_peers);
        let wanted = Families {
            v4: present.v4 || peers.v4,
            v6: present.v6 || peers.v6,
        };
        limit(&mut self.endpoint.port, wanted);
        let probed = families_of(&self.endpoint.port.groups);
        self.core.group.v4 &= probed.v4;
        self.core.group.v6 &= probed.v6;
    }
}

pub fn validate(args: AgentArgs) -> Result<AgentConfig, ConfigError> {
    let mut common = endpoint::validate(args.endpoint, true)?;
    let interval_ns = values::interval_ns(&args.interval)?;
    let timeout_ns = values::duration_ns("--timeout", &args.timeout)?;
    let peer_expiry_ns = values::duration_ns("--peer-expiry", &args.peer_expiry)?;
    if peer_expiry_ns < timeout_ns {
        return wrong(format!(
            "--peer-expiry {} is shorter than --timeout {}, so that a reply in time could come from a peer that is \
             down; make it at least as long",
            args.peer_expiry, args.timeout
        ));
    }
    let static_peers = values::peers(&args.peer, &common.endpoint.port.interface)?;
    let families = families_of(&common.endpoint.port.groups);
    if let Some(peer) = static_peers.iter().find(|peer| !has(families, Family::of(**peer))) {
        return wrong(format!(
            "--peer {peer} is {}, which --family or --group leaves out; add --family both",
            Family::of(*peer)
        ));
    }
    let fleet = fleet::validate(args.fleet, &common.endpoint.port.interface)?;
    if fleet.is_some() && args.count.is_some() {
        return wrong(
            "--count cannot be combined with --hub-credentials, as the hub may assign peers at any time; use --duration",
        );
    }
    if args.no_group && static_peers.is_empty() && fleet.is_none() {
        return wrong("--no-group leaves no peer to probe; name one with --peer, or use `kstamp reflect`");
    }
    let group = if args.no_group {
        Families { v4: false, v6: false }
    } else {
        families
    };
    let groups = u64::from(group.v4) + u64::from(group.v6);
    let named = static_peers.len();
    let cold = args
        .cold
        .as_deref()
        .map(|text| cold(text, &common.endpoint.stamping))
        .transpose()?;
    common.endpoint.port.cold = cold.is_some();
    let shortest_ns = cold.map_or(interval_ns, |cold| cold.interval_ns.min(interval_ns));
    let in_flight = in_flight(timeout_ns, shortest_ns);
    let sessions_of_peer = 1 + u64::from(cold.is_some());
    let max_peers = max_peers(in_flight, groups, sessions_of_peer);
    let sessions = groups + named.max(max_peers) as u64 * sessions_of_peer;
    common.endpoint.port.rings = values::rings(sessions, in_flight, &args.timeout, &args.interval)?;
    let samples = values::other_output("--samples", args.samples, common.output.output.as_ref())?;
    if args.listen.is_none() && args.otlp.is_none() {
        let given = [
            ("--metrics-detail", args.metrics_detail.is_some()),
            ("--noise-floor", args.noise_floor.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, is_given)| *is_given) {
            return wrong(format!(
                "{flag} is about the metrics of --listen or --otlp; add one of them"
            ));
        }
    }
    let serve = values::serve("--listen", args.listen.as_deref(), args.web_config, 9862)?;
    let outlier_ns = match args.outlier.as_deref() {
        None | Some("auto") => None,
        Some(text) => Some(outlier_ns(text)?),
    };
    let ovsdb = Ovsdb::parse(args.ovsdb.as_deref())?;
    let otlp = otlp(args.otlp.as_deref(), args.otlp_headers, args.otlp_ca)?;
    let delays = serve.is_some() || otlp.is_some() || fleet.is_some();
    if let Some(hops) = &mut common.endpoint.hops {
        hops.core = HopsConfig {
            samples: samples.is_some(),
            delays: serve.is_some() || otlp.is_some(),
            outlier_ns,
            timeout_ns,
        };
    }
    let has_hops = common.endpoint.hops.is_some();
    Ok(AgentConfig {
        endpoint: common.endpoint,
        legacy_peers: args.legacy_peers,
        group_probes: !args.no_group,
        core: ProbeConfig {
            interval_ns,
            timeout_ns,
            report_ns: common.report_ns.unwrap_or(match &fleet {
                Some(_) => fleet::REPORT_NS,
                None => values::REPORT_NS,
            }),
            peer_expiry_ns,
            count: args.count.as_deref().map(values::count).transpose()?,
            group,
            unicast: true,
            static_peers,
            first_ssid: values::first_ssid(),
            max_peers,
            samples: samples.is_some() || fleet.is_some() || has_hops,
            delays,
        },
        duration_ns: common.duration_ns,
        output: OutputConfig {
            samples,
            ..common.output
        },
        serve,
        otlp,
        metrics_detail: args.metrics_detail.unwrap_or_default(),
        noise_floor: args.noise_floor.as_deref().map(floor::read).transpose()?,
        fleet,
        ovsdb,
        cold,
    })
}

/// `--outlier`, if that is a time.
fn outlier_ns(text: &str) -> Result<u64, ConfigError> {
    values::duration_ns("--outlier", text).or_else(|error| match humantime::parse_duration(text) {
        Ok(_) => Err(error),
        Err(_) => wrong(format!(
            "--outlier '{text}' is neither auto nor a duration; write 1ms, or auto"
        )),
    })
}

/// `--cold`.
fn cold(text: &str, stamping: &StampingConfig) -> Result<ColdConfig, ConfigError> {
    if stamping.engine == Engine::Socket {
        return wrong("--cold needs kernel programs, which --engine socket does not use; drop one of the two");
    }
    match text.parse() {
        Ok(rate) if (1..=MAX_COLD).contains(&rate) => Ok(ColdConfig {
            interval_ns: 1_000_000_000 / rate,
        }),
        _ => wrong(format!(
            "--cold '{text}' is not a number of probes a second; use 1 to {MAX_COLD}: with more, a switch still knows the flow \
             when its port comes again"
        )),
    }
}

/// `--otlp`, `--otlp-headers`, `--otlp-ca`, read before anything is opened.
fn otlp(url: Option<&str>, headers: Option<PathBuf>, ca: Option<PathBuf>) -> Result<Option<OtlpConfig>, ConfigError> {
    let Some(url) = url else { return Ok(None) };
    let read_headers = |path: PathBuf| {
        let content = guarded::read(&path, Guard::Secret, target::MAX_HEADERS_FILE + 1)
            .map_err(|error| ConfigError::Flag(format!("--otlp-headers: {error}")))?;
        target::headers(&path, &content).map_err(flag)
    };
    Ok(Some(OtlpConfig {
        url: target::url(url).map_err(flag)?,
        headers: headers.map(read_headers).transpose()?.unwrap_or_default(),
        roots: target::roots(ca.as_deref()).map_err(flag)?,
    }))
}

fn flag(error: impl ToString) -> ConfigError {
    ConfigError::Flag(error.to_string())
}

/// How many peers, each with sessions of its own beside the groups' sessions, fit into the in-flight rings.
fn max_peers(in_flight: u64, groups: u64, sessions_of_peer: u64) -> usize {
    let sessions = u64::from(MAX_IN_FLIGHT) / in_flight.max(1);
    usize::try_from(sessions.saturating_sub(groups) / sessions_of_peer).map_or(MAX_PEERS, |peers| peers.min(MAX_PEERS))
}

#[cfg(test)]
mod tests;
