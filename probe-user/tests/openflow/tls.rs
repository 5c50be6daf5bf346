//! TLS: only switches with a certificate of our authority are served.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use probe_controller::openflow::server::{Config, Limits, Reason, Server, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Peer, SOON, Subject, loopback};

const NAME: &str = "kstamp.test";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub ca: PathBuf,
}

#[derive(Clone)]
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(directory: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let cert = params.self_signed(&key).unwrap();
        let ca = directory.join(format!("{name}-ca.pem"));
        fs::write(&ca, cert.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            ca,
        }
    }

    pub fn issue(&self, directory: &Path, name: &str) -> Certificate {
        self.issue_until(directory, name, 2090)
    }

    fn issue_until(&self, directory: &Path, name: &str, year: i32) -> Certificate {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let signed = params.signed_by(&pair, &self.issuer).unwrap();
        let (cert, key) = (
            directory.join(format!("{name}.pem")),
            directory.join(format!("{name}-key.pem")),
        );
        fs::write(&cert, signed.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        Certificate { cert, key }
    }
}

pub fn files(authority: &Authority, certificate: &Certificate) -> TlsFiles {
    TlsFiles {
        cert: certificate.cert.clone(),
        key: certificate.key.clone(),
        ca: authority.ca.clone(),
    }
}

fn subject(authority: &Authority, directory: &Path) -> Subject {
    let tls = Some(files(authority, &authority.issue(directory, "controller")));
    let limits = Limits {
        handshake: Duration::from_secs(2),
        ..Limits::default()
    };
    Subject::with(Config {
        tls,
        limits,
        ..Config::new(loopback())
    })
}

fn client(
    subject: &Subject,
    authority: &Authority,
    certificate: Option<&Certificate>,
) -> Peer<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&authority.ca).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some(certificate) => {
            let chain = vec![CertificateDer::from_pem_file(&certificate.cert).unwrap()];
            config
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&certificate.key).unwrap())
                .unwrap()
        }
    };
    let session = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(subject.server.address()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    Peer::over(StreamOwned::new(session, socket))
}

#[test]
fn a_switch_with_our_authoritys_certificate_is_served() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new(directory.path(), "ours");
    let mut subject = subject(&authority, directory.path());
    let certificate = authority.issue(directory.path(), "switch");
    let mut peer = client(&subject, &authority, Some(&certificate));
    peer.shake_hands(0x77);
    assert_eq!(subject.connected().1.0, 0x77);
}

#[test]
fn other_switches_are_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let (ours, theirs) = (Authority::new(path, "ours"), Authority::new(path, "theirs"));
    let mut subject = subject(&ours, path);
    let foreign = theirs.issue(path, "foreign");
    let expired = ours.issue_until(path, "expired", 2001);
    for (what, certificate, expected) in [
        ("no certificate", None, "no certificates"),
        ("another authority's", Some(&foreign), "UnknownIssuer"),
        ("an expired one", Some(&expired), "expired"),
    ] {
        let mut peer = client(&subject, &ours, certificate);
        peer.hello();
        let Reason::Tls(reason) = subject.refusal() else {
            panic!("{what}");
        };
        assert!(reason.contains(expected), "{what}: {reason}");
    }
    let mut plain = subject.peer();
    plain.hello();
    assert!(matches!(subject.refusal(), Reason::Tls(_)));
    let _mute = subject.peer();
    assert!(subject.refusal().to_string().contains("TLS handshake in time"));
}

#[test]
fn unusable_files_are_named() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let authority = Authority::new(path, "ours");
    let (one, two) = (authority.issue(path, "one"), authority.issue(path, "two"));
    let good = files(&authority, &one);
    let empty = path.join("empty.pem");
    fs::write(&empty, "").unwrap();
    let table = [
        (
            TlsFiles {
                key: two.key,
                ..good.clone()
            },
            "belong together",
        ),
        (
            TlsFiles {
                cert: path.join("absent.pem"),
                ..good.clone()
            },
            "--tls-cert",
        ),
        (
            TlsFiles {
                key: empty.clone(),
                ..good.clone()
            },
            "--tls-key",
        ),
        (
            TlsFiles {
                ca: empty,
                ..good.clone()
            },
            "--tls-ca",
        ),
    ];
    for (files, expected) in table {
        let config = Config {
            tls: Some(files),
            ..Config::new(loopback())
        };
        let error = Server::start(config).err().unwrap().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{expected}: {error}");
    }
}
