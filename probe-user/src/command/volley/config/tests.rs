use super::*;
use crate::command::volley::args::DEFAULT_SAMPLES_EVERY;
use crate::command::{Command, read};

/// `kstamp volley --iface p1 --peer 10.1.1.6` and more flags.
fn volley(flags: &str) -> Result<VolleyConfig, String> {
    match read(&format!("volley --iface p1 --peer 10.1.1.6 {flags}"))? {
        Command::Volley(config) => Ok(*config),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults() {
    let config = volley("").unwrap();
    assert_eq!((config.interface.as_str(), config.port), ("p1", 1910));
    assert_eq!(config.peer, IpAddr::from([10, 1, 1, 6]));
    assert_eq!((config.rate, config.inputs), (Rate::Default, PlanInputs::default()));
    assert_eq!((config.duration_ns, config.every_ns), (5_000_000_000, 1_000_000_000));
    assert_eq!((config.samples, config.samples_every), (None, DEFAULT_SAMPLES_EVERY));
    assert_eq!((config.force, config.html, config.output), (false, None, None));
    assert_eq!(config.format, Format::Text);
}

#[test]
fn each_flag_has_an_effect() {
    let modes = [
        ("auto", None),
        ("volley", Some(Mode::Volley)),
        ("train", Some(Mode::Train)),
        ("sendmmsg", Some(Mode::Sendmmsg)),
    ];
    for (name, mode) in modes {
        assert_eq!(volley(&format!("--mode {name}")).unwrap().inputs.mode, mode);
    }
    for (text, rate) in [
        ("1", Rate::AtMost(1)),
        ("1000000", Rate::AtMost(1_000_000)),
        ("max", Rate::Max),
    ] {
        assert_eq!(volley(&format!("--rate {text}")).unwrap().rate, rate);
    }
    let burst = Burst {
        probes: 64,
        period_ns: 1_000_000,
    };
    assert_eq!(volley("--burst 64/1ms").unwrap().inputs.burst, Some(burst));
    let inputs = volley("--continuous --balls 1 --batch 2 --timeout 30ms")
        .unwrap()
        .inputs;
    assert_eq!(
        (inputs.continuous, inputs.balls, inputs.batch, inputs.timeout_ns),
        (true, 1, 2, 30_000_000)
    );
    // How many can be sent depends on the peer's limit too.
    assert_eq!(volley("--rate max -W 4s").unwrap().rate, Rate::Max);
    assert_eq!(volley("-p 862").unwrap().port, 862);
    let config = volley("--duration 1m --every 10ms --force --samples s --samples-every 7 --html h --format jsonl");
    let config = config.unwrap();
    assert_eq!((config.duration_ns, config.every_ns), (60_000_000_000, 10_000_000));
    assert_eq!((config.force, config.samples_every), (true, 7));
    assert_eq!((config.samples, config.html), (Some("s".into()), Some("h".into())));
    assert_eq!(config.format, Format::Jsonl);
    assert_eq!(volley("--output o").unwrap().output, Some("o".into()));
}

#[test]
fn the_rate_goes_with_the_peers_limit() {
    let table = [
        (Rate::Default, None, Some(100_000)),
        (Rate::Default, Some(7), Some(7)),
        (Rate::Default, Some(1_000_000), Some(100_000)),
        (Rate::AtMost(9), Some(7), Some(9)),
        (Rate::Max, Some(7), None),
        (Rate::Max, None, None),
    ];
    for (rate, limit, wanted) in table {
        assert_eq!(rate.within(limit), wanted, "{rate:?} {limit:?}");
    }
}

#[test]
fn each_bad_value_has_its_message() {
    let table = [
        "--rate 0 => --rate '0' is not a number of probes a second; use 1 to 100000000, or max",
        "--rate -1 => --rate '-1' is not a number of probes a second; use 1 to 100000000, or max",
        "--rate 100000001 => --rate '100000001' is not a number of probes a second; use 1 to 100000000, or max",
        "--rate fast => --rate 'fast' is not a number of probes a second; use 1 to 100000000, or max",
        "--balls 0 => --balls '0' is not a number from 1 to MAX",
        "--balls 1000000 => --balls '1000000' is not a number from 1 to MAX",
        "--samples-every 0 => --samples-every '0' is not a number from 1 to 4294967295",
        "--burst 256 => --burst '256' lacks a part; write NUMBER/PERIOD, such as 256/250us",
        "--burst 0/250us => --burst '0' is not a number from 1 to 4294967295",
        "--burst 65537/1ms => the probes in a burst must be 1 to 65536, not 65537",
        "--burst 256/2s => the period of a burst in nanoseconds must be 50000 to 1000000000, not 2000000000",
        "--batch 65 => --batch '65' is not a number from 1 to 64",
        "--timeout 5s => the timeout in nanoseconds must be 1000000 to 4000000000, not 5000000000",
        "--mode train --continuous => mode train cannot be continuous, because a process sets its pace; leave out \
         --continuous, or use mode volley",
        "--burst 256/250 => --burst '250' is not a duration; write a number and a unit: 500ms, 2s, 1m 30s",
        "--burst 256/1ms --continuous => the argument '--burst <NUMBER/PERIOD>' cannot be used with '--continuous'; \
         see --help",
        "--duration 0s => --duration 0s must be more than 0",
        "--every 9ms => --every 9ms is too short; use 10ms or more",
        "--port 0 => --port '0' is not a UDP port; use 1 to 65535",
        "--mode fast => invalid value 'fast' for '--mode <MODE>' [possible values: auto, volley, train, sendmmsg]; see \
         --help",
        "--html o --output o => --html and --output name the same file; give each its own",
        "--samples - => --samples needs a file of its own; standard output has the results",
        "--html f --samples f => --html and --samples name the same file; give each its own",
    ];
    for case in table {
        let (flags, expected) = case.split_once(" => ").unwrap();
        let error = volley(flags).map(drop).unwrap_err();
        assert_eq!(error, expected.replace("MAX", &MAX_BALLS.to_string()), "{flags}");
    }
    let error = volley("--rate 100000000").map(drop).unwrap_err();
    assert!(error.contains("use a timeout of at most"), "{error}");
    for (peer, words) in [
        ("239.1.1.1", "is a multicast address"),
        ("255.255.255.255", "is not the address of another port"),
        ("127.0.0.1", "is not the address of another port"),
        ("fe80::1%p2", "is reached by p2"),
        ("nobody", "is not an IP address"),
    ] {
        let error = read(&format!("volley --iface p1 --peer {peer}")).unwrap_err();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    }
    let error = read("volley --iface p1").unwrap_err();
    assert_eq!(
        error,
        "the following required arguments were not provided: --peer <ADDR>; see --help"
    );
}
