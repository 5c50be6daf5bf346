//! Requests to the server of a running agent.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::command::top::config::ServerConfig;

/// For a connection, and for the head of a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// A connection, for one request after another. Errors are one line, with the URL.
pub struct Client<'a> {
    config: &'a ServerConfig,
    sender: SendRequest<Empty<Bytes>>,
}

impl<'a> Client<'a> {
    pub async fn open(config: &'a ServerConfig) -> Result<Self, String> {
        let of = |what: &dyn Display| error_of(config, what);
        let io = in_time(config, connect(config)).await?.map_err(|error| of(&error))?;
        let (sender, connection) = handshake(TokioIo::new(io)).await.map_err(|error| of(&error))?;
        // It ends with the sender and the body of the last reply.
        tokio::spawn(connection);
        Ok(Self { config, sender })
    }

    /// The reply to `GET`, unless it is a refusal for want of the right password.
    pub async fn get(&mut self, path: &str, accept: &str) -> Result<Response<Incoming>, String> {
        let config = self.config;
        let of = |what: &dyn Display| error_of(config, what);
        let mut request = Request::get(format!("{}{path}", config.path))
            .header(HOST, format!("{}:{}", config.host, config.port))
            .header(ACCEPT, accept);
        if let Some((name, password)) = &config.credentials {
            let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
            request = request.header(AUTHORIZATION, format!("Basic {encoded}"));
        }
        let request = request.body(Empty::new()).map_err(|error| of(&error))?;
        let reply = in_time(config, async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        });
        let reply = reply.await?.map_err(|error| of(&error))?;
        match (reply.status(), &config.credentials) {
            (StatusCode::UNAUTHORIZED, None) => Err(of(
                &"the server wants a name and a password: write NAME@ before the host, and give --password-file",
            )),
            (StatusCode::UNAUTHORIZED, Some((name, _))) => {
                Err(of(&format!("the server refuses '{name}' with this password")))
            }
            _ => Ok(reply),
        }
    }
}

/// An error that names the server.
pub fn error_of(config: &ServerConfig, what: &dyn Display) -> String {
    format!("{}: {what}", config.url)
}

async fn in_time<T>(config: &ServerConfig, reply: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| error_of(config, &format!("no answer for {} s", REPLY_TIMEOUT.as_secs()));
    timeout(REPLY_TIMEOUT, reply).await.map_err(late)
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
    let connected = connected.map_err(|error| match is_untrusted(&error) {
        true => format!(
            "no certificate in {} has signed that of the server; name the file of its authority with --ca-file",
            config.ca_file.display()
        ),
        false => plain_error(&error),
    });
    Ok(Box::new(connected?))
}

/// Whether no certificate that is trusted has signed that of the server.
fn is_untrusted(error: &std::io::Error) -> bool {
    use tokio_rustls::rustls::CertificateError::{BadSignature, UnknownIssuer};
    use tokio_rustls::rustls::Error::InvalidCertificate;
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(InvalidCertificate(UnknownIssuer | BadSignature)))
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
