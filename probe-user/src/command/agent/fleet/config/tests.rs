//! The flags of `kstamp agent` about a fleet.

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt as _;

use probe_hub::enrol::{Servers, StateDirectory};
use tempfile::TempDir;

use crate::command::agent::config::AgentConfig;
use crate::command::{Command, read};

/// A directory with the credentials of host `h1` in `hub.toml`.
fn enrolled() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(&directory.path().join("hub")).unwrap();
    let servers = Servers {
        urls: vec!["tls://10.0.0.1:4222".to_owned()],
        ca: None,
    };
    let prefixes = ["10.1.0.0/16".parse().unwrap()];
    let credentials = state.enroll(&"h1".parse().unwrap(), &prefixes, servers, false).unwrap();
    let path = directory.path().join("hub.toml");
    write(&path, credentials.write()).unwrap();
    set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    directory
}

/// `kstamp agent --iface p1` with these credentials and more flags; `_` stands for a space within a value.
fn agent(directory: &TempDir, flags: &str) -> Result<AgentConfig, String> {
    let path = directory.path().join("hub.toml");
    let line = format!("agent --iface p1 --hub-credentials {} {flags}", path.display());
    match read(&line) {
        Ok(Command::Agent(config)) => Ok(*config),
        Ok(other) => panic!("{flags}: {other:?}"),
        Err(error) => Err(error),
    }
}

#[test]
fn a_port_joins_with_its_credentials() {
    let directory = enrolled();
    let config = agent(&directory, "").unwrap();
    assert!(config.core.samples && config.core.delays, "the link needs them");
    assert_eq!(config.output.samples, None);
    let fleet = config.fleet.unwrap();
    assert_eq!(fleet.port.to_string(), "h1/p1");
    assert_eq!(fleet.credentials.servers, ["tls://10.0.0.1:4222"]);
    assert_eq!((fleet.max_peers, fleet.buffer_size), (64, 64 << 20));
    assert_eq!(fleet.buffer.as_os_str(), "/var/lib/kstamp/fleet");
    assert!(fleet.labels.is_empty() && fleet.allow.is_empty() && fleet.netns.is_none());

    let flags = "--hub tls://a:1 --hub tls://b --hub-label rack=r7 --hub-label note=a_b=c --hub-allow 10.0.0.1/8 \
                 --hub-max-peers 0 --hub-buffer /b --hub-buffer-size 2MiB --hub-netns /run/netns/m --no-group";
    let fleet = agent(&directory, flags).unwrap().fleet.unwrap();
    assert_eq!(fleet.credentials.servers, ["tls://a:1", "tls://b"]);
    let labels: Vec<_> = fleet
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(labels, ["note=a b=c", "rack=r7"]);
    let allow: Vec<_> = fleet.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.0.0.0/8"]);
    assert_eq!((fleet.max_peers, fleet.buffer_size), (0, 2 << 20));
    assert_eq!(fleet.netns.unwrap().as_os_str(), "/run/netns/m");
}

#[test]
fn a_window_reaches_the_hub_before_the_last_one_is_ten_seconds_old() {
    let directory = enrolled();
    let core = agent(&directory, "").unwrap().core;
    assert!(core.report_ns + core.timeout_ns < 10_000_000_000);
    assert_eq!(
        agent(&directory, "--report 30s").unwrap().core.report_ns,
        30_000_000_000
    );
}

#[test]
fn wrong_flags_are_refused_in_one_line() {
    let directory = enrolled();
    let many_labels: String = (0..17).map(|number| format!(" --hub-label l{number}=v")).collect();
    let table = [
        (
            "--hub nats://h:4222",
            "--hub: nats://h:4222 is no address of a NATS server: nats is not encrypted",
        ),
        ("--hub tls://", "write tls://HOST:4222"),
        (
            "--hub-label rack",
            "--hub-label 'rack' is not a label; write NAME=VALUE",
        ),
        ("--hub-label =r7", "is not a label"),
        ("--hub-label rack=", "is not a label"),
        ("--hub-label r\u{e4}ck=r7", "is not a label"),
        ("--hub-label rack=a\u{7}", "is not a label"),
        (
            "--hub-label rack=1 --hub-label rack=2",
            "--hub-label rack is given twice",
        ),
        (&many_labels, "17 labels are too many"),
        ("--hub-allow 10.0.0.0/33", "--hub-allow '10.0.0.0/33' is not a prefix"),
        (
            "--hub-max-peers 1025",
            "--hub-max-peers '1025' is not a number from 0 to 1024",
        ),
        ("--hub-max-peers=-1", "--hub-max-peers '-1' is not a number"),
        ("--hub-buffer-size 64", "--hub-buffer-size 64 has hardly room"),
        (
            "--hub-buffer-size 64MB",
            "--hub-buffer-size '64MB' is not an amount of bytes",
        ),
        ("--hub-buffer-size 99999999999TiB", "is not an amount of bytes"),
        ("--count 5", "use --duration"),
    ];
    for (flags, part) in table {
        let error = agent(&directory, flags).map(drop).unwrap_err();
        assert!(error.contains(part) && !error.contains('\n'), "{flags}: {error}");
    }
    for flag in [
        "--hub tls://h",
        "--hub-label a=b",
        "--hub-max-peers 3",
        "--hub-netns /n",
        "--hub-buffer /b",
    ] {
        let error = read(&format!("agent --iface p1 {flag}")).map(drop).unwrap_err();
        assert!(error.contains("--hub-credentials <FILE>"), "{flag}: {error}");
    }
}

#[test]
fn wrong_credentials_are_named_before_anything_is_opened() {
    let directory = enrolled();
    let path = directory.path().join("hub.toml");
    let right = std::fs::read_to_string(&path).unwrap();
    let table = [
        (String::new(), "it is no file of `kstamp hub enroll`"),
        (right.replace("seed", "sead"), "it is no file of `kstamp hub enroll`"),
        (
            right.replace("tls://10.0.0.1:4222", "http://10.0.0.1"),
            "write tls://HOST:4222",
        ),
        (right.replace("\"h1\"", "\"h 1\""), "the host name \"h 1\" is not"),
        (
            right.replacen("BEGIN CERTIFICATE", "BEGIN CERTIFICAT", 2),
            "cannot be used",
        ),
        (right.replace("BEGIN PRIVATE KEY", "BEGIN KEY"), "cannot be used"),
    ];
    for (content, part) in table {
        write(&path, &content).unwrap();
        let error = agent(&directory, "").map(drop).unwrap_err();
        assert!(
            error.starts_with("--hub-credentials: ") && error.contains(part),
            "{error}"
        );
        assert!(!error.contains('\n') && !error.contains("PRIVATE KEY"), "{error}");
    }
    write(&path, &right).unwrap();
    set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(agent(&directory, "").map(drop).unwrap_err().contains("chmod 600"));
    std::fs::remove_file(&path).unwrap();
    assert!(
        agent(&directory, "")
            .map(drop)
            .unwrap_err()
            .contains("cannot read the file")
    );
}
