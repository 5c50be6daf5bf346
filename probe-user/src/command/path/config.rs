//! Configuration of `kstamp path`.

use std::net::IpAddr;
use std::path::PathBuf;

use probe_core::agent::config::in_flight;

use crate::command::path::args::PathArgs;
use crate::command::shared::endpoint::config::host_netns;
use crate::command::shared::ovs::Ovsdb;
use crate::command::shared::values::{self, ConfigError, wrong};
use crate::output::Format;

#[derive(Debug, Clone)]
pub struct PathConfig {
    pub interface: String,
    pub peer: IpAddr,
    pub port: u16,
    pub count: u64,
    pub interval_ns: u64,
    pub timeout_ns: u64,
    pub ssid: u16,
    /// As `--host-netns` of an agent.
    pub host_netns: Option<PathBuf>,
    pub ovsdb: Ovsdb,
    pub format: Format,
}

pub fn validate(args: PathArgs) -> Result<PathConfig, ConfigError> {
    values::interface(&args.iface)?;
    let Some(&peer) = values::peers(&[args.peer], &args.iface)?.first() else {
        return wrong("--peer is missing; name the other end");
    };
    let interval_ns = values::interval_ns(&args.interval)?;
    let timeout_ns = values::duration_ns("--timeout", &args.timeout)?;
    values::rings(1, in_flight(timeout_ns, interval_ns), &args.timeout, &args.interval)?;
    Ok(PathConfig {
        interface: args.iface,
        peer,
        port: values::port(&args.port)?,
        count: values::count(&args.count)?,
        interval_ns,
        timeout_ns,
        ssid: values::first_ssid(),
        host_netns: host_netns(args.host_netns)?,
        ovsdb: Ovsdb::parse(args.ovsdb.as_deref())?,
        format: args.format,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, read};

    fn path(flags: &str) -> Result<PathConfig, String> {
        match read(&format!("path {flags}"))? {
            Command::Path(config) => Ok(*config),
            other => panic!("{flags}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_five_seconds_to_an_agent() {
        let config = path("--iface p1 --peer 10.1.1.6").unwrap();
        assert_eq!((config.port, config.count), (1910, 50));
        assert_eq!((config.interval_ns, config.timeout_ns), (100_000_000, 1_000_000_000));
        assert_eq!((config.host_netns, config.ovsdb), (None, Ovsdb::Usual));
    }

    #[test]
    fn each_flag_has_an_effect() {
        let flags = "-p 862 -c 3 -i 10ms -W 2s --host-netns /proc/self/ns/net --ovsdb none --format jsonl";
        let config = path(&format!("--iface p1 --peer fd01::6 {flags}")).unwrap();
        assert_eq!(
            (config.port, config.count, config.peer),
            (862, 3, "fd01::6".parse().unwrap())
        );
        assert_eq!((config.interval_ns, config.timeout_ns), (10_000_000, 2_000_000_000));
        assert_eq!(config.host_netns, Some("/proc/self/ns/net".into()));
        assert_eq!((config.ovsdb, config.format), (Ovsdb::None, Format::Jsonl));
    }

    #[test]
    fn each_bad_value_has_its_message() {
        for (flags, part) in [
            ("--peer 10.1.1.6", "--iface"),
            ("--iface p1", "--peer"),
            ("--iface p1 --peer h2", "names are not looked up"),
            ("--iface p1 --peer 239.1.1.1", "is a multicast address"),
            ("--iface p1 --peer 10.1.1.6 --count 0", "use 1 or more"),
            (
                "--iface p1 --peer 10.1.1.6 --interval 1us --timeout 1m",
                "probes in flight",
            ),
            (
                "--iface p1 --peer 10.1.1.6 --host-netns /nonexistent",
                "--host-netns /nonexistent: No such file",
            ),
            ("--iface p1 --peer 10.1.1.6 --ovsdb here", "--ovsdb 'here'"),
        ] {
            let error = path(flags).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{flags}: {error}");
        }
    }
}
