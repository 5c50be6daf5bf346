//! Validates the arguments of `kstamp controller`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use probe_controller::forwarding;
use probe_controller::openflow::server;
use probe_host::link::check_name;

use crate::command::controller::args::ControllerArgs;
use crate::command::shared::values::{self, ConfigError, wrong};
use crate::output::Format;
use crate::serve::ServeConfig;

/// Shorter periods would overlap with the answers of the period before.
const MIN_PERIOD_NS: u64 = 50_000_000;
const MAX_PERIOD_NS: u64 = 60_000_000_000;

/// The usual one, beside that of an agent.
const WEB_PORT: u16 = 9863;

#[derive(Debug, Clone)]
pub struct ControllerConfig {
    pub server: server::Config,
    pub forwarding: forwarding::Config,
    /// Interfaces to tap.
    pub taps: Vec<String>,
    pub report: Duration,
    /// `None`: until a signal comes.
    pub duration: Option<Duration>,
    pub format: Format,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
    /// File of the drawing.
    pub html: Option<PathBuf>,
    /// `None` without `--web-listen`.
    pub serve: Option<ServeConfig>,
}

impl ControllerConfig {
    /// Warns of a listener that other hosts reach: they can act as a switch.
    pub fn warning(&self) -> Option<String> {
        let listen = self.server.listen;
        let is_open = self.server.tls.is_none() && !listen.ip().to_canonical().is_loopback();
        is_open.then(|| {
            format!(
                "anybody who reaches {listen} can act as a switch; use --tls-cert, or --listen with a loopback address"
            )
        })
    }
}

pub fn validate(args: ControllerArgs) -> Result<ControllerConfig, ConfigError> {
    let Ok(listen) = args.listen.parse::<SocketAddr>() else {
        return wrong(format!(
            "--listen '{}' is not an address and a port; write 127.0.0.1:6653 or [::]:6653",
            args.listen
        ));
    };
    let period_ns = values::duration_ns("--period", &args.period)?;
    if !(MIN_PERIOD_NS..=MAX_PERIOD_NS).contains(&period_ns) {
        return wrong(format!("--period {} is out of range; use 50ms to 60s", args.period));
    }
    for (place, name) in args.tap.iter().enumerate() {
        if let Err(error) = check_name(name) {
            return wrong(format!("--tap: {error}; `ip link` lists the interfaces"));
        }
        if args.tap[..place].contains(name) {
            return wrong(format!("--tap {name} is given twice"));
        }
    }
    let output = values::output(args.output);
    let html = values::other_output("--html", args.html, output.as_ref())?;
    let serve = values::serve("--web-listen", args.web_listen.as_deref(), args.web_config, WEB_PORT)?;
    let tls = match (args.tls_cert, args.tls_key, args.tls_ca) {
        (Some(cert), Some(key), Some(ca)) => Some(server::TlsFiles { cert, key, ca }),
        _ => None,
    };
    Ok(ControllerConfig {
        server: server::Config {
            tls,
            measure_only: args.measure_only,
            ..server::Config::new(listen)
        },
        forwarding: forwarding::Config {
            period_ns,
            measure_only: args.measure_only,
            reroute_gain: gain(&args.reroute_gain)?,
        },
        taps: args.tap,
        report: Duration::from_nanos(values::duration_ns("--report", &args.report)?),
        duration: args
            .duration
            .map(|duration| values::duration_ns("--duration", &duration))
            .transpose()?
            .map(Duration::from_nanos),
        format: args.format,
        output,
        html,
        serve,
    })
}

/// A percentage, as a fraction. A number below 1 without a sign may mean either, so it is refused.
fn gain(text: &str) -> Result<f64, ConfigError> {
    let number = text.strip_suffix('%').map_or(text, str::trim_end);
    match number.parse::<f64>() {
        Ok(fraction) if number == text && 0.0 < fraction && fraction < 1.0 => wrong(format!(
            "--reroute-gain '{text}' has no unit; write {}% or {text}%",
            (fraction * 1e8).round() / 1e6
        )),
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => wrong(format!(
            "--reroute-gain '{text}' is not a percentage; write 0% to less than 100%"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, read};

    fn controller(flags: &str) -> Result<ControllerConfig, String> {
        match read(&format!("controller {flags}"))? {
            Command::Controller(config) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_set_the_configuration() {
        let config = controller("").unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:6653");
        assert_eq!(config.warning(), None);
        assert_eq!(
            (config.forwarding.period_ns, config.forwarding.reroute_gain),
            (500_000_000, 0.05)
        );
        assert!(!config.forwarding.measure_only && config.server.tls.is_none() && config.taps.is_empty());

        let line = "--listen [::1]:0 --period 1s --tap a b --tap c --measure-only --report 1s --duration 3s --html x";
        let config = controller(line).unwrap();
        assert_eq!(config.taps, ["a", "b", "c"]);
        assert!(config.forwarding.measure_only && config.server.measure_only);
        assert_eq!(config.duration, Some(Duration::from_secs(3)));
        for (gain, fraction) in [("25%", 0.25), ("0.5%", 0.005), ("5", 0.05), ("0", 0.0), ("1%", 0.01)] {
            let config = controller(&format!("--reroute-gain {gain}")).unwrap();
            assert_eq!(config.forwarding.reroute_gain, fraction, "{gain}");
        }
        assert_eq!(config.serve, None);
        let serve = controller("--web-listen [::1]:9863").unwrap().serve.unwrap();
        assert_eq!(
            (serve.flag, serve.listen.port(), serve.web_config),
            ("--web-listen", 9863, None)
        );
        let tls = controller("--tls-cert c --tls-key k --tls-ca a")
            .unwrap()
            .server
            .tls
            .unwrap();
        assert_eq!([tls.cert, tls.key, tls.ca], ["c", "k", "a"].map(PathBuf::from));
    }

    #[test]
    fn a_listener_for_others_without_tls_is_warned_about() {
        let tls = "--tls-cert c --tls-key k --tls-ca a";
        for (flags, is_open) in [
            ("--listen 0.0.0.0:6653", true),
            ("--listen [::]:6653", true),
            ("--listen 192.0.2.1:6653", true),
            ("--listen [fd77::1]:6653", true),
            ("--listen 127.0.0.2:6653", false),
            ("--listen [::1]:6653", false),
            ("--listen [::ffff:127.0.0.1]:6653", false),
            (&format!("--listen 0.0.0.0:6653 {tls}"), false),
        ] {
            let warning = controller(flags).unwrap().warning();
            assert_eq!(warning.is_some(), is_open, "{flags}: {warning:?}");
            assert!(warning.is_none_or(|line| line.contains("--tls-cert") && !line.contains('\n')));
        }
    }

    #[test]
    fn wrong_arguments_are_refused_in_one_line_that_names_the_flag() {
        let table = [
            ("--listen 6653", "--listen"),
            ("--period 0s", "--period"),
            ("--period 10ms", "--period"),
            ("--period 2m", "--period"),
            ("--tls-cert c", "--tls-key"),
            ("--tap a a", "--tap"),
            ("--tap an-interface-with-a-long-name", "--tap"),
            ("--reroute-gain 100%", "--reroute-gain"),
            ("--reroute-gain -1%", "--reroute-gain"),
            ("--reroute-gain x", "--reroute-gain"),
            ("--reroute-gain 0.1", "write 10% or 0.1%"),
            ("--reroute-gain %", "--reroute-gain"),
            ("--reroute-gain 5%%", "--reroute-gain"),
            ("--reroute-gain nan", "--reroute-gain"),
            ("--reroute-gain 1% --measure-only", "--measure-only"),
            ("--html -", "--html"),
            ("--html x --output x", "--html"),
            ("--report 0s", "--report"),
            ("--web-listen 9863", "write 127.0.0.1:9863"),
            ("--web-config x", "--web-listen"),
            ("--web-listen 127.0.0.1:0", "is not an address and a port"),
            (
                "--web-listen 127.0.0.1:9863 --web-config /no/such/file",
                "/no/such/file",
            ),
        ];
        for (flags, names) in table {
            let error = controller(flags).unwrap_err();
            assert!(error.contains(names) && !error.contains('\n'), "{flags}: {error}");
        }
    }
}
