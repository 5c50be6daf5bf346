//! `--engine`, `--key-file`, `--stateless`: who stamps, and what goes together.

use std::os::unix::fs::PermissionsExt as _;

use probe_io::port::Kind;

use super::*;

#[test]
fn programs_stamp_unless_sockets_are_asked_for_or_needed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "a shared secret!").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with_key = format!("--key-file {}", path.display());

    assert_eq!(agent("").station.stamping.kind, Kind::Ebpf);
    assert_eq!(agent("--engine ebpf").station.stamping.kind, Kind::Ebpf);
    assert_eq!(reflect("--engine socket").station.stamping.kind, Kind::Socket);
    let stamping = agent(&with_key).station.stamping;
    assert!(stamping.key.is_some() && stamping.kind == Kind::Socket);
    assert_eq!(
        agent(&with_key).station.echo,
        None,
        "nobody is told where processes answer"
    );
    assert!(reflect("--engine socket --stateless").station.stamping.stateless);
    assert!(agent(&format!("{with_key} --stateless")).station.stamping.stateless);

    let refused = |flags: &str, words: &str| {
        let error = run(&format!("agent --iface p1 {flags}")).unwrap_err();
        assert!(error.contains(words) && !error.contains('\n'), "{flags}: {error}");
    };
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
