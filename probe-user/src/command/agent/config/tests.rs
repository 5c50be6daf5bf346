//! The flags of `kstamp agent` and `kstamp reflect`.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use probe_core::attach::AttachMode;
use probe_core::reflector::policy::Rates;
use probe_host::hostname::default_agent_name;
use probe_io::compare::priority::Priority;
use probe_io::port::{Choice, Engine};

use super::*;
use crate::command::reflect::ReflectConfig;
use crate::command::shared::families::DEFAULT_GROUPS;
use crate::command::{Command, ParseError, parse, read};
use crate::output::AgentFormat;

/// `kstamp agent --iface p1` and more flags; `_` stands for a space within a value.
fn agent(flags: &str) -> AgentConfig {
    match read(&format!("agent --iface p1 {flags}")) {
        Ok(Command::Agent(config)) => *config,
        other => panic!("{flags}: {other:?}"),
    }
}

fn reflect(flags: &str) -> ReflectConfig {
    match read(&format!("reflect --iface p1 {flags}")) {
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
fn the_help_names_the_default_groups() {
    let Err(ParseError::Help(help)) = parse(["kstamp", "agent", "--help"]) else {
        panic!("no help");
    };
    let (v4, v6) = DEFAULT_GROUPS;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&format!("[default: {v4} and {v6}]")), "{help}");
}

#[test]
fn policy_flags_set_prefixes_and_rates() {
    let answering = agent("--allow 10.9.9.9 --allow fd00::1/48 --rate 0 --rate-source 7 --rate-group 10000000")
        .endpoint
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
    assert_eq!(reflect("--user root").endpoint.user.as_deref(), Some("root"));
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
        (config.endpoint.port.answering.allow.len(), config.endpoint.user),
        (0, None)
    );
    assert_eq!(config.endpoint.port.answering.rates, Rates::DEFAULT);
    let config = agent("");
    assert_eq!(config.endpoint.port.interface, "p1");
    assert_eq!(config.endpoint.port.test_ports(), [1910]);
    let reflector = reflect("").endpoint.port;
    assert_eq!(
        (reflector.test_ports(), reflector.other_ports_are_optional),
        (vec![1910, 862], true)
    );
    assert_eq!(config.endpoint.port.groups, ips(["239.255.255.250", "ff0e::10"]));
    assert_eq!(config.endpoint.port.choice, Choice::Auto);
    assert_eq!(
        (config.endpoint.port.probing, config.endpoint.port.log_level),
        (true, 0)
    );
    assert_eq!(config.endpoint.name, default_agent_name("p1"));
    assert!(!config.endpoint.families_required);
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
            agent: default_agent_name("p1"),
            format: AgentFormat::Text,
            output: None,
            samples: None
        }
    );
}

#[test]
fn the_rings_of_the_default_interval_have_room_for_shorter_ones() {
    let rings = agent("").endpoint.port.rings;
    for (interval, fits) in [("32ms", true), ("31ms", false)] {
        let in_flight = agent(&format!("--interval {interval}")).core.in_flight();
        assert_eq!(rings.hold(3, in_flight), fits, "{interval}");
    }
}

#[test]
fn each_flag_of_an_agent_has_an_effect() {
    assert_eq!(agent("--port 65535").endpoint.port.test_ports(), [65535]);
    let several = agent("--port 1910 --port 862 --port 1910").endpoint.port;
    assert_eq!(
        (several.test_ports(), several.other_ports_are_optional),
        (vec![1910, 862], false)
    );
    assert_eq!(agent("--interval 100us").core.interval_ns, 100_000);
    assert_eq!(agent("--timeout 1500ms").core.timeout_ns, 1_500_000_000);
    assert_eq!(agent("--report 1m_30s").core.report_ns, 90_000_000_000);
    assert_eq!(agent("--peer-expiry 2s").core.peer_expiry_ns, 2_000_000_000);
    assert_eq!(agent("--duration 1h").duration_ns, Some(3_600_000_000_000));
    assert_eq!(agent("--count 3").core.count, Some(3));
    assert_eq!(agent("--name edge_7").endpoint.name, "edge 7");
    assert_eq!(
        agent("--attach xdp-native").endpoint.port.choice,
        Choice::Only(AttachMode::XdpNative)
    );
    assert_eq!(
        agent("--attach xdp-generic").endpoint.port.choice,
        Choice::Only(AttachMode::XdpGeneric)
    );
    assert_eq!(agent("--attach tc").endpoint.port.choice, Choice::Only(AttachMode::Tc));
    assert_eq!(agent("--log-bpf").endpoint.port.log_level, 5);
    assert_eq!(agent("--format jsonl").output.format, AgentFormat::Jsonl);
    assert_eq!(agent("--format csv").output.format, AgentFormat::Csv);
    assert_eq!(agent("--output o").output.output, Some("o".into()));
    let config = agent("--samples s");
    assert_eq!((config.output.samples, config.core.samples), (Some("s".into()), true));
    let config = agent("--no-group --peer 10.1.1.6");
    assert_eq!(
        (config.core.group, config.core.static_peers),
        (NEITHER, ips(["10.1.1.6"]))
    );
    assert_eq!(
        config.endpoint.port.groups.len(),
        2,
        "multicast probes of others are still answered"
    );
}

#[test]
fn each_flag_of_a_reflector_has_an_effect() {
    let config = reflect(
        "--port 862 --group ff05::7 --attach tc --report 1s --duration 5s --name r --format jsonl --output o --log-bpf",
    );
    assert_eq!(
        (config.endpoint.port.test_ports(), config.endpoint.port.groups),
        (vec![862], ips(["ff05::7"]))
    );
    assert_eq!(
        (config.endpoint.port.choice, config.endpoint.port.probing),
        (Choice::Only(AttachMode::Tc), false)
    );
    assert_eq!(config.endpoint.port.log_level, 5);
    assert_eq!(
        (config.report, config.duration),
        (Duration::from_secs(1), Some(Duration::from_secs(5)))
    );
    assert_eq!(
        (config.endpoint.name.as_str(), config.endpoint.families_required),
        ("r", true)
    );
    assert_eq!(
        config.output,
        OutputConfig {
            agent: "r".to_owned(),
            format: AgentFormat::Jsonl,
            output: Some("o".into()),
            samples: None
        }
    );
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
            (&config.endpoint.port.groups, config.endpoint.families_required),
            (&groups, required),
            "{flags}"
        );
        assert_eq!(config.core.group, families_of(&groups), "{flags}");
    }
}

#[test]
fn families_without_an_address_are_left_out_unless_required() {
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
            (families_of(&config.endpoint.port.groups), config.core.group),
            (left, left),
            "{flags} {present:?}"
        );
    }
    let mut config = agent("--no-group --peer 10.1.1.6");
    config.limit_to(V4);
    assert_eq!(
        (families_of(&config.endpoint.port.groups), config.core.group),
        (V4, NEITHER)
    );
    let mut config = reflect("");
    config.limit_to(V6);
    assert_eq!(config.endpoint.port.groups, ips(["ff0e::10"]));
    assert_eq!(
        config.endpoint.port.late,
        ips(["239.255.255.250"]),
        "it waits for an address"
    );
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
fn max_peers_is_limited_by_the_in_flight_table() {
    let max_peers = |flags| agent(flags).core.max_peers;
    assert_eq!(max_peers(""), MAX_PEERS);
    assert_eq!(max_peers("--interval 1ms"), 65536 / 2020 - 2);
    assert_eq!(max_peers("--interval 1ms --family v4"), 65536 / 2020 - 1);
}

#[test]
fn a_hyphen_means_standard_output() {
    assert_eq!(agent("--output -").output.output, None);
}

#[test]
fn each_bad_value_has_its_message() {
    let table = [
        "--port 0 => --port '0' is not a UDP port; use 1 to 65535",
        "--allow 10.1.1.0/33 => --allow '10.1.1.0/33' is not a prefix; write an address and a length: 10.1.0.0/16, \
         fd01::/64",
        "--rate-source -1 => --rate-source '-1' is not a number of packets a second; use 1 to 10000000, or 0 for no \
         limit",
        "--rate 10000001 => --rate '10000001' is not a number of packets a second; use 1 to 10000000, or 0 for no \
         limit",
        "--rate-group many => --rate-group 'many' is not a number of packets a second; use 1 to 10000000, or 0 for \
         no limit",
        "--volley-limit -1 => --volley-limit '-1' is not a number from 0 to 10000000",
        "--volley-limit 10000001 => --volley-limit '10000001' is not a number from 0 to 10000000",
        "--user no-such-user => --user: there is no user 'no-such-user'; `getent passwd` lists the users",
        "--port 1 --port 2 --port 3 --port 4 --port 5 => 5 ports are too many; give --port at most 4 times",
        "--port 65536 => --port '65536' is not a UDP port; use 1 to 65535",
        "--group 10.0.0.1 => --group 10.0.0.1 is not a multicast address; use one in 224.0.0.0/4 or ff00::/8",
        "--group all => --group 'all' is not an IP address; names are not looked up",
        "--group 239.1.1.1 --group 239.1.1.2 => --group 239.1.1.1 and --group 239.1.1.2 are both IPv4; give one of \
         each IP version",
        "--group 239.1.1.1 --family v6 => --group 239.1.1.1 is IPv4, which --family leaves out; drop one of the two",
        "--interval 0s => --interval 0s must be more than 0",
        "--interval soon => --interval 'soon' is not a duration; write a number and a unit: 500ms, 2s, 1m 30s",
        "--interval 999ns => --interval 999ns is too short: no host sends that fast; use 1us or more",
        "--timeout 0ms => --timeout 0ms must be more than 0",
        "--timeout 2y --peer-expiry 3y => --timeout 2y is longer than a year",
        "--report 0s => --report 0s must be more than 0",
        "--report 5 => --report '5' is not a duration; write a number and a unit: 500ms, 2s, 1m 30s",
        "--duration 0s => --duration 0s must be more than 0",
        "--peer-expiry 1s => --peer-expiry 1s is shorter than --timeout 2s, so that a reply in time could come from \
         a peer that is down; make it at least as long",
        "--interval 100us --timeout 10s => --timeout 10s at --interval 100us keeps 200400 probes in flight, and the \
         limit is 65536; use a longer interval or a shorter timeout",
        "--count 0 => --count '0' is not a number of probes; use 1 or more",
        "--count -1 => --count '-1' is not a number of probes; use 1 or more",
        "--peer nobody => --peer 'nobody' is not an IP address; names are not looked up",
        "--peer 239.1.1.1 => --peer 239.1.1.1 is a multicast address; give a port's own address (kstamp agent takes \
         groups by --group)",
        "--peer 0.0.0.0 => --peer 0.0.0.0 is not the address of another port; give the peer's own address",
        "--peer 255.255.255.255 => --peer 255.255.255.255 is not the address of another port; give the peer's own \
         address",
        "--peer ::1 => --peer ::1 is not the address of another port; give the peer's own address",
        "--peer fe80::1 --peer fe80::1%p1 => --peer fe80::1%p1 is given twice",
        "--peer fe80::1%p2 => --peer fe80::1%p2 is reached by p2, and --iface is p1; write --peer fe80::1, or name \
         the other interface",
        "--peer fe80::1 --family v4 => --peer fe80::1 is IPv6, which --family or --group leaves out; add --family \
         both",
        "--no-group => --no-group leaves no peer to probe; name one with --peer, or use `kstamp reflect`",
        "--no-group --group 239.1.1.1 => the argument '--no-group' cannot be used with '--group <ADDR>'; see --help",
        "--samples o --output o => --samples and --output name the same file; give each its own",
        "--name a\u{7} => --name \"a\\u{7}\" cannot be shown by peers; use 1 to 64 bytes of visible characters with \
         single blanks between them",
        "--name a\u{202e}b => --name \"a\\u{202e}b\" cannot be shown by peers; use 1 to 64 bytes of visible characters \
         with single blanks between them",
        "--family v5 => invalid value 'v5' for '--family <FAMILY>' [possible values: v4, v6, both]; see --help",
        "--attach fast => invalid value 'fast' for '--attach <MODE>' [possible values: auto, xdp-native, \
         xdp-generic, tc]; see --help",
        "--format xml => invalid value 'xml' for '--format <FORMAT>' [possible values: text, jsonl, csv]; see --help",
        "--interva 1s => unexpected argument '--interva' found; a similar argument exists: '--interval'; see --help",
    ];
    for case in table {
        let (flags, expected) = case.split_once(" => ").unwrap();
        let error = read(&format!("agent --iface p1 {flags}")).unwrap_err();
        assert_eq!(error, expected, "{flags}");
    }
}

#[test]
fn the_engine_is_ebpf_unless_sockets_are_requested_or_needed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "a shared secret!").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with_key = format!("--key-file {}", path.display());

    assert_eq!(agent("").endpoint.stamping.engine, Engine::Ebpf);
    assert_eq!(agent("--engine ebpf").endpoint.stamping.engine, Engine::Ebpf);
    assert_eq!(reflect("--engine socket").endpoint.stamping.engine, Engine::Socket);
    let stamping = agent(&with_key).endpoint.stamping;
    assert!(stamping.key.is_some() && stamping.engine == Engine::Socket);
    assert_eq!(agent(&with_key).endpoint.volley_limit, 0, "nobody can ask");
    assert_eq!(
        agent(&with_key).endpoint.responder,
        None,
        "without an identity exchange no peer knows the responder's ports"
    );
    assert!(reflect("--engine socket --stateless").endpoint.stamping.stateless);
    assert!(agent(&format!("{with_key} --stateless")).endpoint.stamping.stateless);

    let for_tlvs = format!("--tlv-key-file {}", path.display());
    let stamping = reflect(&for_tlvs).endpoint.stamping;
    assert!(stamping.tlv_key.is_some() && stamping.key.is_none() && stamping.engine == Engine::Ebpf);

    let refused = |flags: &str, words: &str| {
        let error = read(&format!("agent --iface p1 {flags}")).unwrap_err();
        assert!(error.contains(words) && !error.contains('\n'), "{flags}: {error}");
    };
    refused(&format!("{with_key} {for_tlvs}"), "leave it out");
    refused("--tlv-key-file /nonexistent/key", "--tlv-key-file: cannot read");
    refused(&format!("--engine ebpf {with_key}"), "leave it out");
    refused("--stateless", "--engine socket");
    refused("--engine ebpf --stateless", "--engine socket");
    refused("--engine socket --attach tc", "--attach");
    refused("--engine socket --log-bpf", "--log-bpf");
    refused("--engine sockets", "socket");
    refused("--key-file /nonexistent/key", "/nonexistent/key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    refused(&with_key, "chmod 600");
}

#[test]
fn the_volley_limit_is_within_the_other_limits() {
    for (flags, expected) in [
        ("", 100_000),
        ("--volley-limit 0", 0),
        ("--volley-limit 200000", 200_000),
        ("--volley-limit 1000000", 500_000),
        ("--volley-limit 10000000 --rate 0 --rate-source 0", 10_000_000),
        ("--rate 7", 7),
        // What a process can answer.
        ("--engine socket", 25_000),
        ("--engine socket --rate 10 --rate-source 20", 10),
        ("--engine socket --rate 0 --rate-source 0", 100_000),
    ] {
        let found = (agent(flags).endpoint.volley_limit, reflect(flags).endpoint.volley_limit);
        assert_eq!(found, (expected, expected), "{flags}");
    }
}

#[test]
fn the_responder_runs_unless_it_is_switched_off() {
    for flag in ["--responder", "--echo"] {
        for (value, expected) in [
            ("on", Some(Priority::Normal)),
            ("realtime", Some(Priority::Realtime)),
            ("off", None),
        ] {
            let flags = format!("{flag} {value}");
            assert_eq!(
                (agent(&flags).endpoint.responder, reflect(&flags).endpoint.responder),
                (expected, expected),
                "{flags}"
            );
        }
    }
    assert_eq!(agent("").endpoint.responder, Some(Priority::Normal));
    assert_eq!(reflect("").endpoint.responder, Some(Priority::Normal));
}

#[test]
fn legacy_peers_are_probed_on_request() {
    assert!(!agent("").legacy_peers);
    assert!(agent("--legacy-peers").legacy_peers);
    assert!(agent("--echo-peers").legacy_peers, "the old spelling");
}

#[test]
fn old_spellings_are_hidden() {
    let Err(ParseError::Help(help)) = parse(["kstamp", "agent", "--help"]) else {
        panic!("no help");
    };
    assert!(
        help.contains("--legacy-peers") && help.contains("--responder"),
        "{help}"
    );
    assert!(!help.contains("--echo"), "{help}");
}

#[test]
fn metrics_are_sent_to_a_receiver_that_the_flags_describe() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), "Authorization: Bearer 7\n").unwrap();
    let refused = |flags: &str, part: &str| {
        let error = read(&format!("agent --iface p1 {flags}")).expect_err(flags).to_string();
        assert!(error.contains(part), "{flags}: {error}");
    };
    let headers = format!("--otlp http://h:4318 --otlp-headers {}", path.path().display());
    assert!(agent("").otlp.is_none() && !agent("").core.delays);
    let config = agent(&headers);
    let otlp = config.otlp.unwrap();
    assert_eq!((otlp.url.as_str(), otlp.headers.len()), ("http://h:4318/v1/metrics", 1));
    assert!(config.core.delays, "histograms need them");
    assert_eq!(
        agent("--otlp http://h --metrics-detail total").metrics_detail,
        Detail::Total
    );
    for (flags, part) in [
        ("--otlp h:4318", "--otlp 'h:4318' is not an address of a receiver"),
        ("--otlp http://ann:secret@h", "put them into --otlp-headers FILE"),
        ("--otlp-headers f", "--otlp <URL>"),
        ("--otlp-ca f", "--otlp <URL>"),
        (
            "--otlp https://h --otlp-ca /nonexistent",
            "--otlp-ca /nonexistent: No such file",
        ),
        (
            "--otlp https://h --otlp-headers /nonexistent",
            "--otlp-headers: cannot read the file /nonexistent",
        ),
        ("--metrics-detail total", "add one of them"),
        ("--noise-floor f", "add one of them"),
        (
            "--listen 127.0.0.1:9862 --noise-floor /nonexistent",
            "--noise-floor /nonexistent: No such file",
        ),
    ] {
        refused(flags, part);
    }
    std::fs::set_permissions(path.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&headers, "chmod 600");
    std::fs::set_permissions(path.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path.path(), "x".repeat(20_000)).unwrap();
    refused(&headers, "longer than");
}

#[test]
fn hops_are_stamped_on_request() {
    let config = agent("");
    assert_eq!(
        (config.endpoint.hops, config.core.samples, config.cold),
        (None, false, None)
    );
    let config = agent("--hops --timeout 1s");
    assert!(config.core.samples, "each probe is split");
    let hops = config.endpoint.hops.unwrap();
    assert_eq!(hops.host_netns, None);
    let expected = HopsConfig {
        samples: false,
        delays: false,
        outlier_ns: None,
        timeout_ns: 1_000_000_000,
    };
    assert_eq!(hops.core, expected);
    let hops = |flags: &str| agent(flags).endpoint.hops.unwrap();
    assert!(hops("--hops --samples s").core.samples);
    assert!(hops("--hops --listen 127.0.0.1:9862").core.delays);
    assert_eq!(hops("--hops --outlier 1ms").core.outlier_ns, Some(1_000_000));
    assert_eq!(hops("--hops --outlier auto").core.outlier_ns, None);
    let (flags, file) = (
        "--hops --host-netns /proc/self/ns/net",
        Some("/proc/self/ns/net".into()),
    );
    assert_eq!(hops(flags).host_netns, file);
    assert_eq!(reflect(flags).endpoint.hops.unwrap().host_netns, file);
}

#[test]
fn the_database_of_open_vswitch_is_read_where_the_flag_says() {
    for (flags, expected) in [
        ("", Ovsdb::Usual),
        ("--ovsdb none", Ovsdb::None),
        ("--ovsdb /run/ovs/db.sock", Ovsdb::At("/run/ovs/db.sock".into())),
    ] {
        assert_eq!(agent(flags).ovsdb, expected, "{flags}");
    }
    let error = read("agent --iface p1 --ovsdb db.sock").unwrap_err();
    assert!(
        error.contains("--ovsdb 'db.sock' is no absolute path of a socket"),
        "{error}"
    );
}

#[test]
fn cold_probes_are_sent_on_request() {
    for (flags, interval_ns) in [
        ("", None),
        ("--cold 1", Some(1_000_000_000)),
        ("--cold 5", Some(200_000_000)),
    ] {
        let config = agent(flags);
        assert_eq!(config.cold.map(|cold| cold.interval_ns), interval_ns, "{flags}");
        assert_eq!(config.endpoint.port.cold, interval_ns.is_some(), "{flags}");
    }
    // Two sessions of each peer share the room.
    let most = |flags: &str| agent(flags).core.max_peers;
    assert_eq!(most("--interval 100us --cold 1"), most("--interval 100us") / 2);
}

#[test]
fn wrong_flags_about_hops_are_refused() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "a shared secret!").unwrap();
    let with_key = format!("--hops --key-file {}", key.path().display());
    for (flags, part) in [
        ("--host-netns /proc/self/ns/net", "--hops"),
        ("--outlier 1ms", "--hops"),
        (
            "--hops --host-netns /nonexistent",
            "--host-netns /nonexistent: No such file or directory",
        ),
        (
            "--hops --outlier often",
            "--outlier 'often' is neither auto nor a duration; write 1ms, or auto",
        ),
        ("--hops --outlier 0s", "--outlier 0s must be more than 0"),
        (&with_key, "drop one of the two"),
        ("--cold 0", "--cold '0' is not a number of probes a second; use 1 to 5"),
        ("--cold 6", "use 1 to 5"),
        ("--cold -1", "use 1 to 5"),
        ("--cold 1 --engine socket", "drop one of the two"),
        ("--cold 1 --key-file k", "cannot be used with"),
    ] {
        let error = read(&format!("agent --iface p1 {flags}")).unwrap_err();
        assert!(error.contains(part) && !error.contains('\n'), "{flags}: {error}");
    }
}
