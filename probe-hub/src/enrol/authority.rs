//! The authority of a fleet's certificates.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::address::Address;
use super::error::EnrolError;
use super::files::{read, replace};
use crate::name::HostName;

pub const CERTIFICATE: &str = "authority.pem";
pub const KEY: &str = "authority.key";

/// The certificates of hosts are not renewed, so they are valid for this time.
const VALID_YEARS: i16 = 30;

/// The last year in which certificates of today are valid.
pub fn expiry_year(now: Timestamp) -> i16 {
    now.to_zoned(TimeZone::UTC).year() + VALID_YEARS
}

pub struct Authority {
    /// PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key (PEM).
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// Makes one, and writes its files; the key last, by which a complete one is known.
    pub fn make(directory: &Path, now: Timestamp) -> Result<(), EnrolError> {
        let key = KeyPair::generate()?;
        // It is valid beyond those that it signs, for as long as it signs.
        let mut certificate = params(now);
        certificate.not_after = date_time_ymd((expiry_year(now) + VALID_YEARS).into(), 12, 31);
        replace(&directory.join(CERTIFICATE), &certificate.self_signed(&key)?.pem())?;
        replace(&directory.join(KEY), &key.serialize_pem())
    }

    /// Fails, and says why, if these are not a certificate and its key (PEM).
    pub fn check(certificate: &str, key: &str) -> Result<(), String> {
        KeyPair::from_pem(key).map_err(|error| format!("the key of its authority: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| format!("the certificate of its authority: {error}"))?;
        CertifiedKey::from_der(vec![certificate], key, &ring::default_provider())
            .map(drop)
            .map_err(|error| format!("the certificate of its authority does not belong to the key: {error}"))
    }

    pub fn read(directory: &Path) -> Result<Self, EnrolError> {
        let path = directory.join(KEY);
        let key = KeyPair::from_pem(&read(&path)?).map_err(|error| EnrolError::Content {
            path,
            why: error.to_string(),
        })?;
        Ok(Self {
            certificate: read(&directory.join(CERTIFICATE))?,
            issuer: Issuer::new(params(Timestamp::now()), key),
        })
    }

    /// For clients only: it is not valid as the certificate of a server.
    pub fn issue_client(&self, name: &HostName, now: Timestamp) -> Result<Issued, EnrolError> {
        self.issue(name.as_str(), &[], ExtendedKeyUsagePurpose::ClientAuth, now)
    }

    /// For these names and addresses.
    pub fn issue_server(&self, addresses: &[Address], now: Timestamp) -> Result<Issued, EnrolError> {
        let mut hosts: Vec<_> = addresses.iter().map(|address| address.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        self.issue("nats-server", &hosts, ExtendedKeyUsagePurpose::ServerAuth, now)
    }

    fn issue(
        &self,
        name: &str,
        hosts: &[String],
        purpose: ExtendedKeyUsagePurpose,
        now: Timestamp,
    ) -> Result<Issued, EnrolError> {
        let key = KeyPair::generate()?;
        let mut certificate = params(now);
        certificate.distinguished_name = named(name);
        certificate.is_ca = IsCa::ExplicitNoCa;
        certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        certificate.extended_key_usages = vec![purpose];
        certificate.use_authority_key_identifier_extension = true;
        certificate.subject_alt_names = CertificateParams::new(hosts)?.subject_alt_names;
        Ok(Issued {
            certificate: certificate.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Of the authority. Valid from yesterday: clocks may be behind.
fn params(now: Timestamp) -> CertificateParams {
    let yesterday = now
        .to_zoned(TimeZone::UTC)
        .date()
        .yesterday()
        .unwrap_or(jiff::civil::Date::MIN);
    let (month, day) = (yesterday.month().unsigned_abs(), yesterday.day().unsigned_abs());
    let mut params = CertificateParams::default();
    params.distinguished_name = named("kstamp authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(yesterday.year().into(), month, day);
    params.not_after = date_time_ymd(expiry_year(now).into(), 12, 31);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
