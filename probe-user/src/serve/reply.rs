//! The reply to each request. Only GET and HEAD are answered, and nothing can be changed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{Either, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::{Method, Response, StatusCode};
use probe_host::clock::monotonic_ns;
use tokio_rustls::TlsAcceptor;

use crate::output::metrics::format::{Format, accepts_gzip, zipped};
use crate::serve::access::Verdict;
use crate::serve::feed::Shared;
use crate::serve::site::{BINARY, Page, Request, Site};
use crate::serve::slow::Slow;
use crate::serve::stream::{Reader, Records, Stream};
use crate::serve::web_config::LiveConfig;

/// Other paths take no query.
const API: &str = "/api/";
/// Server-sent events.
const STREAM: &str = "/api/v1/stream";
const EVENTS: &str = "text/event-stream";
/// A page that was made within this time is used again, so that many scrapes cost no more than four a second.
const FRESH: Duration = Duration::from_millis(250);
/// Pages that are kept for that time, and their bytes.
const MAX_KEPT: usize = 64;
const MAX_KEPT_BYTES: usize = 16 << 20;
/// Shorter pages are not compressed.
const MIN_ZIPPED: usize = 1 << 10;
/// The measuring side notes twice a second that it runs.
const MAX_SILENCE_NS: u64 = 5_000_000_000;
/// Scripts, styles and data come from this server alone, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page, or the stream.
type Body = Either<Full<Bytes>, Reader>;
type Reply = Response<Body>;

/// A connection.
pub(super) struct Client {
    pub(super) source: IpAddr,
    /// It reads the stream.
    pub(super) is_reader: AtomicBool,
}

/// Shared by all connections.
pub(super) struct Replies<S>(Arc<State<S>>);

impl<S> Clone for Replies<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct State<S> {
    site: Mutex<S>,
    stream: Mutex<Stream>,
    config: Mutex<LiveConfig>,
    kept: Mutex<Kept>,
    slow: Slow,
    shared: Arc<Shared>,
    /// It listens on a loopback address.
    is_local: bool,
}

/// Pages by path with query, format and whether they are compressed.
#[derive(Default)]
struct Kept {
    since: Option<Instant>,
    bytes: usize,
    pages: BTreeMap<(String, Format, bool), Page>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Site> Replies<S> {
    pub(super) fn new(site: S, config: LiveConfig, shared: Arc<Shared>, is_local: bool) -> Self {
        Self(Arc::new(State {
            site: Mutex::new(site),
            stream: Mutex::default(),
            config: Mutex::new(config),
            kept: Mutex::default(),
            slow: Slow::new(),
            shared,
            is_local,
        }))
    }

    pub(super) fn update(&self, update: S::Update, now_ns: u64) {
        let mut stream = lock(&self.0.stream);
        let mut records = stream.records();
        lock(&self.0.site).update(update, now_ns, &mut records);
        stream.send(records);
    }

    pub(super) fn tick(&self, now_ns: u64) {
        let mut stream = lock(&self.0.stream);
        let mut records = stream.records();
        lock(&self.0.site).tick(now_ns, &mut records);
        stream.send(records);
        stream.keep_alive(Instant::now());
    }

    /// For a new connection; `None` without TLS.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        lock(&self.0.config).current(Instant::now()).acceptor.clone()
    }

    pub(super) async fn reply(&self, request: hyper::Request<Incoming>, client: &Client) -> Result<Reply, Infallible> {
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
            let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
            self.to(&parts.method, path, query, &parts.headers, client).await
        };
        let headers = reply.headers_mut();
        for (name, value) in [
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-cache"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Of one name, the one of the file holds.
        headers.extend(lock(&self.0.config).current(Instant::now()).headers.clone());
        Ok(reply)
    }

    async fn to(&self, method: &Method, path: &str, query: &str, headers: &HeaderMap, client: &Client) -> Reply {
        if method != Method::GET && method != Method::HEAD {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
            refusal
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        // A page of another site may have its own name resolved to this address, to read what is for this host alone.
        let host = headers.get(HOST);
        if self.0.is_local && host.is_some_and(|host| !is_of_this_host(host)) && lock(&self.0.config).is_open() {
            let line = "write localhost or an address: other names are answered only with --web-config";
            return text(StatusCode::MISDIRECTED_REQUEST, line);
        }
        let credentials = header(headers, &AUTHORIZATION);
        let verdict = lock(&self.0.config).authorise(credentials, client.source, Instant::now());
        match verdict {
            Verdict::Allowed => {}
            Verdict::Denied => {
                let mut refusal = text(StatusCode::UNAUTHORIZED, "name and password are needed");
                let basic = HeaderValue::from_static("Basic realm=\"kstamp\"");
                refusal.headers_mut().insert(WWW_AUTHENTICATE, basic);
                return refusal;
            }
            Verdict::TooMany => {
                return again_later(StatusCode::TOO_MANY_REQUESTS, "too many passwords were tried");
            }
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok"),
            "/readyz" => match self.obstacle(monotonic_ns()) {
                None => text(StatusCode::OK, "ready"),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            STREAM if method == Method::HEAD => with_type(StatusCode::OK, EVENTS, whole(Bytes::new())),
            STREAM => self.stream(client),
            _ => self.page(path, query, headers).await,
        }
    }

    /// Why nothing is measured.
    fn obstacle(&self, now_ns: u64) -> Option<&'static str> {
        let beat_ns = self.0.shared.beat_ns.load(Ordering::Relaxed);
        if now_ns.saturating_sub(beat_ns) > MAX_SILENCE_NS {
            return Some("the process does not measure");
        }
        lock(&self.0.site).obstacle()
    }

    fn stream(&self, client: &Client) -> Reply {
        let mut stream = lock(&self.0.stream);
        let mut greeting = Records::wanted();
        lock(&self.0.site).greet(&mut greeting);
        let Some(reader) = stream.subscribe(client.source, greeting, Instant::now()) else {
            return again_later(StatusCode::SERVICE_UNAVAILABLE, "too many read the stream");
        };
        client.is_reader.store(true, Ordering::Relaxed);
        with_type(StatusCode::OK, EVENTS, Either::Right(reader))
    }

    async fn page(&self, path: &str, query: &str, headers: &HeaderMap) -> Reply {
        let is_zipped = accepts_gzip(header(headers, &ACCEPT_ENCODING).unwrap_or_default());
        let request = self.request(path, query, headers);
        let slow = lock(&self.0.site).slow_page(&request);
        let made = match slow {
            Some(page) => Some(shrunk(self.0.slow.page(page).await, is_zipped)),
            None => self.kept(&request, is_zipped),
        };
        let Some((page, is_zipped)) = made else {
            return text(StatusCode::NOT_FOUND, "not found; / is the page");
        };
        let mut reply = with_type(page.status, page.content_type, whole(page.body));
        let headers = reply.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if is_zipped {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        reply
    }

    /// Without what has no effect, so that a page is kept for all requests for it.
    fn request<'a>(&self, path: &'a str, query: &'a str, headers: &HeaderMap) -> Request<'a> {
        Request {
            path,
            query: if path.starts_with(API) { query } else { "" },
            format: Format::negotiated(header(headers, &ACCEPT).unwrap_or_default()),
            updates_lost: self.0.shared.updates_lost.load(Ordering::Relaxed),
        }
    }

    /// The page, and whether it is compressed.
    fn kept(&self, request: &Request<'_>, is_zipped: bool) -> Option<(Page, bool)> {
        let mut kept = lock(&self.0.kept);
        if kept.since.is_none_or(|since| since.elapsed() >= FRESH) {
            *kept = Kept {
                since: Some(Instant::now()),
                ..Kept::default()
            };
        }
        let address = format!("{}?{}", request.path, request.query);
        let key = (address, request.format, is_zipped);
        if let Some(page) = kept.pages.get(&key) {
            return Some((page.clone(), is_zipped));
        }
        let (page, is_shrunk) = shrunk(lock(&self.0.site).page(request)?, is_zipped);
        if is_shrunk != is_zipped {
            return Some((page, false));
        }
        let bytes = kept.bytes + page.body.len();
        if kept.pages.len() < MAX_KEPT && bytes <= MAX_KEPT_BYTES {
            kept.bytes = bytes;
            kept.pages.insert(key, page.clone());
        }
        Some((page, is_zipped))
    }
}

/// Compresses a page for a client that accepts it, if that is worth the time. Returns whether it did.
fn shrunk(page: Page, is_zipped: bool) -> (Page, bool) {
    if !is_zipped || page.body.len() < MIN_ZIPPED || page.content_type == BINARY {
        return (page, false);
    }
    match zipped(&page.body) {
        Some(body) => (
            Page {
                body: body.into(),
                ..page
            },
            true,
        ),
        None => (page, false),
    }
}

/// Whether a `Host` header has an address or `localhost`: no resolver of others is needed for these.
fn is_of_this_host(host: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn text(status: StatusCode, line: &str) -> Reply {
    let body = whole(format!("{line}\n").into());
    with_type(status, "text/plain; charset=utf-8", body)
}

fn again_later(status: StatusCode, line: &str) -> Reply {
    let mut refusal = text(status, line);
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    refusal
}

fn whole(body: Bytes) -> Body {
    Either::Left(Full::new(body))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::serve::feed::Feed;
    use crate::serve::site::SlowPage;

    /// Counts the pages that it makes. A page has as many bytes as the query says. That of `/slow` is never ready.
    struct Counted(usize);

    impl Site for Counted {
        type Update = ();

        fn update(&mut self, (): (), _now_ns: u64, _records: &mut Records) {}

        fn greet(&self, _records: &mut Records) {}

        fn page(&mut self, request: &Request<'_>) -> Option<Page> {
            self.0 += 1;
            Some(Page::new("text/plain", vec![b'x'; request.query.parse().ok()?]))
        }

        fn slow_page(&mut self, request: &Request<'_>) -> Option<SlowPage> {
            match request.path {
                "/slow" => Some(Box::pin(std::future::pending())),
                "/api/v1/ready" => {
                    let bytes = request.query.parse().ok()?;
                    Some(Box::pin(async move { Page::new(BINARY, vec![b'x'; bytes]) }))
                }
                _ => None,
            }
        }

        fn obstacle(&self) -> Option<&'static str> {
            None
        }
    }

    #[test]
    fn kept_pages_are_bounded_and_made_once() {
        let replies = Replies::new(Counted(0), LiveConfig::none(), Feed::<()>::new(0).0.shared(), true);
        let ask = |path: &str, bytes: usize| {
            // However slow this test is.
            lock(&replies.0.kept).since = Some(Instant::now() + FRESH);
            let request = Request {
                path,
                query: &bytes.to_string(),
                format: Format::Text,
                updates_lost: 0,
            };
            let (page, _) = replies.kept(&request, false).unwrap();
            assert_eq!(page.body.len(), bytes);
            let kept = lock(&replies.0.kept);
            (lock(&replies.0.site).0, kept.pages.len(), kept.bytes)
        };
        assert_eq!(ask("/0", 10), (1, 1, 10));
        assert_eq!(ask("/0", 10), (1, 1, 10));
        assert_eq!(ask("/large", MAX_KEPT_BYTES), (2, 1, 10));
        for number in 1..2 * MAX_KEPT {
            ask(&format!("/{number}"), 10);
        }
        assert_eq!(ask("/0", 10), (1 + 2 * MAX_KEPT, MAX_KEPT, 10 * MAX_KEPT));
    }

    #[tokio::test]
    async fn a_page_that_takes_time_holds_up_no_other() {
        let replies = Replies::new(Counted(0), LiveConfig::none(), Feed::<()>::new(0).0.shared(), true);
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let mut slow = pin!(replies.page("/slow", "", &headers));
        let mut context = Context::from_waker(Waker::noop());
        assert!(slow.as_mut().poll(&mut context).is_pending());
        let ready = replies.page("/api/v1/ready", "5000", &headers).await;
        assert_eq!(ready.status(), StatusCode::OK);
        assert_eq!(ready.body().size_hint().exact(), Some(5_000));
        let plain = replies.page("/api/v1/any", "5000", &headers).await;
        assert_eq!(plain.headers()[CONTENT_ENCODING], "gzip");
        assert!(plain.body().size_hint().exact() < Some(5_000));
        assert!(slow.as_mut().poll(&mut context).is_pending());
    }

    #[test]
    fn requests_that_differ_without_effect_share_a_page() {
        let replies = Replies::new(Counted(0), LiveConfig::none(), Feed::<()>::new(0).0.shared(), true);
        let accepting = |accept| HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let plain = replies.request("/metrics", "", &HeaderMap::new());
        assert_eq!(
            replies.request("/metrics", "x=1", &accepting("text/plain;q=0.3")),
            plain
        );
        assert_ne!(
            replies.request("/metrics", "", &accepting("application/openmetrics-text")),
            plain
        );
        assert_eq!(
            replies.request("/api/v1/peers", "limit=1", &HeaderMap::new()).query,
            "limit=1"
        );
    }

    #[test]
    fn only_addresses_and_localhost_name_this_host() {
        for (host, want) in [
            ("127.0.0.1", true),
            ("127.0.0.1:9862", true),
            ("[::1]:9862", true),
            ("LocalHost:80", true),
            ("evil.example", false),
            ("localhost.evil.example:9862", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_of_this_host(&HeaderValue::from_static(host)), want, "{host}");
        }
    }
}
