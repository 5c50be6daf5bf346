//! Every flag, and what becomes of it.

mod compare;
mod refusals;
mod stamping;

use std::net::IpAddr;

use super::*;
use crate::command::args::{ParseError, parse};

fn run(line: &str) -> Result<Command, String> {
    let words = line.split_whitespace().map(|word| word.replace('_', " "));
    let cli = parse(std::iter::once("kstamp".to_owned()).chain(words)).map_err(|error| error.to_string())?;
    validate(cli).map_err(|error| error.to_string())
}

/// `kstamp agent --iface p1` and more flags; `_` stands for a space within a value.
fn agent(flags: &str) -> AgentConfig {
    match run(&format!("agent --iface p1 {flags}")) {
        Ok(Command::Agent(config)) => *config,
        other => panic!("{flags}: {other:?}"),
    }
}

fn reflect(flags: &str) -> ReflectConfig {
    match run(&format!("reflect --iface p1 {flags}")) {
        Ok(Command::Reflect(config)) => *config,
        other => panic!("{flags}: {other:?}"),
    }
}

fn ips<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}

const V4: Families = Families { v4: true, v6: false };
const V6: Families = Families { v4: false, v6: true };
const BOTH: Families = Families { v4: true, v6: true };
const NEITHER: Families = Families { v4: false, v6: false };

#[test]
fn clap_finds_no_fault_with_the_definitions() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn the_help_names_the_default_groups() {
    let Err(ParseError::Help(help)) = parse(["kstamp", "agent", "--help"]) else {
        panic!("no help");
    };
    let (v4, v6) = families::DEFAULT_GROUPS;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&format!("[default: {v4} and {v6}]")), "{help}");
}

#[test]
fn who_is_answered_and_how_often() {
    let answering = agent("--allow 10.9.9.9 --allow fd00::1/48 --rate 0 --rate-source 7 --rate-group 10000000")
        .station
        .port
        .answering;
    let allowed: Vec<_> = answering.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.9.9.9/32", "fd00::/48"]);
    let rates = Rates {
        port: 0,
        source: 7,
        group: 10_000_000,
    };
    assert_eq!(answering.rates, rates);
    assert_eq!(reflect("--user root").station.user.as_deref(), Some("root"));
    let Err(ParseError::Help(help)) = parse(["kstamp", "reflect", "--help"]) else {
        panic!("no help");
    };
    for default in ["[default: 2000000]", "[default: 500000]", "[default: 50000]"] {
        assert!(help.contains(default), "{help}");
    }
}

#[test]
fn defaults() {
    let config = agent("");
    assert_eq!(
        (config.station.port.answering.allow.len(), config.station.user),
        (0, None)
    );
    assert_eq!(config.station.port.answering.rates, Rates::DEFAULT);
    let config = agent("");
    assert_eq!(config.station.port.interface, "p1");
    assert_eq!(config.station.port.test_port, 1910);
    assert_eq!(config.station.port.groups, ips(["239.255.255.250", "ff0e::10"]));
    assert_eq!(config.station.port.choice, Choice::Auto);
    assert_eq!((config.station.port.probing, config.station.port.log_level), (true, 0));
    assert_eq!(config.station.name, default_agent_name("p1"));
    assert!(!config.station.families_required);
    assert_eq!(config.core.interval_ns, 500_000_000);
    assert_eq!(config.core.timeout_ns, 2_000_000_000);
    assert_eq!(config.core.report_ns, 10_000_000_000);
    assert_eq!(config.core.peer_expiry_ns, 30_000_000_000);
    assert_eq!((config.core.count, config.duration_ns), (None, None));
    assert_eq!((config.core.group, config.core.unicast), (BOTH, true));
    assert_eq!(config.core.static_peers, ips([]));
    assert_eq!(config.core.max_peers, MAX_PEERS);
    assert!(!config.core.samples);
    assert_eq!(
        config.output,
        OutputConfig {
            format: Format::Text,
            output: None,
            samples: None
        }
    );
}

#[test]
fn each_flag_of_an_agent_is_heeded() {
    assert_eq!(agent("--port 65535").station.port.test_port, 65535);
    assert_eq!(agent("--interval 100us").core.interval_ns, 100_000);
    assert_eq!(agent("--timeout 1500ms").core.timeout_ns, 1_500_000_000);
    assert_eq!(agent("--report 1m_30s").core.report_ns, 90_000_000_000);
    assert_eq!(agent("--peer-expiry 2s").core.peer_expiry_ns, 2_000_000_000);
    assert_eq!(agent("--duration 1h").duration_ns, Some(3_600_000_000_000));
    assert_eq!(agent("--count 3").core.count, Some(3));
    assert_eq!(agent("--name edge_7").station.name, "edge 7");
    assert_eq!(
        agent("--attach xdp-native").station.port.choice,
        Choice::Only(ReceiveMode::XdpNative)
    );
    assert_eq!(
        agent("--attach xdp-generic").station.port.choice,
        Choice::Only(ReceiveMode::XdpGeneric)
    );
    assert_eq!(agent("--attach tc").station.port.choice, Choice::Only(ReceiveMode::Tc));
    assert_eq!(agent("--log-bpf").station.port.log_level, 5);
    assert_eq!(agent("--format jsonl").output.format, Format::Jsonl);
    assert_eq!(agent("--output o").output.output, Some("o".into()));
    let config = agent("--samples s");
    assert_eq!((config.output.samples, config.core.samples), (Some("s".into()), true));
    let config = agent("--no-group --peer 10.1.1.6");
    assert_eq!(
        (config.core.group, config.core.static_peers),
        (NEITHER, ips(["10.1.1.6"]))
    );
    assert_eq!(
        config.station.port.groups.len(),
        2,
        "group probes of others are still answered"
    );
}

#[test]
fn each_flag_of_a_reflector_is_heeded() {
    let config = reflect(
        "--port 862 --group ff05::7 --attach tc --report 1s --duration 5s --name r --format jsonl --output o --log-bpf",
    );
    assert_eq!(
        (config.station.port.test_port, config.station.port.groups),
        (862, ips(["ff05::7"]))
    );
    assert_eq!(
        (config.station.port.choice, config.station.port.probing),
        (Choice::Only(ReceiveMode::Tc), false)
    );
    assert_eq!(config.station.port.log_level, 5);
    assert_eq!(
        (config.report, config.duration),
        (Duration::from_secs(1), Some(Duration::from_secs(5)))
    );
    assert_eq!(
        (config.station.name.as_str(), config.station.families_required),
        ("r", true)
    );
    assert_eq!(
        config.output,
        OutputConfig {
            format: Format::Jsonl,
            output: Some("o".into()),
            samples: None
        }
    );
}

#[test]
fn doctor_looks_at_an_interface_if_it_is_given_one() {
    for (line, expected) in [("doctor", None), ("doctor --iface p1", Some("p1"))] {
        match run(line) {
            Ok(Command::Doctor(config)) => assert_eq!(config.interface.as_deref(), expected),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn verbosity_is_counted_before_and_after_the_subcommand() {
    for (line, verbose) in [
        ("doctor", 0),
        ("-v doctor", 1),
        ("doctor -vv", 2),
        ("doctor --verbose", 1),
    ] {
        let words = std::iter::once("kstamp").chain(line.split_whitespace());
        assert_eq!(parse(words).unwrap().verbose, verbose, "{line}");
    }
}

#[test]
fn families_follow_the_flags_that_name_them() {
    let table = [
        ("", vec!["239.255.255.250", "ff0e::10"], false),
        ("--family both", vec!["239.255.255.250", "ff0e::10"], true),
        ("--family v4", vec!["239.255.255.250"], true),
        ("--family v6", vec!["ff0e::10"], true),
        ("--group 239.1.1.1", vec!["239.1.1.1"], true),
        ("--group ff05::7", vec!["ff05::7"], true),
        ("--group ff05::7 --group 239.1.1.1", vec!["239.1.1.1", "ff05::7"], true),
        ("--group 239.1.1.1 --family both", vec!["239.1.1.1", "ff0e::10"], true),
    ];
    for (flags, groups, required) in table {
        let groups: Vec<IpAddr> = groups.iter().map(|group| group.parse().unwrap()).collect();
        let config = agent(flags);
        assert_eq!(
            (&config.station.port.groups, config.station.families_required),
            (&groups, required),
            "{flags}"
        );
        assert_eq!(config.core.group, families_of(&groups), "{flags}");
    }
}

#[test]
fn families_that_the_interface_lacks_are_left_out_unless_required() {
    let table = [
        ("", V4, V4),
        ("", V6, V6),
        ("", BOTH, BOTH),
        ("", NEITHER, BOTH),
        ("--family both", V4, BOTH),
        ("--group 239.1.1.1", V6, V4),
        ("--peer fe80::1", V4, BOTH),
    ];
    for (flags, present, left) in table {
        let mut config = agent(flags);
        config.limit_to(present);
        assert_eq!(
            (families_of(&config.station.port.groups), config.core.group),
            (left, left),
            "{flags} {present:?}"
        );
    }
    let mut config = agent("--no-group --peer 10.1.1.6");
    config.limit_to(V4);
    assert_eq!(
        (families_of(&config.station.port.groups), config.core.group),
        (V4, NEITHER)
    );
    let mut config = reflect("");
    config.limit_to(V6);
    assert_eq!(config.station.port.groups, ips(["ff0e::10"]));
}

#[test]
fn peers_are_addresses_on_the_interface() {
    let config = agent("--peer 10.1.1.6 --peer fe80::6%p1 --peer fe80::7 --peer ::ffff:10.1.1.8");
    assert_eq!(
        config.core.static_peers,
        ips(["10.1.1.6", "fe80::6", "fe80::7", "10.1.1.8"])
    );
}

#[test]
fn session_identifiers_are_never_zero() {
    for (process, ssid) in [(0, 1), (1, 2), (65_534, 65_535), (65_535, 1), (u32::MAX, 1)] {
        assert_eq!(first_ssid(process), ssid);
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    for words in [["kstamp", "--help"], ["kstamp", "--version"], ["agent", "--help"]] {
        let line = if words[0] == "kstamp" {
            words.to_vec()
        } else {
            [&["kstamp"], &words[..]].concat()
        };
        assert!(matches!(parse(line), Err(ParseError::Help(_))), "{words:?}");
    }
}

#[test]
fn there_are_no_more_peers_than_the_kernel_can_remember_probes_of() {
    let most = |flags| agent(flags).core.max_peers;
    assert_eq!(most(""), MAX_PEERS);
    assert_eq!(most("--interval 1ms"), 65536 / 2020 - 2);
    assert_eq!(most("--interval 1ms --family v4"), 65536 / 2020 - 1);
}

#[test]
fn a_hyphen_is_standard_output() {
    assert_eq!(agent("--output -").output.output, None);
}
