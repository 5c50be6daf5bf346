//! Validates the arguments of `kstamp hub`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use probe_host::hostname::hostname;
use probe_hub::credentials::Credentials;
use probe_hub::enrol::Address;
use probe_hub::hub::matrix::MAX_PEERS;
use probe_hub::name::HostName;
use probe_hub::server::own_address;

use crate::command::hub::args::{EnrollArgs, FleetArgs, HubAction, HubArgs, StatusArgs};
use crate::command::hub::site::api::MAX_TOP;
use crate::command::shared::credentials;
use crate::command::shared::values::{self, ConfigError, wrong};
use crate::output::Format;
use crate::serve::ServeConfig;

/// Beside those of an agent and of a controller.
const WEB_PORT: u16 = 9864;
/// The value of `--listen` for serving nothing.
const NOT_SERVED: &str = "none";
/// Less has no room for the results of one day of a small fleet.
const MIN_STORE: u64 = 16 << 20;
/// Assignments are written at most each second.
const MIN_ROTATION_NS: u64 = 10_000_000_000;

#[derive(Debug, Clone)]
pub enum HubCommand {
    Run(Box<HubConfig>),
    Enroll(EnrollConfig),
    Revoke { fleet: FleetConfig, host: HostName },
    Export(ExportConfig),
    Import(ImportConfig),
    Status(StatusConfig),
}

#[derive(Debug, Clone)]
pub struct HubConfig {
    pub fleet: FleetConfig,
    pub name: HostName,
    pub nats_listen: SocketAddr,
    /// `None`: to be found in PATH.
    pub nats_server: Option<PathBuf>,
    /// Bytes.
    pub store: u64,
    pub neighbours: usize,
    pub rotation_ns: u64,
    pub webhook: Option<String>,
    /// `None` for serving nothing.
    pub serve: Option<ServeConfig>,
    /// `None`: until a signal comes.
    pub duration: Option<Duration>,
    pub format: Format,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct FleetConfig {
    pub state: PathBuf,
    /// Empty: those in the state directory.
    pub addresses: Vec<Address>,
    /// NATS servers of the user; empty: the hub starts one.
    pub nats: Vec<String>,
    pub nats_ca: Option<PathBuf>,
    /// Of addresses without one.
    pub port: u16,
}

#[derive(Debug, Clone)]
pub struct EnrollConfig {
    pub fleet: FleetConfig,
    pub host: HostName,
    /// Empty for a reader.
    pub prefixes: Vec<IpNet>,
    pub replace: bool,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct ExportConfig {
    pub state: PathBuf,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct ImportConfig {
    pub state: PathBuf,
    /// `None` for standard input.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct StatusConfig {
    pub source: Source,
    pub top: usize,
    pub format: Format,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
}

/// Whose credentials are used.
#[derive(Debug, Clone)]
pub enum Source {
    Reader(Box<Credentials>),
    /// The host of the hub, whose own server listens at `own`.
    Hub {
        fleet: FleetConfig,
        own: Address,
    },
}

pub fn validate(args: HubArgs) -> Result<HubCommand, ConfigError> {
    let listen = nats_listen(&args.nats_listen)?;
    let fleet = fleet(&args.fleet, listen.port())?;
    match args.action {
        Some(HubAction::Enroll(action)) => Ok(HubCommand::Enroll(enroll(fleet, action)?)),
        Some(HubAction::Revoke(action)) => Ok(HubCommand::Revoke {
            fleet,
            host: host(&action.host)?,
        }),
        Some(HubAction::Export(action)) => Ok(HubCommand::Export(ExportConfig {
            state: fleet.state,
            output: values::output(action.export),
        })),
        Some(HubAction::Import(action)) => Ok(HubCommand::Import(ImportConfig {
            state: fleet.state,
            file: (action.export.as_os_str() != "-").then_some(action.export),
        })),
        Some(HubAction::Status(action)) => Ok(HubCommand::Status(status(fleet, listen, action)?)),
        None => Ok(HubCommand::Run(Box::new(HubConfig {
            fleet,
            name: match &args.name {
                Some(name) => name
                    .parse()
                    .or_else(|error| wrong(format!("--name: {error}; choose another one")))?,
                None => HostName::of_machine(&hostname()),
            },
            nats_listen: listen,
            nats_server: args.nats_server,
            store: match values::bytes("--store-size", &args.store_size)? {
                bytes if bytes < MIN_STORE => wrong(format!(
                    "--store-size {} is too small; use 16MiB or more",
                    args.store_size
                )),
                bytes => Ok(bytes),
            }?,
            neighbours: match values::number("--neighbours", &args.neighbours, MAX_PEERS)? {
                0 => wrong("--neighbours 0 would measure nothing; use 1 or more"),
                number => Ok(number),
            }?,
            rotation_ns: match values::duration_ns("--rotation", &args.rotation)? {
                rotation_ns if rotation_ns < MIN_ROTATION_NS => wrong(format!(
                    "--rotation {} would write new assignments all the time; use 10s or more",
                    args.rotation
                )),
                rotation_ns => Ok(rotation_ns),
            }?,
            webhook: args.webhook.map(webhook).transpose()?,
            serve: match args.listen == NOT_SERVED {
                true => None,
                false => values::serve("--listen", Some(&args.listen), args.web_config, WEB_PORT)?,
            },
            duration: args
                .duration
                .map(|duration| values::duration_ns("--duration", &duration))
                .transpose()?
                .map(Duration::from_nanos),
            format: args.output.format,
            output: values::output(args.output.output),
        }))),
    }
}

fn nats_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => wrong(format!(
            "--nats-listen '{text}' is not an address and a port; write 0.0.0.0:4222 for all addresses of this host"
        )),
    }
}

/// Addresses without a port have that of `--nats-listen`.
fn fleet(args: &FleetArgs, port: u16) -> Result<FleetConfig, ConfigError> {
    let address = |text: &String| {
        Address::parse(text, port).map_or_else(
            || wrong(format!(
                "--address '{text}' is not a name or an address, with a port or without; write hub.example.org or 10.0.0.1:4222"
            )),
            Ok,
        )
    };
    if args.nats_ca.is_some() && args.nats.is_empty() {
        return wrong("--nats-ca is about the servers of --nats; give both or neither");
    }
    for url in &args.nats {
        let server = url.strip_prefix("tls://").and_then(|rest| Address::parse(rest, port));
        if server.is_none() {
            return wrong(format!("--nats '{url}' is not a server; write tls://HOST:4222"));
        }
    }
    Ok(FleetConfig {
        state: args.state.clone(),
        addresses: args.address.iter().map(address).collect::<Result<_, _>>()?,
        nats: args.nats.clone(),
        nats_ca: args.nats_ca.clone(),
        port,
    })
}

fn enroll(fleet: FleetConfig, args: EnrollArgs) -> Result<EnrollConfig, ConfigError> {
    Ok(EnrollConfig {
        fleet,
        host: host(&args.host)?,
        prefixes: values::prefixes("--prefix", &args.prefix)?,
        replace: args.replace,
        output: values::output(args.credentials),
    })
}

fn status(fleet: FleetConfig, listen: SocketAddr, args: StatusArgs) -> Result<StatusConfig, ConfigError> {
    let own = || Source::Hub {
        fleet,
        own: own_address(listen),
    };
    let credentials = args.credentials.map(|path| credentials::read("--credentials", &path));
    Ok(StatusConfig {
        source: credentials
            .transpose()?
            .map_or_else(own, |credentials| Source::Reader(Box::new(credentials))),
        top: match values::number("--top", &args.top, MAX_TOP)? {
            0 => wrong("--top 0 shows no pairs; use 1 or more"),
            number => Ok(number),
        }?,
        format: args.output.format,
        output: values::output(args.output.output),
    })
}

fn host(name: &str) -> Result<HostName, ConfigError> {
    name.parse().or_else(|error| wrong(format!("{error}")))
}

fn webhook(url: String) -> Result<String, ConfigError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() => Ok(url),
        _ => wrong(format!("--webhook '{url}' is not an address; write https://HOST/PATH")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, read};

    fn hub(flags: &str) -> Result<HubCommand, String> {
        match read(&format!("hub {flags}"))? {
            Command::Hub(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    fn run(flags: &str) -> HubConfig {
        match hub(flags) {
            Ok(HubCommand::Run(config)) => *config,
            other => panic!("{flags}: {other:?}"),
        }
    }

    #[test]
    fn flags_set_the_configuration() {
        let config = run("");
        assert_eq!(config.fleet.state, PathBuf::from("/var/lib/kstamp/hub"));
        assert_eq!(
            (config.store, config.neighbours, config.nats_listen.port()),
            (5 << 30, 32, 4222)
        );
        assert_eq!(config.serve.unwrap().listen.to_string(), "127.0.0.1:9864");
        let config = run(
            "--address h:4333 --address fd77::1 --nats-listen [::]:4300 --store-size 1024GiB --listen none --name a-b",
        );
        let servers: Vec<_> = config.fleet.addresses.iter().map(Address::url).collect();
        assert_eq!(servers, ["tls://h:4333", "tls://[fd77::1]:4300"]);
        assert_eq!((config.store, config.serve), (1 << 40, None));
        assert_eq!(config.name.as_str(), "a-b");
    }

    #[test]
    fn actions_take_the_flags_of_the_fleet_before_and_after_them() {
        for line in [
            "--state /x enroll h1 --prefix 10.1.0.0/16 -o f",
            "enroll h1 --state /x --prefix 10.1.0.0/16 --output f",
        ] {
            match hub(line).unwrap() {
                HubCommand::Enroll(config) => {
                    assert_eq!((config.host.as_str(), config.fleet.state), ("h1", PathBuf::from("/x")));
                    assert_eq!(config.prefixes, ["10.1.0.0/16".parse().unwrap()]);
                    assert_eq!((config.replace, config.output), (false, Some("f".into())));
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(hub("enroll r --reader"), Ok(HubCommand::Enroll(config)) if config.prefixes.is_empty()));
        assert!(matches!(hub("revoke h1"), Ok(HubCommand::Revoke { host, .. }) if host.as_str() == "h1"));
    }

    #[test]
    fn wrong_arguments_are_refused_in_one_line_that_names_the_flag() {
        let table = [
            ("--nats-listen 4222", "--nats-listen"),
            ("--nats-listen 0.0.0.0:0", "--nats-listen"),
            ("--address a/b", "--address"),
            ("--address a:x", "--address"),
            ("--nats nats://h", "tls://HOST:4222"),
            ("--nats tls://", "--nats"),
            ("--nats-ca x", "--nats"),
            ("--nats tls://h --nats-server x", "--nats"),
            ("--store-size 10", "--store-size"),
            ("--store-size x", "--store-size"),
            ("--store-size 99999999TiB", "--store-size"),
            ("--neighbours 0", "--neighbours"),
            ("--neighbours 2000", "--neighbours"),
            ("--rotation 0s", "--rotation"),
            ("--rotation 9s", "use 10s or more"),
            ("--webhook h", "--webhook"),
            ("--listen 9864", "write 127.0.0.1:9864"),
            ("--name a.b", "--name"),
            ("enroll", "HOST"),
            ("enroll h1", "--prefix"),
            ("enroll h1 --prefix x", "--prefix"),
            ("enroll h1 --prefix 10.0.0.1/8 --reader", "--reader"),
            ("enroll a.b --prefix 10.0.0.0/8", "a.b"),
            ("revoke", "HOST"),
        ];
        for (flags, names) in table {
            let error = hub(flags).unwrap_err();
            assert!(error.contains(names) && !error.contains('\n'), "{flags}: {error}");
        }
    }
}
