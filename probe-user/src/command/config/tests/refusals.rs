//! Every flag badly given, with the line that the user then reads.

use crate::command::config::tests::run;

#[test]
fn each_bad_value_has_its_message() {
    let table = [
        ("--port 0", "--port '0' is not a UDP port; use 1 to 65535"),
        (
            "--allow 10.1.1.0/33",
            "--allow '10.1.1.0/33' is not a prefix; write an address and a length: 10.1.0.0/16, fd01::/64",
        ),
        (
            "--rate-source -1",
            "--rate-source '-1' is not a number of packets a second; use 1 to 10000000, or 0 for no limit",
        ),
        (
            "--rate 10000001",
            "--rate '10000001' is not a number of packets a second; use 1 to 10000000, or 0 for no limit",
        ),
        (
            "--rate-group many",
            "--rate-group 'many' is not a number of packets a second; use 1 to 10000000, or 0 for no limit",
        ),
        (
            "--user no-such-user",
            "--user: there is no user 'no-such-user'; `getent passwd` lists the users",
        ),
        ("--port 65536", "--port '65536' is not a UDP port; use 1 to 65535"),
        (
            "--group 10.0.0.1",
            "--group 10.0.0.1 is not a multicast address; use one in 224.0.0.0/4 or ff00::/8",
        ),
        (
            "--group all",
            "--group 'all' is not an IP address; names are not looked up",
        ),
        (
            "--group 239.1.1.1 --group 239.1.1.2",
            "--group 239.1.1.1 and --group 239.1.1.2 are both IPv4; give one of each IP version",
        ),
        (
            "--group 239.1.1.1 --family v6",
            "--group 239.1.1.1 is IPv4, which --family leaves out; drop one of the two",
        ),
        ("--interval 0s", "--interval 0s must be more than 0"),
        (
            "--interval soon",
            "--interval 'soon' is not a duration; write a number and a unit: 500ms, 2s, 1m 30s",
        ),
        (
            "--interval 999ns",
            "--interval 999ns is too short: no host sends that fast; use 1us or more",
        ),
        ("--timeout 0ms", "--timeout 0ms must be more than 0"),
        ("--timeout 2y --peer-expiry 3y", "--timeout 2y is longer than a year"),
        ("--report 0s", "--report 0s must be more than 0"),
        (
            "--report 5",
            "--report '5' is not a duration; write a number and a unit: 500ms, 2s, 1m 30s",
        ),
        ("--duration 0s", "--duration 0s must be more than 0"),
        (
            "--peer-expiry 1s",
            "--peer-expiry 1s is shorter than --timeout 2s, so that an answer in time could come from a peer that is \
             down; make it at least as long",
        ),
        (
            "--interval 100us --timeout 10s",
            "--timeout 10s at --interval 100us keeps 200400 probes waiting, and the kernel remembers 65536; use a \
             longer interval or a shorter timeout",
        ),
        ("--count 0", "--count '0' is not a number of probes; use 1 or more"),
        ("--count -1", "--count '-1' is not a number of probes; use 1 or more"),
        (
            "--peer nobody",
            "--peer 'nobody' is not an IP address; names are not looked up",
        ),
        (
            "--peer 239.1.1.1",
            "--peer 239.1.1.1 is a multicast address; give it as --group",
        ),
        (
            "--peer 0.0.0.0",
            "--peer 0.0.0.0 is not the address of another port; give the peer's own address",
        ),
        (
            "--peer 255.255.255.255",
            "--peer 255.255.255.255 is not the address of another port; give the peer's own address",
        ),
        (
            "--peer ::1",
            "--peer ::1 is not the address of another port; give the peer's own address",
        ),
        ("--peer fe80::1 --peer fe80::1%p1", "--peer fe80::1%p1 is given twice"),
        (
            "--peer fe80::1%p2",
            "--peer fe80::1%p2 is reached by p2, and --iface is p1; write --peer fe80::1, or name the other interface",
        ),
        (
            "--peer fe80::1 --family v4",
            "--peer fe80::1 is IPv6, which --family or --group leaves out; add --family both",
        ),
        (
            "--no-group",
            "--no-group leaves nobody to probe; name a peer with --peer, or use `kstamp reflect`",
        ),
        (
            "--no-group --group 239.1.1.1",
            "the argument '--no-group' cannot be used with '--group <ADDR>'; see --help",
        ),
        (
            "--samples o --output o",
            "--samples and --output name the same file; give each its own",
        ),
        (
            "--name a\u{7}",
            "--name \"a\\u{7}\" cannot be sent to peers; use 1 to 64 bytes without control characters",
        ),
        (
            "--family v5",
            "invalid value 'v5' for '--family <FAMILY>' [possible values: v4, v6, both]; see --help",
        ),
        (
            "--attach fast",
            "invalid value 'fast' for '--attach <MODE>' [possible values: auto, xdp-native, xdp-generic, tc]; see --help",
        ),
        (
            "--format csv",
            "invalid value 'csv' for '--format <FORMAT>' [possible values: text, jsonl]; see --help",
        ),
        (
            "--interva 1s",
            "unexpected argument '--interva' found; a similar argument exists: '--interval'; see --help",
        ),
    ];
    for (flags, expected) in table {
        assert_eq!(
            run(&format!("agent --iface p1 {flags}")).unwrap_err(),
            expected,
            "{flags}"
        );
    }
}

#[test]
fn each_bad_line_has_its_message() {
    let table = [
        (
            "agent",
            "the following required arguments were not provided: --iface <IFACE>; see --help",
        ),
        (
            "agent --iface a/b",
            "--iface: 'a/b' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed; `ip link` \
             lists the interfaces",
        ),
        (
            "doctor --iface a23456789012345x",
            "--iface: 'a23456789012345x' is too long for an interface name, which has at most 15 bytes; `ip link` \
             lists the interfaces",
        ),
        (
            "reflect --iface p1 --count 3",
            "unexpected argument '--count' found; a similar argument exists: '--output'; see --help",
        ),
        (
            "",
            "'kstamp' requires a subcommand but one was not provided [subcommands: agent, reflect, controller, ping, doctor, compare, calibrate, help]; see --help",
        ),
    ];
    for (line, expected) in table {
        let error = run(line).unwrap_err();
        assert_eq!(error, expected);
    }
}
