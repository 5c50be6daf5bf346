//! TLS with a private certificate authority, as `ovs-vsctl set-ssl` has it: both ends show a certificate of that authority.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::openflow::server::config::{StartError, TlsFiles};

/// Reads the files, and checks that key and certificate belong together.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, StartError> {
    let chain = certificates("--tls-cert", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| refuse("--tls-key", &files.key, "private key", &error))?;
    let mut roots = RootCertStore::empty();
    for authority in certificates("--tls-ca", &files.ca)? {
        roots
            .add(authority)
            .map_err(|error| refuse("--tls-ca", &files.ca, "certificate authority", &error))?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| refuse("--tls-ca", &files.ca, "certificate authority", &error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Tls(format!("TLS: {error}")))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| {
            let (cert, key) = (files.cert.display(), files.key.display());
            StartError::Tls(format!(
                "--tls-cert {cert} with --tls-key {key}: {error}; do they belong together?"
            ))
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let failed = |error: &dyn std::fmt::Display| refuse(flag, path, "certificate", error);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&error))?;
    if found.is_empty() {
        return Err(failed(&"there is none in it"));
    }
    Ok(found)
}

fn refuse(flag: &str, path: &Path, what: &str, error: &dyn std::fmt::Display) -> StartError {
    StartError::Tls(format!(
        "{flag} {}: cannot read a {what} in PEM format: {error}",
        path.display()
    ))
}
