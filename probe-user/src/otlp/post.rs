//! One export: a request, and what its reply means (OTLP 1.x, "OTLP/HTTP Response").

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use ureq::config::Config;
use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, Error, Timeout};

use crate::otlp::target::OtlpConfig;

/// Time for one request, from the look-up of the name to the end of the reply.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a reply.
const MAX_REPLY: u64 = 64 << 10;
/// Characters of a message of the receiver that are shown.
const MAX_SHOWN: usize = 200;

pub(super) struct Post {
    pub(super) url: String,
    headers: HeaderMap,
    agent: Agent,
}

/// The receiver has taken the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Data points that it has not taken, and why.
    pub(super) rejected: i64,
    pub(super) message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// The receiver asks for this time.
    pub(super) retry_after: Option<Duration>,
}

impl Post {
    pub(super) fn new(config: OtlpConfig) -> Self {
        let OtlpConfig { url, headers, roots } = config;
        let agent = Config::builder()
            .http_status_as_error(false)
            // Headers may contain a password for this receiver alone.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("kstamp/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build()
            .new_agent();
        Self { url, headers, agent }
    }

    /// Sends a body that is compressed by gzip, within `limit` or [`TIMEOUT`].
    pub(super) fn send(&self, body: &[u8], limit: Option<Duration>) -> Result<Accepted, Failure> {
        let mut request = self.agent.post(&self.url);
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        let request = request
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "gzip")
            .config()
            .timeout_global(Some(limit.unwrap_or(TIMEOUT)))
            .build();
        let mut response = request.send(body).map_err(|error| Failure {
            why: in_words(&error),
            retry_after: None,
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(status, response.headers()));
        }
        Ok(accepted(response.body_mut()))
    }
}

/// A reply that cannot be read is one without a partial success.
fn accepted(body: &mut Body) -> Accepted {
    let bytes = body.with_config().limit(MAX_REPLY).read_to_vec().unwrap_or_default();
    let reply = ExportMetricsServiceResponse::decode(bytes.as_slice()).unwrap_or_default();
    let partial = reply.partial_success.unwrap_or_default();
    Accepted {
        rejected: partial.rejected_data_points,
        message: shown(&partial.error_message),
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; --otlp-headers FILE has the credentials".to_owned(),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "; is the path that of an OTLP receiver?".to_owned(),
        _ if status.is_redirection() => {
            let to = shown(text(header::LOCATION).unwrap_or_default());
            format!("; it redirects to '{to}', which is not followed")
        }
        _ => String::new(),
    };
    let seconds = text(header::RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
    Failure {
        why: format!("the receiver answers {status}{hint}"),
        retry_after: seconds.map(Duration::from_secs),
    }
}

fn in_words(error: &Error) -> String {
    match error {
        Error::HostNotFound => "there is no such host".to_owned(),
        Error::Timeout(Timeout::Connect | Timeout::Resolve) | Error::ConnectionFailed => {
            "it cannot be reached".to_owned()
        }
        Error::Timeout(_) => "it does not answer in time".to_owned(),
        Error::Io(error) => format!("it cannot be reached: {error}"),
        Error::Rustls(error) => format!("TLS: {error}; --otlp-ca FILE has the certificates that sign its own"),
        other => other.to_string(),
    }
}

/// Text of the receiver, for the terminal.
fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_SHOWN).collect()
}
