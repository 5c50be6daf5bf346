use super::*;
use crate::command::{Command, read};

fn ips<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}

fn compare(flags: &str) -> Result<CompareConfig, String> {
    match read(&format!("compare --iface p1 --peer 10.1.1.6 {flags}"))? {
        Command::Compare(config) => Ok(*config),
        other => panic!("{flags}: {other:?}"),
    }
}

#[test]
fn defaults_of_compare() {
    let config = compare("").unwrap();
    assert_eq!(config.port.interface, "p1");
    assert_eq!((config.port.test_port, config.port.probing), (1910, true));
    assert_eq!(config.port.groups, ips(["239.255.255.250"]));
    assert_eq!(config.port.choice, Choice::Auto);
    assert_eq!(config.peer, ips(["10.1.1.6"])[0]);
    assert_eq!((config.interval_ns, config.duration_ns), (10_000_000, 10_000_000_000));
    assert_eq!(config.timeout_ns, 2_000_000_000);
    assert_eq!((config.stress, config.priority), (None, Priority::Normal));
    assert_eq!((config.html, config.output), (None, None));
    assert_eq!((config.format, config.notes), (Format::Text, Vec::<String>::new()));
}

#[test]
fn flags_set_the_configuration() {
    let config = compare(
        "--port 5000 --attach tc --interval 2ms --duration 3s --timeout 1s --realtime --html p.html --note so_it_is \
         --format jsonl --output o",
    )
    .unwrap();
    assert_eq!(config.port.test_port, 5000);
    assert_eq!(config.port.choice, Choice::Only(AttachMode::Tc));
    assert_eq!((config.interval_ns, config.duration_ns), (2_000_000, 3_000_000_000));
    assert_eq!(
        (config.timeout_ns, config.priority),
        (1_000_000_000, Priority::Realtime)
    );
    assert_eq!(config.html, Some("p.html".into()));
    assert_eq!((config.format, config.output), (Format::Jsonl, Some("o".into())));
    assert_eq!(config.notes, ["so it is"]);
    let v6 = read("compare --iface p1 --peer fd01::6").unwrap();
    assert!(matches!(v6, Command::Compare(config) if config.port.groups == ips(["ff0e::10"])));
}

#[test]
fn stress_has_a_default_number_and_zero_is_none() {
    let table = [
        ("--stress", Some(Stress::PerCpu)),
        ("--stress 3", Some(Stress::Processes(3))),
        ("--stress=3", Some(Stress::Processes(3))),
        ("--stress 0", None),
    ];
    for (flag, expected) in table {
        assert_eq!(compare(flag).unwrap().stress, expected, "{flag}");
    }
}

#[test]
fn bad_flags_are_refused() {
    let table = [
        ("--interval 999us", "1ms or more"),
        ("--interval 1ms --duration 3h", "longer interval"),
        ("--duration 0s", "more than 0"),
        ("--stress many", "is not a number"),
        ("--stress 99999", "0 to 1024"),
        ("--html x --output x", "same file"),
        ("--html -", "file of its own"),
    ];
    for (flags, expected) in table {
        let refusal = compare(flags).unwrap_err();
        assert!(
            refusal.contains(expected) && !refusal.contains('\n'),
            "{flags}: {refusal}"
        );
    }
    let refusal = read("compare --iface p1 --peer 239.1.1.1").unwrap_err();
    assert!(refusal.contains("multicast"), "{refusal}");
}

#[test]
fn calibrate_sends_a_probe_per_millisecond() {
    let calibrate = |flags: &str| -> Result<CalibrateConfig, String> {
        match read(&format!("calibrate {flags}"))? {
            Command::Calibrate(config) => Ok(config),
            other => panic!("{flags}: {other:?}"),
        }
    };
    let config = calibrate("").unwrap();
    assert_eq!(
        (config.mode, config.probes, config.format),
        (AttachMode::XdpNative, 3_000, Format::Text)
    );
    let config = calibrate("--attach tc --duration 200ms --format jsonl").unwrap();
    assert_eq!(
        (config.mode, config.probes, config.format),
        (AttachMode::Tc, 200, Format::Jsonl)
    );
    for flags in ["--duration 50ms", "--duration 1h"] {
        assert!(calibrate(flags).unwrap_err().contains("100ms and 10m"));
    }
}
