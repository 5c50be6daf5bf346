//! A connection to a NATS server, by TLS in both directions and an NKey.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{
    Client, ClientError, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Request, ServerAddr, ServerInfo,
};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use crate::credentials::Credentials;
use crate::{spread, subjects};

/// The oldest server that has all that the fleet uses.
pub const OLDEST_SERVER: (u64, u64) = (2, 11);

/// Time for a reply to a request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// What to do about a server that cannot be reached.
const CHECK_SERVER: &str = "check that it runs, its address and port, and firewalls";
/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(4);

#[derive(Debug, Error)]
pub enum ConnectionError {
    #[error("the {what} in the credentials is no PEM that can be used: {why}")]
    Pem { what: &'static str, why: String },
    #[error("{0} is no address of a NATS server: {1}; write tls://HOST:4222")]
    Address(String, String),
}

/// Fails if [`connect`] would, without connecting.
pub fn check(credentials: &Credentials) -> Result<(), ConnectionError> {
    tls(credentials)?;
    check_servers(&credentials.servers)
}

/// Whether these are addresses of servers that speak TLS.
pub fn check_servers(servers: &[String]) -> Result<(), ConnectionError> {
    servers.iter().try_for_each(|server| address(server).map(drop))
}

fn address(server: &str) -> Result<ServerAddr, ConnectionError> {
    let refused = |why: String| ConnectionError::Address(server.to_owned(), why);
    let address: ServerAddr = server.parse().map_err(|error: io::Error| refused(error.to_string()))?;
    if address.scheme() != "tls" {
        return Err(refused(format!("{} is not encrypted", address.scheme())));
    }
    let is_host = !address.host().is_empty() && !address.host().contains(['%', ' ']);
    is_host
        .then_some(address)
        .ok_or_else(|| refused("it names no host".to_owned()))
}

/// Connects, and connects again whenever the connection is lost, for as long as a copy of the client is there. Returns at once;
/// `note` gets the events of the connection. Fails only if the credentials cannot be used.
pub async fn connect<F, Fut>(credentials: &Credentials, note: F) -> Result<Client, ConnectionError>
where
    F: Fn(Event) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + Sync + 'static,
{
    let options = ConnectOptions::new()
        .name(format!("kstamp {}", credentials.name))
        .nkey(credentials.seed.clone())
        .require_tls(true)
        .tls_client_config(tls(credentials)?)
        .custom_inbox_prefix(subjects::inbox(&credentials.name))
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|attempts| pause(attempts, RandomState::new().hash_one(attempts)))
        .retry_on_initial_connect()
        .ignore_discovered_servers()
        .event_callback(note);
    let servers = credentials.servers.clone();
    options
        .connect(servers)
        .await
        .map_err(|error| ConnectionError::Address(credentials.servers.join(", "), error.to_string()))
}

/// The pause before an attempt to connect: doubled with each, and not the same for all agents, which have lost their server at
/// the same time.
fn pause(attempts: usize, random: u64) -> Duration {
    let doubled = Duration::from_millis(100) * 2_u32.saturating_pow(attempts.min(10) as u32);
    spread::by(doubled.min(MAX_PAUSE), random)
}

fn tls(credentials: &Credentials) -> Result<ClientConfig, ConnectionError> {
    let certificates = |what, pem: &str| -> Result<Vec<CertificateDer<'static>>, ConnectionError> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(what, error))
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates("ca", &credentials.ca)? {
        roots.add(authority).map_err(|error| unusable("ca", error))?;
    }
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).map_err(|error| unusable("key", error))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("ca", error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates("certificate", &credentials.certificate)?, key)
        .map_err(|error| unusable("certificate", error))
}

fn unusable(what: &'static str, error: impl std::fmt::Display) -> ConnectionError {
    ConnectionError::Pem {
        what,
        why: error.to_string(),
    }
}

/// Whether a server has not accepted the NKey.
pub fn authorization_is_violated(error: &ClientError) -> bool {
    *error == ClientError::Other(ConnectErrorKind::AuthorizationViolation.to_string())
}

/// Why a stream did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NoReply,
    /// It never will.
    TooLarge(String),
    /// The newest message of the subject is not the one that was expected; 0 if there is none, `None` if the server does not
    /// say it.
    OtherSequence(Option<u64>),
    Refused(String),
}

/// Publishes to a stream or bucket, and waits until it is stored. Returns its sequence number there.
pub async fn publish(client: &Client, subject: String, headers: HeaderMap, content: Vec<u8>) -> Result<u64, Refusal> {
    let request = Request::new().headers(headers).payload(content.into());
    let reply = client.send_request(subject, request).await;
    let reply = reply.map_err(|error| match error.kind() {
        RequestErrorKind::MaxPayloadExceeded => Refusal::TooLarge(error.to_string()),
        RequestErrorKind::NoResponders => Refusal::Refused(
            "it has no stream for that; start the hub, which makes it, or turn JetStream on".to_owned(),
        ),
        _ => Refusal::NoReply,
    })?;
    match serde_json::from_slice(&reply.payload) {
        Ok(Response::<PublishAck>::Ok(stored)) => Ok(stored.sequence),
        Ok(Response::Err { error }) => Err(match error.error_code() {
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                Refusal::OtherSequence(sequence_of(&error.to_string()))
            }
            _ => Refusal::Refused(error.to_string()),
        }),
        Err(error) => Err(Refusal::Refused(format!("it answers what cannot be read: {error}"))),
    }
}

/// From `wrong last sequence: 7 (…`.
fn sequence_of(error: &str) -> Option<u64> {
    let (_, number) = error.split_once("sequence: ")?;
    number.split(' ').next()?.parse().ok()
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    Unreachable(String),
    /// The server and these credentials do not fit.
    Refused(String),
}

impl Problem {
    /// The problem if each server has one. While a server cannot be reached, it may still do.
    fn of_all(problems: Vec<Self>) -> Option<Self> {
        let refuse = problems.iter().all(|problem| matches!(problem, Self::Refused(_)));
        let why = problems.into_iter().map(|problem| match problem {
            Self::Unreachable(why) | Self::Refused(why) => why,
        });
        let why = why.reduce(|before, other| format!("{before}; {other}"))?;
        Some(if refuse {
            Self::Refused(why)
        } else {
            Self::Unreachable(why)
        })
    }
}

/// Looks for the reason why no server can be connected to. The client itself says only at which step it fails.
pub async fn diagnose(credentials: &Credentials) -> Result<(), Problem> {
    let mut problems = Vec::new();
    for server in &credentials.servers {
        let silent = || Problem::Unreachable(format!("{server} does not answer; {CHECK_SERVER}"));
        let examined = timeout(REQUEST_TIMEOUT, examine(server, credentials)).await;
        match examined.unwrap_or_else(|_| Err(silent())) {
            Ok(()) => return Ok(()),
            Err(problem) => problems.push(problem),
        }
    }
    Problem::of_all(problems).map_or(Ok(()), Err)
}

/// The steps of a connection, as far as the NKey.
async fn examine(server: &str, credentials: &Credentials) -> Result<(), Problem> {
    const MAX_INFO_LEN: u64 = 64 << 10;
    let unreachable = |error: io::Error| Problem::Unreachable(format!("{server}: {error}; {CHECK_SERVER}"));
    let refused = |why: String| Problem::Refused(format!("{server}: {why}"));
    let tls = tls(credentials).map_err(|error| refused(error.to_string()))?;
    let address = address(server).map_err(|error| refused(error.to_string()))?;
    let name = ServerName::try_from(address.host().to_owned()).map_err(|error| refused(error.to_string()))?;
    let stream = TcpStream::connect((address.host(), address.port()))
        .await
        .map_err(unreachable)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream)
        .take(MAX_INFO_LEN)
        .read_line(&mut line)
        .await
        .map_err(unreachable)?;
    if line.is_empty() {
        return Err(unreachable(io::ErrorKind::UnexpectedEof.into()));
    }
    let info = line
        .strip_prefix("INFO ")
        .and_then(|info| serde_json::from_str::<ServerInfo>(info).ok());
    let info = info.ok_or_else(|| refused("this is no NATS server".to_owned()))?;
    if let Some(why) = too_old(&info) {
        return Err(refused(why));
    }
    let tls = TlsConnector::from(Arc::new(tls));
    let stream = tls.connect(name, stream.into_inner()).await;
    let mut stream = stream.map_err(|error| match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(problem) => refused(tls_problem(problem, address.host())),
        None => unreachable(error),
    })?;
    // It looks at this host's certificate after the handshake, from the client's point of view, and then waits for the client.
    match timeout(Duration::from_secs(1), stream.read_u8()).await {
        Ok(Err(error)) => Err(refused(format!(
            "it does not accept the certificate of {0} ({error}); check both clocks, and run `kstamp hub enroll {0} --replace` with its --prefix or --reader",
            credentials.name
        ))),
        _ => Ok(()),
    }
}

/// Says why TLS with the server at `host` fails.
fn tls_problem(error: &rustls::Error, host: &str) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return format!("TLS with it fails: {error}; check both clocks, and that the credentials are of this fleet");
    };
    let date = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
    };
    match certificate {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate expired at {}, and by the clock of this host it is {}; set the clock, or give the server a new \
             certificate, as each start of `kstamp hub` does for its own",
            date(not_after),
            date(time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is valid from {} on, and by the clock of this host it is {}; set the clock",
            date(not_before),
            date(time)
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not from the authority in the credentials; use credentials of the server's fleet, from `kstamp hub \
             enroll`, or correct the address"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "its certificate is not for {host}; start `kstamp hub` with --address {host}, or use an address that the \
             certificate names"
        ),
        other => format!("its certificate cannot be used: {other}"),
    }
}

/// What is wrong with the servers of `credentials` if the one that says `server` is too old.
pub fn too_old_of(credentials: &Credentials, server: &ServerInfo) -> Option<String> {
    too_old(server).map(|why| format!("{}: {why}", credentials.servers.join(", ")))
}

/// What is wrong with a server that is too old, if so.
pub fn too_old(server: &ServerInfo) -> Option<String> {
    let (major, minor) = OLDEST_SERVER;
    let mut numbers = server
        .version
        .split('.')
        .map(|number| number.parse::<u64>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (version < OLDEST_SERVER).then(|| {
        format!(
            "the NATS server is version {}, and {major}.{minor} or newer is needed; upgrade nats-server (the one of Debian 12 is \
             too old)",
            server.version
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_speak_tls_are_addresses() {
        let check = |server: &str| check_servers(&[server.to_owned()]).map_err(|error| error.to_string());
        for right in ["tls://10.0.0.1:4222", "tls://nats.example.org", "tls://[fd01::1]:4222"] {
            assert_eq!(check(right), Ok(()));
        }
        for wrong in [
            "",
            "nats://10.0.0.1:4222",
            "10.0.0.1",
            "http://h",
            "tls://",
            "tls://a b",
        ] {
            assert!(
                check(wrong).is_err_and(|error| error.contains("tls://HOST:4222")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let seconds = |attempts, random| pause(attempts, random).as_secs_f64();
        let around = |seconds: f64, want: f64| (seconds - want).abs() < 0.001;
        assert!(around(seconds(0, 0), 0.05) && around(seconds(0, u64::MAX), 0.1));
        assert!(around(seconds(3, 0), 0.4) && around(seconds(3, u64::MAX), 0.8));
        assert!(around(seconds(usize::MAX, 0), 2.0) && around(seconds(usize::MAX, u64::MAX), 4.0));
    }

    #[test]
    fn the_sequence_is_read_from_the_refusal() {
        let read = |text: &str| sequence_of(text);
        assert_eq!(read("wrong last sequence: 7 (code 400, error code 10071)"), Some(7));
        assert_eq!(read("wrong last sequence (code 400, error code 10164)"), None);
        assert_eq!(read("wrong last sequence: many"), None);
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_with_dates_and_what_to_do() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let problem = |certificate| tls_problem(&rustls::Error::InvalidCertificate(certificate), "hub.example.org");
        let expired = CertificateError::ExpiredContext {
            time: time(1_795_865_400),
            not_after: time(1_795_824_000),
        };
        let early = CertificateError::NotValidYetContext {
            time: time(1_795_737_600),
            not_before: time(1_795_824_000),
        };
        for (certificate, contains) in [
            (expired.clone(), "expired at 2026-11-28T00:00:00Z"),
            (expired, "it is 2026-11-28T11:30:00Z"),
            (early.clone(), "valid from 2026-11-28T00:00:00Z"),
            (early, "it is 2026-11-27T00:00:00Z; set the clock"),
            (CertificateError::UnknownIssuer, "`kstamp hub enroll`"),
            (CertificateError::BadSignature, "`kstamp hub enroll`"),
            (CertificateError::NotValidForName, "--address hub.example.org"),
        ] {
            let problem = problem(certificate);
            assert!(problem.contains(contains) && !problem.contains('\n'), "{problem}");
        }
        let other = tls_problem(&rustls::Error::DecryptError, "hub.example.org");
        assert!(other.contains("TLS") && other.contains("clocks"), "{other}");
    }

    #[test]
    fn servers_refuse_only_if_all_of_them_do() {
        let [refused, unreachable] = [Problem::Refused, Problem::Unreachable];
        let of_all = |problems: &[Problem]| Problem::of_all(problems.to_vec());
        let [old, away] = [refused("a: old".to_owned()), unreachable("b: away".to_owned())];
        assert_eq!(of_all(&[]), None);
        assert_eq!(of_all(std::slice::from_ref(&old)), Some(old.clone()));
        assert_eq!(
            of_all(&[old.clone(), old.clone()]),
            Some(refused("a: old; a: old".to_owned()))
        );
        assert_eq!(of_all(&[old, away]), Some(unreachable("a: old; b: away".to_owned())));
    }

    #[test]
    fn old_servers_are_named() {
        let server = |version: &str| ServerInfo {
            version: version.to_owned(),
            ..ServerInfo::default()
        };
        assert!(too_old(&server("2.9.10")).unwrap().contains("2.9.10"));
        assert!(too_old(&server("")).is_some());
        assert_eq!(too_old(&server("2.11.0")), None);
        assert_eq!(too_old(&server("2.15.1-beta")), None);
        assert_eq!(too_old(&server("3.0.0")), None);
    }
}
