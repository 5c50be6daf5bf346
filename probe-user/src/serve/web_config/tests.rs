use std::os::unix::fs::PermissionsExt as _;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuVqL0wPkLSjKcR7mEKvhhwqPyjGmBsxK";

/// A directory with a certificate, a key, the key of another, and `web.yml`.
fn directory(web: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write("cert.pem", &cert.pem());
    write("key.pem", &signing_key.serialize_pem());
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write("other.pem", &other.signing_key.serialize_pem());
    mkfifo(&directory.path().join("fifo.pem"), Mode::S_IRUSR).unwrap();
    write("web.yml", web);
    let path = directory.path().join("web.yml");
    (directory, path)
}

#[test]
fn each_field_has_its_effect() {
    let table = [
        ("", false, true, 0),
        ("# nothing\n", false, true, 0),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem}",
            true,
            true,
            0,
        ),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: cert.pem\n  client_auth_type: \
             RequireAndVerifyClientCert\n  min_version: TLS13\nhttp_server_config:\n  http2: false\n  headers:\n    \
             X-Frame-Options: deny\n",
            true,
            true,
            1,
        ),
        (&format!("basic_auth_users:\n  ann: {HASH}\n"), false, false, 0),
    ];
    for (web, has_tls, is_open, headers) in table {
        let (_directory, path) = directory(web);
        let config = WebConfig::read(&path).unwrap_or_else(|error| panic!("{web}: {error}"));
        assert_eq!(config.acceptor.is_some(), has_tls, "{web}");
        assert_eq!(config.access.is_open(), is_open, "{web}");
        assert_eq!(config.headers.len(), headers, "{web}");
        let all_in = |live: &LiveConfig| live.is_open();
        assert_eq!(all_in(&LiveConfig::read(&path).unwrap()), is_open && !has_tls, "{web}");
    }
}

#[test]
fn a_wrong_file_is_refused_in_one_line() {
    let costly = HASH.replace("$04$", "$15$");
    let table = [
        ("tls_server_config: {cert_file: cert.pem}", "missing field `key_file`"),
        (
            "tls_server: {}",
            "unknown field `tls_server`, expected one of `tls_server_config`",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, cipher_suites: []}",
            "unknown field `cipher_suites`",
        ),
        (
            "tls_server_config: {cert_file: none.pem, key_file: key.pem}",
            "cert_file: cannot read the file",
        ),
        (
            "tls_server_config: {cert_file: fifo.pem, key_file: key.pem}",
            "fifo.pem is a FIFO; give a regular file",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: fifo.pem, client_auth_type: \
             RequireAndVerifyClientCert}",
            "fifo.pem is a FIFO; give a regular file",
        ),
        (
            "tls_server_config: {cert_file: key.pem, key_file: key.pem}",
            "key.pem: cannot read a certificate in PEM format: there is none in it",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: cert.pem}",
            "cert.pem: cannot read a private key in PEM format",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: other.pem}",
            "do they belong together?",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: cert.pem}",
            "client_ca_file needs client_auth_type",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: VerifyClientCertIfGiven}",
            "client_auth_type needs client_ca_file",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: RequireAnyClientCert}",
            "unknown variant `RequireAnyClientCert`",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, min_version: TLS13, max_version: TLS12}",
            "min_version is above max_version",
        ),
        (
            "basic_auth_users: {ann: secret}",
            "the password of ann is not a bcrypt hash",
        ),
        (
            &format!("basic_auth_users: {{ann: {costly}}}"),
            "the hash of ann has cost 15, above 14",
        ),
        (
            "http_server_config: {headers: {'a b': x}}",
            "'a b' is no name of a header",
        ),
        ("a: [", "--web-config "),
    ];
    for (web, want) in table {
        let (_directory, path) = directory(web);
        let Err(error) = WebConfig::read(&path) else {
            panic!("{web} is taken");
        };
        let line = error.to_string();
        assert!(line.contains(want) && line.contains("web.yml: "), "{web}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    let Err(error) = WebConfig::read(Path::new("/none/web.yml")) else {
        panic!("a file that does not exist is taken");
    };
    assert!(error.to_string().contains("No such file"), "{error}");
    let (directory, _) = directory("");
    let Err(error) = WebConfig::read(&directory.path().join("fifo.pem")) else {
        panic!("a FIFO is taken");
    };
    assert!(error.to_string().contains("is a FIFO"), "{error}");
}

#[test]
fn files_that_others_can_change_are_refused() {
    let (directory, web) = directory("tls_server_config: {cert_file: cert.pem, key_file: key.pem}");
    for name in ["web.yml", "key.pem"] {
        let path = directory.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
        let error = WebConfig::read(&web).err().unwrap().to_string();
        assert!(
            error.contains(&format!("{name} (mode 0646)")) && !error.contains('\n'),
            "{error}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn a_changed_file_holds_at_once_and_a_wrong_one_does_not() {
    let (_directory, path) = directory("");
    let mut live = LiveConfig::read(&path).unwrap();
    let mut now = Instant::now();
    let mut later = || {
        now += LOOK_AGAIN;
        now
    };
    assert_eq!(live.authorise(None, HERE, later()), Verdict::Allowed);
    fs::write(&path, format!("basic_auth_users: {{ann: {HASH}}}")).unwrap();
    assert_eq!(live.authorise(None, HERE, later()), Verdict::Denied);
    for wrong in ["basic_auth_users: {ann: x}", "basic_auth_users: 7"] {
        fs::write(&path, wrong).unwrap();
        assert_eq!(live.authorise(None, HERE, later()), Verdict::Denied);
        assert!(live.wrong.is_some());
        assert_eq!(live.authorise(None, HERE, later()), Verdict::Denied);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(live.authorise(None, HERE, later()), Verdict::Denied);
    fs::write(&path, "tls_server_config: {cert_file: cert.pem, key_file: key.pem}").unwrap();
    assert_eq!(live.authorise(None, HERE, later()), Verdict::Allowed);
    assert!(live.wrong.is_none() && live.current(later()).acceptor.is_some());
    // The file of the certificate counts too.
    fs::write(path.with_file_name("cert.pem"), "").unwrap();
    live.look(later());
    assert!(live.wrong.is_some() && live.config.acceptor.is_some());
}
