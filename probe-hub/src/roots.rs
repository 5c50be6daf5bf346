//! Certificates that sign those of servers, for HTTP.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// Those of the system, on Debian. Without it, those that Mozilla trusts are used.
pub const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Bytes of a file of certificates.
const MAX_ROOTS: u64 = 4 << 20;

pub fn system() -> RootCerts {
    let system = read(Path::new(SYSTEM_ROOTS)).unwrap_or_default();
    match system.is_empty() {
        true => RootCerts::WebPki,
        false => RootCerts::new_with_certs(&system),
    }
}

/// The certificates in a file in PEM.
pub fn read(path: &Path) -> io::Result<Vec<Certificate<'static>>> {
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_ROOTS).read_to_end(&mut pem)?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    Ok(items.collect())
}
