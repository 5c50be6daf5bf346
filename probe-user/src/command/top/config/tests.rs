use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::command::{parse, read};

fn args(line: &str) -> TopArgs {
    let words = std::iter::once("kstamp").chain(line.split_whitespace());
    let matches = <crate::command::Cli as clap::CommandFactory>::command().get_matches_from(words);
    let (_, matches) = matches.subcommand().unwrap();
    <TopArgs as clap::FromArgMatches>::from_arg_matches(matches).unwrap()
}

#[test]
fn the_agent_gets_its_flags_and_json_lines() {
    for (line, want) in [
        (
            "top --iface p1",
            "agent --iface=p1 --report=2s --config=none --format=jsonl --output=-",
        ),
        (
            "top --peer 10.0.0.1 --iface p1 --peer fe80::1 --no-group --report 1s",
            "agent --iface=p1 --report=1s --peer=10.0.0.1 --peer=fe80::1 --no-group --config=none --format=jsonl --output=-",
        ),
    ] {
        let Ok(SourceConfig::Agent { words }) = source(args(line)) else {
            panic!("{line}");
        };
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words.join(" "), want);
        assert!(parse(["kstamp"].into_iter().chain(words)).is_ok());
    }
}

#[test]
fn a_wrong_line_has_its_message() {
    for (line, want) in [
        ("top", "--iface <IFACE>"),
        ("top --iface p1 --connect http://h:1", "cannot be used with"),
        ("top --connect http://h:1 --peer 10.0.0.1", "cannot be used with"),
        ("top --iface p1 --password-file f", "cannot be used with"),
        ("top --iface p1 --format jsonl", "unexpected argument '--format'"),
        ("top --iface p1 --output f", "unexpected argument '--output'"),
        ("top --iface p1 --interval 0s", "--interval 0s must be more than 0"),
        (
            "top --connect localhost:9862",
            "begins with neither http:// nor https://",
        ),
        ("top --connect http://u:secret@h:1", "everybody on this host can see"),
        ("top --connect http://u@h:1", "no password"),
        (
            "top --connect http://h:1 --password-file /nowhere",
            "--password-file: cannot read the file /nowhere: No such file",
        ),
        (
            "top --connect https://h --ca-file /nowhere",
            "--ca-file /nowhere: No such file",
        ),
    ] {
        let error = read(line).unwrap_err();
        assert!(error.contains(want), "{line}: {error}");
        assert!(!error.contains('\n') && !error.contains("secret"), "{line}: {error}");
        assert!(!error.contains("of-agent"), "{line}: {error}");
    }
}

#[test]
fn a_url_is_taken_apart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "secret\n").unwrap();
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let connect = |url: &str, password_file| ConnectArgs {
        connect: Some(url.to_owned()),
        password_file,
        ca_file: Some(file.clone()),
    };
    let error = server(connect("https://u@h", Some(file.clone())), None).unwrap_err();
    assert!(error.to_string().contains("open to other users"), "{error}");
    mode(0o600);
    let config = server(connect("https://u@h:9862/kstamp/", Some(file.clone())), None).unwrap();
    assert_eq!(config.credentials, Some(("u".to_owned(), "secret".to_owned())));
    assert_eq!((&*config.host, config.port, config.is_tls), ("h", 9862, true));
    assert_eq!((&*config.path, &*config.url), ("/kstamp", "https://h:9862/kstamp"));
    let config = server(connect("http://u@[::1]:80", None), Some("from-environment".to_owned())).unwrap();
    assert_eq!(
        config.credentials,
        Some(("u".to_owned(), "from-environment".to_owned()))
    );
    assert_eq!((&*config.host, config.port, &*config.path), ("[::1]", 80, ""));
    assert!(
        server(connect("http://h", Some(file.clone())), None).is_err(),
        "no name"
    );
}

#[test]
fn a_pipe_and_a_dumb_terminal_are_refused() {
    for (is_terminal, kind, is_taken) in [
        (false, Some("xterm"), false),
        (true, None, false),
        (true, Some("dumb"), false),
        (true, Some("xterm"), true),
    ] {
        assert_eq!(
            check_terminal(is_terminal, kind).is_ok(),
            is_taken,
            "{is_terminal} {kind:?}"
        );
    }
}

#[test]
fn the_environment_decides_on_colours_and_characters() {
    let table = [
        ("TERM=xterm-256color LANG=C.UTF-8", Colours::Many, true),
        ("TERM=xterm LANG=en_US.utf8", Colours::Sixteen, true),
        ("TERM=xterm COLORTERM=truecolor LANG=C", Colours::Many, false),
        ("TERM=xterm-256color NO_COLOR=1", Colours::None, false),
        ("TERM=xterm NO_COLOR= LC_ALL=C LANG=C.UTF-8", Colours::Sixteen, false),
        ("TERM=xterm LC_CTYPE=C.UTF-8 LANG=C", Colours::Sixteen, true),
    ];
    for (line, colours, is_unicode) in table {
        let variables: HashMap<_, _> = line.split(' ').filter_map(|word| word.split_once('=')).collect();
        let look = Look::of(|name| variables.get(name).map(|value| (*value).to_owned()));
        assert_eq!(look, Look { colours, is_unicode }, "{line}");
    }
}
