//! The records that a running agent streams as server-sent events, from `/api/v1/stream`.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::command::top::config::ServerConfig;
use crate::command::top::model::Update;
use crate::command::top::source::lines::Lines;
use crate::command::top::source::update;

const STREAM: &str = "/api/v1/stream";
/// For a connection, and for the head of a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that sends nothing is dead: it sends a comment every few seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Hands over records, and connects again whenever the stream ends, until nobody takes the updates.
pub async fn follow(config: ServerConfig, updates: Sender<Update>) {
    loop {
        let Err(why) = stream(&config, &updates).await;
        if updates.send(Update::Lost(why)).await.is_err() {
            return;
        }
        sleep(PAUSE).await;
    }
}

async fn stream(config: &ServerConfig, updates: &Sender<Update>) -> Result<Infallible, String> {
    let mut body = get(config).await?.into_body();
    let gone = |_| "top has ended".to_owned();
    updates.send(Update::Found).await.map_err(gone)?;
    let mut lines = Lines::default();
    loop {
        let frame = timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| format!("nothing from {} for {} s", config.url, SILENCE.as_secs()))?;
        let frame = frame.ok_or_else(|| format!("{} has ended the stream", config.url))?;
        let frame = frame.map_err(|error| format!("{}: {error}", config.url))?;
        for line in frame.data_ref().map(|bytes| lines.take(bytes)).unwrap_or_default() {
            let Some(data) = line.strip_prefix(b"data:") else {
                continue;
            };
            if let Some(update) = update(data.trim_ascii()) {
                updates.send(update).await.map_err(gone)?;
            }
        }
    }
}

async fn get(config: &ServerConfig) -> Result<Response<Incoming>, String> {
    let of = |what: &dyn std::fmt::Display| format!("{}: {what}", config.url);
    let late = |_| of(&format!("no answer for {} s", REPLY_TIMEOUT.as_secs()));
    let io = timeout(REPLY_TIMEOUT, connect(config)).await.map_err(late)?;
    let io = io.map_err(|error| of(&error))?;
    let (mut sender, connection) = handshake(TokioIo::new(io)).await.map_err(|error| of(&error))?;
    // It ends with the body of the reply.
    tokio::spawn(connection);
    let mut request = Request::get(format!("{}{STREAM}", config.path))
        .header(HOST, format!("{}:{}", config.host, config.port))
        .header(ACCEPT, "text/event-stream");
    if let Some((name, password)) = &config.credentials {
        let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
        request = request.header(AUTHORIZATION, format!("Basic {encoded}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| of(&error))?;
    let reply = timeout(REPLY_TIMEOUT, sender.send_request(request))
        .await
        .map_err(late)?;
    let reply = reply.map_err(|error| of(&error))?;
    let is_stream = reply.headers().get(CONTENT_TYPE);
    let is_stream = is_stream.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    match (reply.status(), &config.credentials) {
        (StatusCode::OK, _) if is_stream => Ok(reply),
        (StatusCode::UNAUTHORIZED, None) => Err(of(
            &"the server wants a name and a password: write NAME@ before the host, and give --password-file",
        )),
        (StatusCode::UNAUTHORIZED, Some((name, _))) => {
            Err(of(&format!("the server refuses '{name}' with this password")))
        }
        (StatusCode::OK | StatusCode::NOT_FOUND, _) => Err(of(&"no kstamp agent with --listen answers there")),
        (status, _) => Err(of(&format!("the server answers {status}"))),
    }
}

async fn connect(config: &ServerConfig) -> Result<Box<dyn Connection>, String> {
    let host = config.host.trim_start_matches('[').trim_end_matches(']');
    let connected = TcpStream::connect((host, config.port)).await;
    let tcp = connected.map_err(|error| plain_error(&error))?;
    if !config.is_tls {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connected = connector(&config.ca_file)?.connect(name, tcp).await;
    Ok(Box::new(connected.map_err(|error| plain_error(&error))?))
}

/// The text of an error without the number that `io::Error` adds.
fn plain_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn connector(ca_file: &Path) -> Result<TlsConnector, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("--ca-file {}: {error}", ca_file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|error| wrong(&error))? {
        // A certificate that is not understood is left out, as of the many that a system trusts.
        roots.add(certificate.map_err(|error| wrong(&error))?).ok();
    }
    if roots.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
