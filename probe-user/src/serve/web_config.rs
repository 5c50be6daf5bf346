//! TLS and passwords, in the format of Prometheus' exporter toolkit (docs/web-configuration.md there), read again when the
//! files change.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use log::{info, warn};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::guarded::{self, Guard};
use crate::serve::access::{Access, Verdict};

/// How often the files are looked at, while there are requests.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a file.
const MAX_FILE: u64 = 1 << 20;

/// A hash of a higher cost takes seconds to verify.
const MAX_COST: u32 = 14;

#[derive(Debug, thiserror::Error)]
#[error("--web-config {}: {problem}", path.display())]
pub struct WebConfigError {
    path: PathBuf,
    problem: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    #[serde(default)]
    http_server_config: Http,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    #[serde(default)]
    min_version: Version,
    max_version: Option<Version>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Version {
    #[default]
    TLS12,
    TLS13,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// HTTP/1.1 is spoken in any case.
    #[serde(default, rename = "http2")]
    _http2: bool,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Whether a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    changed_ns: (i64, i64),
    inode: u64,
    len: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            changed_ns: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
            len: metadata.len(),
        })
    }
}

/// A file as it was read.
pub struct WebConfig {
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) headers: HeaderMap,
    access: Access,
    /// All files that it consists of.
    files: Vec<(PathBuf, Option<Stamp>)>,
}

impl WebConfig {
    fn empty() -> Self {
        Self {
            acceptor: None,
            headers: HeaderMap::new(),
            access: Access::new(BTreeMap::new()),
            files: Vec::new(),
        }
    }

    /// Reads the file, and those that it names. Relative names are below its directory.
    pub fn read(path: &Path) -> Result<Self, WebConfigError> {
        let refuse = |problem: String| WebConfigError {
            path: path.to_owned(),
            problem,
        };
        let mut files = vec![(path.to_owned(), Stamp::of(path))];
        let text = guarded::read(path, Guard::Unchanged, MAX_FILE).map_err(|error| refuse(error.to_string()))?;
        let file = parse(&String::from_utf8_lossy(&text)).map_err(&refuse)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let acceptor = match file.tls_server_config {
            Some(tls) => {
                let tls = tls.below(directory);
                files.extend(tls.files().map(|path| (path.clone(), Stamp::of(path))));
                Some(acceptor(&tls).map_err(&refuse)?)
            }
            None => None,
        };
        for (user, hash) in &file.basic_auth_users {
            check_hash(user, hash).map_err(&refuse)?;
        }
        Ok(Self {
            acceptor,
            headers: headers(&file.http_server_config.headers).map_err(&refuse)?,
            access: Access::new(file.basic_auth_users),
            files,
        })
    }

    fn has_changed(&self) -> bool {
        self.files.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
    }
}

fn parse(text: &str) -> Result<File, String> {
    // An empty document is null.
    let file: Result<Option<File>, _> = serde_norway::from_str(text);
    file.map(Option::unwrap_or_default).map_err(|error| {
        let line = error.to_string();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

impl Tls {
    fn below(self, directory: &Path) -> Self {
        Self {
            cert_file: directory.join(self.cert_file),
            key_file: directory.join(self.key_file),
            client_ca_file: self.client_ca_file.map(|path| directory.join(path)),
            ..self
        }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert_file, &self.key_file]
            .into_iter()
            .chain(&self.client_ca_file)
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, String> {
    let versions: Vec<&'static SupportedProtocolVersion> = [(Version::TLS12, &TLS12), (Version::TLS13, &TLS13)]
        .into_iter()
        .filter(|(version, _)| *version >= tls.min_version && *version <= tls.max_version.unwrap_or(Version::TLS13))
        .map(|(_, supported)| supported)
        .collect();
    if versions.is_empty() {
        return Err("min_version is above max_version".to_owned());
    }
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?;
    let builder = match (tls.client_auth_type, &tls.client_ca_file) {
        (ClientAuth::NoClientCert, None) => builder.with_no_client_auth(),
        (ClientAuth::NoClientCert, Some(_)) => {
            return Err("client_ca_file needs client_auth_type: RequireAndVerifyClientCert".to_owned());
        }
        (_, None) => return Err("client_auth_type needs client_ca_file".to_owned()),
        (kind, Some(path)) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("client_ca_file", path)? {
                roots
                    .add(authority)
                    .map_err(|error| format!("client_ca_file {}: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match kind {
                ClientAuth::VerifyClientCertIfGiven => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| format!("client_ca_file {}: {error}", path.display()))?,
            )
        }
    };
    let chain = certificates("cert_file", &tls.cert_file)?;
    let (cert, key) = (tls.cert_file.display(), tls.key_file.display());
    let private =
        guarded::read(&tls.key_file, Guard::Unchanged, MAX_FILE).map_err(|error| format!("key_file: {error}"))?;
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|error| format!("key_file {key}: cannot read a private key in PEM format: {error}"))?;
    let config = builder
        .with_single_cert(chain, private)
        .map_err(|error| format!("cert_file {cert} with key_file {key}: {error}; do they belong together?"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(field: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = guarded::read(path, Guard::Unchanged, MAX_FILE).map_err(|error| format!("{field}: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let problem = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "there is none in it".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "{field} {}: cannot read a certificate in PEM format: {problem}",
        path.display()
    ))
}

fn check_hash(user: &str, hash: &str) -> Result<(), String> {
    let remedy = "write what `htpasswd -nBC 10 NAME` prints behind the colon";
    let cost = hash
        .parse::<bcrypt::HashParts>()
        .map_err(|_| format!("basic_auth_users: the password of {user} is not a bcrypt hash; {remedy}"))?
        .get_cost();
    if cost > MAX_COST {
        return Err(format!(
            "basic_auth_users: the hash of {user} has cost {cost}, above {MAX_COST}; {remedy}"
        ));
    }
    Ok(())
}

fn headers(fields: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let field = |(name, value): (&String, &String)| {
        let name: HeaderName = name
            .parse()
            .map_err(|_| format!("http_server_config: '{name}' is no name of a header"))?;
        let value: HeaderValue = value
            .parse()
            .map_err(|_| format!("http_server_config: {name} has no value of a header"))?;
        Ok((name, value))
    };
    fields.iter().map(field).collect()
}

/// The file as it is now, or as it was when it was last right.
pub(super) struct LiveConfig {
    /// `None` without a file.
    path: Option<PathBuf>,
    config: WebConfig,
    looked: Instant,
    /// The stamps of a file that was wrong and reported.
    wrong: Option<Vec<Option<Stamp>>>,
}

impl LiveConfig {
    /// No TLS and no passwords.
    pub(super) fn none() -> Self {
        Self {
            path: None,
            config: WebConfig::empty(),
            looked: Instant::now(),
            wrong: None,
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self, WebConfigError> {
        Ok(Self {
            path: Some(path.to_owned()),
            config: WebConfig::read(path)?,
            ..Self::none()
        })
    }

    /// Whether everybody may read.
    pub(super) fn is_open(&self) -> bool {
        self.config.access.is_open() && self.config.acceptor.is_none()
    }

    pub(super) fn current(&mut self, now: Instant) -> &WebConfig {
        self.look(now);
        &self.config
    }

    pub(super) fn authorise(&mut self, credentials: Option<&str>, from: IpAddr, now: Instant) -> Verdict {
        self.look(now);
        self.config.access.authorise(credentials, from, now)
    }

    fn look(&mut self, now: Instant) {
        let Some(path) = &self.path else { return };
        if now.saturating_duration_since(self.looked) < LOOK_AGAIN {
            return;
        }
        self.looked = now;
        if !self.config.has_changed() {
            return;
        }
        let stamps: Vec<_> = self.config.files.iter().map(|(path, _)| Stamp::of(path)).collect();
        if self.wrong.as_ref() == Some(&stamps) {
            return;
        }
        match WebConfig::read(path) {
            Ok(config) => {
                info!("--web-config {} was read again", path.display());
                (self.config, self.wrong) = (config, None);
            }
            Err(error) => {
                warn!("{error}; what was read before holds on");
                self.wrong = Some(stamps);
            }
        }
    }
}

#[cfg(test)]
mod tests;
