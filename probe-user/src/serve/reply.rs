//! The reply to each request. Only GET and HEAD are answered, and nothing can be changed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use maud::{DOCTYPE, html};
use probe_host::clock::monotonic_ns;
use tokio_rustls::TlsAcceptor;

use crate::output::metrics::format::{Format, accepts_gzip, zipped};
use crate::output::metrics::{Metrics, encode};
use crate::serve::access::Verdict;
use crate::serve::feed::{Shared, Update};
use crate::serve::web_config::LiveConfig;

/// A body that was made within this time is used again, so that many scrapes cost no more than four a second.
const FRESH: Duration = Duration::from_millis(250);
/// The agent looks at its interface twice a second.
const MAX_SILENCE_NS: u64 = 5_000_000_000;

type Reply = Response<Full<Bytes>>;

/// Shared by all connections.
#[derive(Clone)]
pub(super) struct Replies(Arc<State>);

struct State {
    metrics: Arc<Mutex<Metrics>>,
    config: Mutex<LiveConfig>,
    bodies: Mutex<Bodies>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Bodies {
    made: Option<Instant>,
    by_format: BTreeMap<(Format, bool), Bytes>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replies {
    pub(super) fn new(metrics: Metrics, config: LiveConfig, shared: Arc<Shared>) -> Self {
        Self(Arc::new(State {
            metrics: Arc::new(Mutex::new(metrics)),
            config: Mutex::new(config),
            bodies: Mutex::default(),
            shared,
        }))
    }

    pub(super) fn update(&self, update: Update, now_ns: u64) {
        let mut metrics = lock(&self.0.metrics);
        match update {
            Update::Event(event) => metrics.event(&event, now_ns),
            Update::State(state) => metrics.set_state(*state),
        }
    }

    pub(super) fn expire(&self, now_ns: u64) {
        lock(&self.0.metrics).expire(now_ns);
    }

    /// For a new connection; `None` without TLS.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        lock(&self.0.config).current(Instant::now()).acceptor.clone()
    }

    pub(super) async fn reply(&self, request: Request<Incoming>) -> Result<Reply, Infallible> {
        let (parts, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let mut reply = if has_body {
            // It is not read, so the connection ends.
            let mut refusal = text(StatusCode::PAYLOAD_TOO_LARGE, "requests have no body");
            refusal
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            refusal
        } else {
            self.to(&parts.method, parts.uri.path(), &parts.headers)
        };
        let headers = reply.headers_mut();
        headers.extend(lock(&self.0.config).current(Instant::now()).headers.clone());
        headers.insert(
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        );
        Ok(reply)
    }

    fn to(&self, method: &Method, path: &str, headers: &HeaderMap) -> Reply {
        if method != Method::GET && method != Method::HEAD {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
            refusal
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let credentials = header(headers, &AUTHORIZATION);
        let verdict = lock(&self.0.config).authorise(credentials, Instant::now());
        match verdict {
            Verdict::Allowed => {}
            Verdict::Denied => {
                let mut refusal = text(StatusCode::UNAUTHORIZED, "name and password are needed");
                let basic = HeaderValue::from_static("Basic realm=\"kstamp\"");
                refusal.headers_mut().insert(WWW_AUTHENTICATE, basic);
                return refusal;
            }
            Verdict::TooMany => {
                let mut refusal = text(StatusCode::TOO_MANY_REQUESTS, "too many passwords were tried");
                refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                return refusal;
            }
        }
        match path {
            "/metrics" => self.metrics(headers),
            "/healthz" => text(StatusCode::OK, "ok"),
            "/readyz" => match self.obstacle(monotonic_ns()) {
                None => text(StatusCode::OK, "ready"),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            "/" => index(),
            _ => text(StatusCode::NOT_FOUND, "not found; / lists what there is"),
        }
    }

    /// Why the agent does not measure.
    fn obstacle(&self, now_ns: u64) -> Option<&'static str> {
        let beat_ns = self.0.shared.beat_ns.load(Ordering::Relaxed);
        if now_ns.saturating_sub(beat_ns) > MAX_SILENCE_NS {
            return Some("the agent does not run");
        }
        let is_up = lock(&self.0.metrics).interface_is_up();
        (!is_up).then_some("the interface is down")
    }

    fn metrics(&self, headers: &HeaderMap) -> Reply {
        let format = Format::negotiated(header(headers, &ACCEPT).unwrap_or_default());
        let is_zipped = accepts_gzip(header(headers, &ACCEPT_ENCODING).unwrap_or_default());
        let Some(body) = self.body(format, is_zipped) else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded");
        };
        let mut reply = Response::new(Full::new(body));
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if is_zipped {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        reply
    }

    fn body(&self, format: Format, is_zipped: bool) -> Option<Bytes> {
        let mut bodies = lock(&self.0.bodies);
        if bodies.made.is_none_or(|made| made.elapsed() >= FRESH) {
            *bodies = Bodies {
                made: Some(Instant::now()),
                ..Bodies::default()
            };
        }
        if let Some(body) = bodies.by_format.get(&(format, is_zipped)) {
            return Some(body.clone());
        }
        lock(&self.0.metrics).set_events_lost(self.0.shared.events_lost.load(Ordering::Relaxed));
        let plain = encode(&self.0.metrics, format).ok()?;
        let body = Bytes::from(if is_zipped { zipped(&plain)? } else { plain });
        bodies.by_format.insert((format, is_zipped), body.clone());
        Some(body)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn text(status: StatusCode, line: &str) -> Reply {
    with_type(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn index() -> Reply {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "kstamp agent" } }
            body {
                h1 { "kstamp agent" }
                ul {
                    @for (path, what) in [
                        ("/metrics", "metrics for Prometheus"),
                        ("/healthz", "whether the server runs"),
                        ("/readyz", "whether the agent measures"),
                    ] {
                        li { a href=(path) { (path) } ": " (what) }
                    }
                }
            }
        }
    };
    with_type(StatusCode::OK, "text/html; charset=utf-8", page.into_string())
}
