//! Where metrics are sent: an address, and what the receiver demands.

use std::path::{Path, PathBuf};

use probe_hub::roots;
use thiserror::Error;
use ureq::http::uri::Scheme;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ureq::tls::RootCerts;

/// Behind the address of a receiver (OTLP 1.x, "OTLP/HTTP Request").
const PATH: &str = "/v1/metrics";
/// Bytes of a file of headers.
pub const MAX_HEADERS_FILE: u64 = 16_384;

/// A checked target.
#[derive(Debug, Clone)]
pub struct OtlpConfig {
    /// With the path.
    pub url: String,
    /// Sensitive.
    pub headers: HeaderMap,
    pub roots: RootCerts,
}

#[derive(Debug, Error)]
pub enum TargetError {
    #[error("--otlp '{url}' is not an address of a receiver ({why}); write http://HOST:4318 or https://HOST/PATH")]
    Url { url: String, why: &'static str },
    #[error("--otlp has a name or password, which every user of this host can see; put them into --otlp-headers FILE")]
    Secret,
    #[error("--otlp-headers {path} is longer than {MAX_HEADERS_FILE} bytes; leave out what the receiver does not need")]
    Long { path: PathBuf },
    #[error("--otlp-ca {path}: {why}; give a file of certificates in PEM")]
    Roots { path: PathBuf, why: String },
    #[error(
        "--otlp-headers {path}, line {line}: {why}; write one header in a line, as in `Authorization: Bearer TOKEN`"
    )]
    Header {
        path: PathBuf,
        line: usize,
        why: &'static str,
    },
}

/// The address of the receiver's metrics: `url`, and the path of OTLP unless it is there.
pub fn url(url: &str) -> Result<String, TargetError> {
    let wrong = |why| TargetError::Url {
        url: url.to_owned(),
        why,
    };
    let parsed: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
    let scheme = parsed
        .scheme()
        .ok_or_else(|| wrong("there is no http:// or https://"))?;
    if ![Scheme::HTTP, Scheme::HTTPS].contains(scheme) {
        return Err(wrong("only http and https are spoken"));
    }
    let authority = parsed.authority().ok_or_else(|| wrong("there is no host"))?;
    if authority.as_str().contains('@') {
        return Err(TargetError::Secret);
    }
    let has_port = authority.as_str() != authority.host();
    if authority.host().is_empty() || (has_port && authority.port_u16().is_none_or(|port| port == 0)) {
        return Err(wrong("the host or the port is not one"));
    }
    if parsed.query().is_some() || url.contains('#') {
        return Err(wrong("a query has no meaning here"));
    }
    let base = url.trim_end_matches('/');
    Ok(match base.ends_with(PATH) {
        true => base.to_owned(),
        false => format!("{base}{PATH}"),
    })
}

/// Headers, one in a line: `Name: value`. Empty lines and those that begin with `#` are left out.
pub fn headers(path: &Path, content: &[u8]) -> Result<HeaderMap, TargetError> {
    if content.len() as u64 > MAX_HEADERS_FILE {
        return Err(TargetError::Long { path: path.to_owned() });
    }
    let mut headers = HeaderMap::new();
    for (number, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (name, value) = header(line).map_err(|why| TargetError::Header {
            path: path.to_owned(),
            line: number + 1,
            why,
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The reason does not show the line, which can be a secret.
fn header(line: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or("there is no colon")?;
    let name = HeaderName::from_bytes(line[..colon].trim_ascii()).map_err(|_| "that is not the name of a header")?;
    let mut value =
        HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| "that is not the value of a header")?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The certificates in `path`, or those of the system.
pub fn roots(path: Option<&Path>) -> Result<RootCerts, TargetError> {
    let Some(path) = path else {
        return Ok(roots::system());
    };
    let wrong = |why: String| TargetError::Roots {
        path: path.to_owned(),
        why,
    };
    let certificates = roots::read(path).map_err(|error| wrong(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(wrong("there is no certificate in it".to_owned())),
        false => Ok(RootCerts::new_with_certs(&certificates)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_otlp_is_added_unless_it_is_there() {
        for (given, want) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/metrics"),
            ("https://[::1]:4318/", "https://[::1]:4318/v1/metrics"),
            ("http://h:9090/api/v1/otlp", "http://h:9090/api/v1/otlp/v1/metrics"),
            (
                "http://h:9090/api/v1/otlp/v1/metrics",
                "http://h:9090/api/v1/otlp/v1/metrics",
            ),
        ] {
            assert_eq!(url(given).unwrap(), want, "{given}");
        }
        for (given, part) in [
            ("", "not a URL"),
            ("h:4318", "http"),
            ("/v1/metrics", "no http:// or https://"),
            ("grpc://h:4317", "only http"),
            ("http://", "URL"),
            ("http://h:99999", "port"),
            ("http://h:", "port"),
            ("http://:4318", "host"),
            ("http://h/?a=b", "query"),
            ("http://h/#a", "query"),
            ("http://user:secret@h:4318", "--otlp-headers"),
        ] {
            let error = url(given).expect_err(given).to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{given}: {error}");
        }
    }

    #[test]
    fn headers_are_lines_and_never_shown() {
        let read = |text: &str| headers(Path::new("f"), text.as_bytes());
        let two = read("# token\nAuthorization: Bearer x:y\r\n\nX-Scope-OrgID:7").unwrap();
        assert_eq!(
            (two["authorization"].as_bytes(), two["x-scope-orgid"].as_bytes()),
            (&b"Bearer x:y"[..], &b"7"[..])
        );
        assert!(!format!("{two:?}").contains("Bearer"));
        for wrong in ["ok: 1\nsecret", "ok: 1\nsec ret: 1", "ok: 1\nname: sec\u{1}ret"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(
                error.contains("f, line 2") && !error.contains("ret:") && !error.contains("sec"),
                "{error}"
            );
        }
    }

    #[test]
    fn certificates_are_those_of_the_file_or_of_the_system() {
        let signed = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(
            roots(Some(file.path()))
                .unwrap_err()
                .to_string()
                .contains("no certificate")
        );
        std::fs::write(file.path(), signed.cert.pem()).unwrap();
        assert!(matches!(roots(Some(file.path())).unwrap(), RootCerts::Specific(_)));
        assert!(
            roots(Some(Path::new("/nonexistent")))
                .unwrap_err()
                .to_string()
                .contains("--otlp-ca")
        );
        assert!(roots(None).is_ok());
    }
}
