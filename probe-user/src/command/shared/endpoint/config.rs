//! Configuration that `agent` and `reflect` share.

use std::path::PathBuf;

use probe_common::stamp;
use probe_core::auth::Key;
use probe_core::hops::HopsConfig;
use probe_core::reflector::policy::Rates;
use probe_core::reflector::userspace_rates;
use probe_core::rings::Rings;
use probe_io::compare::priority::Priority;
use probe_io::port::{Answering, Engine, PortConfig};

use crate::command::shared::args::{AttachArg, EndpointArgs, EngineArg, HopArgs, ResponderArg};
use crate::command::shared::families::groups;
use crate::command::shared::host::agent_name;
use crate::command::shared::values::{self, AGENT_PORT, ConfigError, wrong};
use crate::output::OutputConfig;

/// aya-log's level `trace`: everything that the programs log.
const LOG_EVERYTHING: u8 = 5;

/// An interface, and how others are answered there.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// As peers see it.
    pub name: String,
    pub port: PortConfig,
    pub stamping: StampingConfig,
    /// A flag named the families: the interface must have an address of each.
    pub families_required: bool,
    /// The user to switch to once everything is opened and attached.
    pub user: Option<String>,
    /// Priority of the responder's threads; `None` for no responder. With a key there is no identity exchange, and
    /// no peer would know its ports.
    pub responder: Option<Priority>,
    /// Probes per second of a volley that this host agrees to; 0: none.
    pub volley_limit: u32,
    /// `None` without `--hops`.
    pub hops: Option<HopStampsConfig>,
}

/// How probes are stamped at the devices of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopStampsConfig {
    pub core: HopsConfig,
    /// The network namespace of the devices; `None`: that of process 1, or else that of this process.
    pub host_netns: Option<PathBuf>,
}

/// How timestamps are obtained, and how the userspace reflector answers.
#[derive(Debug, Clone)]
pub struct StampingConfig {
    pub engine: Engine,
    /// The key of authenticated mode.
    pub key: Option<Key>,
    /// The key of HMAC TLVs in unauthenticated mode.
    pub tlv_key: Option<Key>,
    /// The reflector keeps no sessions.
    pub stateless: bool,
}

/// The configuration that `agent` and `reflect` share.
pub struct Common {
    pub endpoint: EndpointConfig,
    /// `None` if not given.
    pub report_ns: Option<u64>,
    pub duration_ns: Option<u64>,
    pub output: OutputConfig,
}

pub fn validate(args: EndpointArgs, probing: bool) -> Result<Common, ConfigError> {
    values::interface(&args.iface)?;
    let duration_ns = |flag, text: Option<String>| text.map(|text| values::duration_ns(flag, &text)).transpose();
    let given = values::groups(&args.group)?;
    let stamping = stamping(&args)?;
    let (test_port, other_ports) = match values::ports(&args.port)?.split_first() {
        Some((&first, others)) => (first, others.to_vec()),
        None if probing => (AGENT_PORT, vec![]),
        None => (AGENT_PORT, vec![stamp::PORT]),
    };
    let rates = Rates {
        port: values::rate("--rate", &args.rate)?,
        source: values::rate("--rate-source", &args.rate_source)?,
        group: values::rate("--rate-group", &args.rate_group)?,
    };
    let responder = match args.responder {
        ResponderArg::On => Some(Priority::Normal),
        ResponderArg::Realtime => Some(Priority::Realtime),
        ResponderArg::Off => None,
    };
    let name = match args.name {
        Some(name) => values::name(name)?,
        None => agent_name(&args.iface),
    };
    Ok(Common {
        output: OutputConfig {
            agent: name.clone(),
            format: args.format,
            output: values::output(args.output),
            samples: None,
        },
        endpoint: EndpointConfig {
            name,
            families_required: args.family.is_some() || !given.is_empty(),
            port: PortConfig {
                test_port,
                other_ports,
                other_ports_are_optional: args.port.is_empty(),
                groups: groups(&given, args.family)?,
                late: Vec::new(),
                choice: values::choice(args.attach),
                probing,
                rings: Rings::NONE,
                log_level: if args.log_bpf { LOG_EVERYTHING } else { 0 },
                answering: Answering {
                    allow: values::prefixes("--allow", &args.allow)?,
                    rates,
                },
                cold: false,
                interface: args.iface,
            },
            user: args.user.map(values::user).transpose()?,
            responder: responder.filter(|_| stamping.key.is_none()),
            volley_limit: volley_limit(&args.volley_limit, rates, &stamping)?,
            hops: hops(args.hops, &stamping)?,
            stamping,
        },
        report_ns: duration_ns("--report", args.report)?,
        duration_ns: duration_ns("--duration", args.duration)?,
    })
}

/// `--volley-limit`, within the limits that apply to the packets of a volley.
fn volley_limit(text: &str, rates: Rates, stamping: &StampingConfig) -> Result<u32, ConfigError> {
    let wanted = values::number("--volley-limit", text, Rates::MAX)?;
    Ok(match stamping.engine {
        // Authenticated mode has no identity exchange, so no peer learns the limit.
        _ if stamping.key.is_some() => 0,
        Engine::Ebpf => rates.volley_limit(wanted),
        Engine::Socket => userspace_rates(rates).volley_limit(wanted),
    })
}

fn hops(args: HopArgs, stamping: &StampingConfig) -> Result<Option<HopStampsConfig>, ConfigError> {
    if args.hops && stamping.key.is_some() {
        return wrong(
            "--hops cannot be combined with --key-file: the programs recognise plain probes only; drop one of the two",
        );
    }
    let host_netns = host_netns(args.host_netns)?;
    Ok(args.hops.then_some(HopStampsConfig {
        // Those of a reflector, which has no probes.
        core: HopsConfig {
            samples: false,
            delays: false,
            outlier_ns: None,
            timeout_ns: 0,
        },
        host_netns,
    }))
}

/// `--host-netns`.
pub fn host_netns(path: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = &path
        && let Err(error) = path.metadata()
    {
        return wrong(format!(
            "--host-netns {}: {error}; `ip netns` lists the namespaces in /run/netns, and /proc/1/ns/net is that of process 1",
            path.display()
        ));
    }
    Ok(path)
}

fn stamping(args: &EndpointArgs) -> Result<StampingConfig, ConfigError> {
    let engine = match (args.engine, &args.key_file) {
        (Some(EngineArg::Ebpf), Some(_)) => {
            return wrong("--engine ebpf cannot authenticate packets; leave it out: with --key-file sockets are used");
        }
        (Some(EngineArg::Ebpf) | None, None) => Engine::Ebpf,
        (Some(EngineArg::Socket), _) | (None, Some(_)) => Engine::Socket,
    };
    if engine == Engine::Ebpf && args.stateless {
        return wrong("--stateless needs --engine socket: the kernel programs count replies by session");
    }
    if engine == Engine::Socket && (args.attach != AttachArg::Auto || args.log_bpf) {
        let flag = if args.log_bpf { "--log-bpf" } else { "--attach" };
        return wrong(format!(
            "{flag} is for kernel programs, which --engine socket and --key-file do not use; drop one of the two"
        ));
    }
    Ok(StampingConfig {
        engine,
        tlv_key: values::tlv_key(args.tlv_key_file.clone(), args.key_file.is_some())?,
        key: values::key(args.key_file.clone())?,
        stateless: args.stateless,
    })
}
