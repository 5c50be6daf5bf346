//! What a server shows: the trait between the server and the command that measures.

use std::pin::Pin;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::output::metrics::format::Format;
use crate::serve::stream::Records;

/// A page, metrics and an API, kept up to date by what the measuring side feeds. The server calls it from its own thread.
pub trait Site: Send + 'static {
    /// What the measuring side hands over.
    type Update: Send + 'static;

    /// Takes an update. What is added to `records` goes to all readers of the stream.
    fn update(&mut self, update: Self::Update, now_ns: u64, records: &mut Records);

    /// Called every few seconds. As of an update, what is added to `records` goes to all readers.
    fn tick(&mut self, now_ns: u64, records: &mut Records) {
        let _ = (now_ns, records);
    }

    /// The first records for a new reader of the stream.
    fn greet(&self, records: &mut Records);

    /// The page at a path; `None` if there is none. It may be shown again for a quarter of a second.
    fn page(&mut self, request: &Request<'_>) -> Option<Page>;

    /// The page at a path that takes time, because others are asked for it. It is made beside other requests, and so without
    /// the site; for a bounded time, and a bounded number at once. `None`: [`Self::page`] has the path, if any.
    fn slow_page(&mut self, request: &Request<'_>) -> Option<SlowPage> {
        let _ = request;
        None
    }

    /// Why nothing is measured, if so.
    fn obstacle(&self) -> Option<&'static str>;
}

/// A page that is being made.
pub type SlowPage = Pin<Box<dyn Future<Output = Page> + Send>>;

/// A request that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    pub path: &'a str,
    /// Behind the `?` of a path of the API, or empty.
    pub query: &'a str,
    /// Of metrics, by the `Accept` header.
    pub format: Format,
    /// Updates that did not fit into the feed.
    pub updates_lost: u64,
}

/// The type of a page that is not compressed, as it would take more time than it saves.
pub const BINARY: &str = "application/octet-stream";

/// A reply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Page {
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
        }
    }

    pub fn json(body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self::new("application/json", body),
            Err(error) => Self::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// `{"error": "…"}`.
    pub fn refusal(status: StatusCode, error: &str) -> Self {
        Self {
            status,
            ..Self::new("application/json", json!({ "error": error }).to_string())
        }
    }
}

/// Requests to a site, without a server.
#[cfg(test)]
pub(crate) mod requests {
    use serde_json::Value;

    use super::*;

    pub(crate) fn take<S: Site>(site: &mut S, update: S::Update) {
        site.update(update, 0, &mut Records::default());
    }

    pub(crate) fn ask(site: &mut impl Site, address: &str) -> Option<Page> {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let request = Request {
            path,
            query,
            format: Format::Text,
            updates_lost: 3,
        };
        match site.slow_page(&request) {
            Some(page) => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                Some(runtime.block_on(page))
            }
            None => site.page(&request),
        }
    }

    pub(crate) fn text_of(site: &mut impl Site, address: &str) -> String {
        String::from_utf8(ask(site, address).unwrap().body.to_vec()).unwrap()
    }

    pub(crate) fn json_of(site: &mut impl Site, address: &str) -> Value {
        let page = ask(site, address).unwrap();
        assert_eq!(
            (page.status, page.content_type),
            (StatusCode::OK, "application/json"),
            "{address}"
        );
        serde_json::from_slice(&page.body).unwrap()
    }
}
