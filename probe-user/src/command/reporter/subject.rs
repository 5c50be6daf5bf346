//! What a start record says beside what the port knows.

use std::net::IpAddr;

use probe_io::backend::ebpf::PortConfig;

use crate::command::config::{AgentConfig, ReflectConfig};

/// Who probes or reflects, and whom.
pub struct Subject<'a> {
    pub(super) name: &'a str,
    pub(super) port: &'a PortConfig,
    pub(super) interval_ns: Option<u64>,
    pub(super) timeout_ns: Option<u64>,
    pub(super) peers: &'a [IpAddr],
    pub(super) group_probes: bool,
    pub(super) authenticated: bool,
}

impl<'a> From<&'a AgentConfig> for Subject<'a> {
    fn from(config: &'a AgentConfig) -> Self {
        let core = &config.core;
        Self {
            name: &config.station.name,
            port: &config.station.port,
            interval_ns: Some(core.interval_ns),
            timeout_ns: Some(core.timeout_ns),
            peers: &core.static_peers,
            group_probes: core.group.v4 || core.group.v6,
            authenticated: config.station.stamping.key.is_some(),
        }
    }
}

impl<'a> From<&'a ReflectConfig> for Subject<'a> {
    fn from(config: &'a ReflectConfig) -> Self {
        Self {
            name: &config.station.name,
            port: &config.station.port,
            interval_ns: None,
            timeout_ns: None,
            peers: &[],
            group_probes: false,
            authenticated: config.station.stamping.key.is_some(),
        }
    }
}
