use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::command::agent::config::AgentConfig;
use crate::command::controller::config::ControllerConfig;
use crate::command::{Command, load};

/// A directory of configuration files, and variables.
struct Host {
    directory: TempDir,
    variables: BTreeMap<OsString, OsString>,
}

impl Host {
    fn new<const N: usize>(files: [(&str, &str); N]) -> Self {
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
            variables: BTreeMap::new(),
        };
        for (name, text) in files {
            let path = host.directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        host
    }

    /// With `NAME=value` and so on in its environment; `_` in a value stands for a space.
    fn with(mut self, variables: &str) -> Self {
        let variables = variables.split_whitespace().map(|one| one.split_once('=').unwrap());
        let variables =
            variables.map(|(name, value)| (format!("KSTAMP_{name}").into(), value.replace('_', " ").into()));
        self.variables = variables.collect();
        self
    }

    /// Runs a command line as far as its configuration. `DIR/` in an error is the directory.
    fn load(&self, line: &str) -> Result<Command, String> {
        let directory = format!("{}/", self.directory.path().display());
        let words = ["kstamp"].into_iter().chain(line.split_whitespace());
        let words: Vec<_> = words.map(|word| word.replace("DIR/", &directory).into()).collect();
        let system = System {
            directory: Some(self.directory.path().to_owned()),
            variables: self.variables.clone(),
        };
        let loaded = load(&words, &system).map_err(|error| error.to_string().replace(&directory, "DIR/"))?;
        Ok(match loaded.command {
            Command::Config(text) => Command::Config(text.replace(&directory, "DIR/")),
            command => command,
        })
    }

    fn agent(&self, flags: &str) -> AgentConfig {
        match self.load(&format!("agent {flags}")) {
            Ok(Command::Agent(config)) => *config,
            other => panic!("{flags}: {other:?}"),
        }
    }

    fn controller(&self, flags: &str) -> ControllerConfig {
        match self.load(&format!("controller {flags}")) {
            Ok(Command::Controller(config)) => *config,
            other => panic!("{flags}: {other:?}"),
        }
    }

    fn text(&self, line: &str) -> String {
        match self.load(line) {
            Ok(Command::Config(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }
}

fn interval_ms(host: &Host, flags: &str) -> u64 {
    host.agent(flags).core.interval_ns / 1_000_000
}

#[test]
fn a_heavier_source_replaces_a_lighter_one() {
    let host = Host::new([
        ("agent.toml", "interval = \"1ms\"\n[interface.p2]\ninterval = \"3ms\"\n"),
        ("agent.d/20-b.toml", "interval = \"2ms\"\n"),
        ("agent.d/10-a.toml", "interval = \"9ms\"\n"),
        ("agent.d/.10-a.toml", "not TOML"),
        ("agent.d/notes.txt", "not TOML"),
        ("one.toml", "interval = \"5ms\"\niface = \"p9\""),
    ]);
    assert_eq!(interval_ms(&host, "--config none --iface p1"), 500);
    assert_eq!(interval_ms(&host, "--iface p1"), 2, "the later drop-in");
    assert_eq!(interval_ms(&host, ""), 3, "the only table");
    assert_eq!(interval_ms(&host, "--iface p2 --interval 4ms"), 4);
    assert_eq!(interval_ms(&host, "--config DIR/one.toml"), 5);
    let host = host.with("INTERVAL=6ms INTERVALL=x OTLP=");
    assert_eq!(interval_ms(&host, "--iface p2"), 6);
    assert_eq!(interval_ms(&host, "--iface p2 --interval 4ms"), 4);
    let host = host.with("CONFIG=none IFACE=p7");
    assert_eq!(interval_ms(&host, ""), 500);
    assert_eq!(host.agent("").endpoint.port.interface, "p7");
}

#[test]
fn every_kind_of_value_is_taken_from_files_and_variables() {
    let host = Host::new([
        (
            "agent.toml",
            "iface = \"p1\"\npeer = [\"10.1.1.2\", \"10.1.1.3\"]\nrate = 1_000\nport = [1910, 862]\nno-group = true\n\
             attach = \"tc\"\nverbose = 2\necho = \"off\"\n",
        ),
        ("controller.toml", "reroute-gain = 7.5\ntap = \"p3\"\n"),
    ]);
    let config = host.agent("");
    let peers = |config: &AgentConfig| {
        config
            .core
            .static_peers
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(peers(&config), ["10.1.1.2", "10.1.1.3"]);
    assert_eq!(config.endpoint.port.answering.rates.port, 1_000);
    assert_eq!(config.endpoint.port.test_ports(), [1910, 862]);
    assert!(!config.group_probes && config.endpoint.responder.is_none());
    let config = host.controller("");
    assert_eq!(
        (config.forwarding.reroute_gain, config.taps),
        (0.075, vec!["p3".to_owned()])
    );

    let host = host.with("PEER=10.1.1.4,10.1.1.5_10.1.1.6 NO_GROUP=0 PORT=7");
    let config = host.agent("");
    assert_eq!(peers(&config), ["10.1.1.4", "10.1.1.5", "10.1.1.6"]);
    assert!(config.group_probes);
    assert_eq!(config.endpoint.port.test_ports(), [7]);
    assert_eq!(
        peers(&host.agent("--peer 10.1.1.9")),
        ["10.1.1.9"],
        "lists are replaced"
    );
}

#[test]
fn a_heavier_flag_replaces_one_that_it_conflicts_with() {
    let host = Host::new([("agent.toml", "no-group = true\npeer = \"10.1.1.2\"\n")]);
    assert!(!host.agent("--iface p1").group_probes);
    assert!(host.agent("--iface p1 --group 239.1.1.1").group_probes);
    assert!(host.agent("--iface p1 --legacy-peers").group_probes);
    let host = Host::new([("agent.toml", "group = [\"239.1.1.1\"]\npeer = \"10.1.1.2\"\n")]).with("NO_GROUP=true");
    assert!(!host.agent("--iface p1").group_probes);
    let host = Host::new([(
        "agent.toml",
        "group = [\"239.1.1.1\"]\nno-group = true\npeer = [\"10.1.1.2\"]\n",
    )]);
    let error = host.load("agent --iface p1").unwrap_err();
    assert!(
        error.starts_with("DIR/agent.toml:1: the argument 'group <ADDR>' cannot be used with 'no-group'"),
        "{error}"
    );
}

#[test]
fn one_interface_is_measured_by_a_process() {
    let host = Host::new([
        ("agent.toml", "report = \"3s\"\n[interface.p1]\npeer = [\"10.1.1.2\"]\n"),
        ("agent.d/p2.toml", "[interface.p2]\nreport = \"4s\"\n"),
    ]);
    assert_eq!(
        host.load("agent").unwrap_err(),
        "several interfaces are configured: p1 (DIR/agent.toml:2), p2 (DIR/agent.d/p2.toml:1); name one by --iface"
    );
    let config = host.agent("--iface p1");
    assert_eq!(
        (config.core.report_ns, config.core.static_peers.len()),
        (3_000_000_000, 1)
    );
    let config = host.agent("--iface p2");
    assert_eq!(
        (config.core.report_ns, config.core.static_peers.len()),
        (4_000_000_000, 0)
    );
    assert_eq!(host.agent("--iface p3").core.report_ns, 3_000_000_000);

    let twice = Host::new([
        ("agent.toml", "[interface.p1]\n"),
        ("agent.d/p1.toml", "\n[interface.p1]\nreport = \"4s\"\n"),
    ]);
    assert_eq!(
        twice.load("agent").unwrap_err(),
        "DIR/agent.d/p1.toml:2: the interface p1 is configured at DIR/agent.toml:1 already; keep one of the two tables"
    );
}

#[test]
fn each_mistake_in_a_file_is_one_line_with_its_place() {
    let table = [
        (
            "intervall = \"1s\"",
            1,
            "intervall is not a key of `kstamp agent`; did you mean interval?",
        ),
        (
            "zzz = 1",
            1,
            "zzz is not a key of `kstamp agent`; `kstamp config default agent` prints all keys",
        ),
        ("config = \"x\"", 1, "config is not a key of"),
        ("interval = 500ms", 1, "this is not TOML ("),
        ("report = \"1s\"\nreport = \"2s\"", 2, "this is not TOML (duplicate key"),
        (
            "\n\ntimeout = true",
            3,
            "timeout takes a string or a number, found boolean; write timeout = \"2s\"",
        ),
        (
            "peer = [\n\"10.1.1.2\",\n{}]",
            1,
            "peer takes a list of strings, found inline table; write peer = [\"ADDR\"]",
        ),
        (
            "no-group = \"yes\"",
            1,
            "no-group takes true or false, found string; write no-group = false",
        ),
        (
            "verbose = 300",
            1,
            "verbose takes a number from 0 to 255, found another number",
        ),
        (
            "report = [\"1s\", \"2s\"]",
            1,
            "report takes a string or a number, found array",
        ),
        ("interface = \"p1\"", 1, "interface has a table for each interface"),
        (
            "interface.p1 = 3",
            1,
            "interface.p1 is not a table; write [interface.p1]",
        ),
        (
            "[interface.p1]\niface = \"p1\"",
            2,
            "iface is the name of the table; leave it out",
        ),
        ("[interface.\"a/b\"]", 1, "iface: 'a/b' cannot be an interface name"),
        ("[other]", 1, "other is not a key of"),
        (
            "iface = \"p1\"\ninterval = \"3x\"",
            2,
            "interval '3x' is not a duration; write a number and a unit",
        ),
        (
            "iface = \"p1\"\nattach = \"x\"",
            2,
            "invalid value 'x' for 'attach <MODE>' [possible values: auto,",
        ),
        (
            "iface = \"p1\"\ntimeout = \"60s\"",
            2,
            "--peer-expiry 30s is shorter than timeout 60s, so that",
        ),
        (
            "iface = \"p1\"\nkey-file = \"/nonexistent/key\"",
            2,
            "key-file: cannot read the file /nonexistent/key: No such",
        ),
    ];
    for (text, line, expected) in table {
        let error = Host::new([("agent.toml", text)]).load("agent").unwrap_err();
        let expected = format!("DIR/agent.toml:{line}: {expected}");
        assert!(error.starts_with(&expected) && !error.contains('\n'), "{text}: {error}");
    }
    let host = Host::new([]);
    for (variables, expected) in [
        ("INTERVAL=3x", "KSTAMP_INTERVAL: interval '3x' is not a duration"),
        ("NO_GROUP=yes", "KSTAMP_NO_GROUP: 'yes' is not true or false"),
        (
            "CONFIG=/nonexistent.toml",
            "cannot read the file /nonexistent.toml: No such",
        ),
    ] {
        let host = Host {
            directory: tempfile::tempdir().unwrap(),
            variables: host.variables.clone(),
        }
        .with(variables);
        let error = host.load("agent --iface p1").unwrap_err();
        assert!(error.starts_with(expected), "{variables}: {error}");
    }
    let mut host = Host::new([]);
    let value = OsString::from_vec(b"\xff".to_vec());
    host.variables.insert("KSTAMP_REPORT".into(), value);
    let error = host.load("agent --iface p1").unwrap_err();
    assert!(error.starts_with("KSTAMP_REPORT: report: invalid UTF-8"), "{error}");
    let error = Host::new([("controller.toml", "[interface.p1]")])
        .load("controller")
        .unwrap_err();
    assert!(
        error.starts_with("DIR/controller.toml:1: interface is not a key of"),
        "{error}"
    );
}

#[test]
fn a_file_that_others_can_change_is_refused() {
    let host = Host::new([("agent.toml", "iface = \"p1\"\n")]);
    for (mode, is_refused) in [(0o644, false), (0o600, false), (0o664, true), (0o646, true)] {
        let path = host.directory.path().join("agent.toml");
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let error = host.load("agent").err();
        assert_eq!(error.is_some(), is_refused, "{mode:o}: {error:?}");
        let expected = format!(
            "other users can change the file DIR/agent.toml (mode {mode:04o}); `chmod go-w DIR/agent.toml` prevents it"
        );
        assert!(error.is_none_or(|error| error == expected));
    }
    fs::create_dir(host.directory.path().join("reflect.toml")).unwrap();
    let error = host.load("reflect --iface p1").unwrap_err();
    assert!(error.contains("DIR/reflect.toml is a directory"), "{error}");
}

#[test]
fn check_names_everything_that_is_wrong() {
    let host = Host::new([
        (
            "agent.toml",
            "interval = \"3x\"\nreprot = \"1s\"\nweb-config = \"/nonexistent\"\nno-group = true\n\
             [interface.p1]\npeer = [\"nobody\"]\n[interface.p2]\npeer = [\"10.1.1.1\"]\nfamily = \"v5\"\n",
        ),
        ("reflect.toml", "format = \"csv\"\n"),
    ]);
    let error = host.load("config check").unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    let expected = [
        "DIR/agent.toml:2: reprot is not a key",
        "DIR/agent.toml:3: web-config: the following required arguments were not provided: --listen",
        "DIR/agent.toml:1: interval '3x'",
        "DIR/agent.toml:6: peer 'nobody' is not an IP address",
        "DIR/agent.toml:9: invalid value 'v5' for 'family",
        "DIR/reflect.toml:1: format csv has a row",
    ];
    for expected in expected {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{expected}:\n{error}"
        );
    }
    assert_eq!(lines.len(), expected.len(), "{error}");
}

#[test]
fn check_says_what_it_has_read() {
    let host = Host::new([
        ("agent.toml", "[interface.p1]\n[interface.p2]\n"),
        ("agent.d/a.toml", "report = \"1s\""),
    ]);
    assert_eq!(
        host.text("config check"),
        "agent: DIR/agent.toml, DIR/agent.d/a.toml: valid, with p1, p2\nreflect: no file: valid\ncontroller: no file: valid\nhub: no file: valid\n"
    );
    assert_eq!(
        host.text("config check agent --iface p3"),
        "agent: DIR/agent.toml, DIR/agent.d/a.toml: valid, with p3\n"
    );
    let error = host.load("config check agent --interval 3x").unwrap_err();
    assert_eq!(error, host.load("agent --iface p1 --interval 3x").unwrap_err());
    let error = host.load("config check agent --interval 1s --help").unwrap_err();
    assert_eq!(error, "--help prints a page and configures nothing; leave it out");
}

#[test]
fn show_names_the_source_of_each_value() {
    let host = Host::new([(
        "agent.toml",
        "peer = [\"10.1.1.2\"]\nno-group = true\n\n[interface.p1]\nreport = \"1s\"\n",
    )])
    .with("RATE=5");
    let text = host.text("config show agent --interval 1ms");
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for expected in [
        "iface = \"p1\" # DIR/agent.toml:4",
        "peer = [\"10.1.1.2\"] # DIR/agent.toml:1",
        "no-group = true # DIR/agent.toml:2",
        "report = \"1s\" # DIR/agent.toml:5",
        "rate = 5 # KSTAMP_RATE",
        "interval = \"1ms\" # command line",
        "timeout = \"2s\" # default",
        "stateless = false # default",
        "# otlp = \"URL\" # not set",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}:\n{text}");
    }
}

#[test]
fn every_line_of_the_default_file_can_be_uncommented() {
    for command in ["agent", "reflect", "controller", "hub"] {
        let text = Host::new([]).text(&format!("config default {command}"));
        assert!(
            text.lines().all(|line| line.starts_with('#') || line.is_empty()),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let uncommented = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
            _ => line.to_owned(),
        };
        let lines: Vec<_> = text.lines().map(uncommented).collect();
        let name = format!("{command}.toml");
        let host = Host::new([(&*name, &*lines.join("\n"))]);
        let shown = host.text(&format!("config show {command}"));
        let keys = shown
            .lines()
            .filter(|line| line.contains(&format!("# DIR/{name}:")))
            .count();
        assert_eq!(keys, shown.lines().count(), "{shown}");
    }
}
