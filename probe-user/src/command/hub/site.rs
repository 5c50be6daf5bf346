//! What `--listen` shows of a hub.

pub mod api;
mod assets;
mod cells;
mod metrics;
pub mod openapi;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;
use std::convert::Infallible;

use hyper::StatusCode;
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_hub::hub::alerts::Alert;
use probe_hub::hub::query;

use crate::command::hub::site::rows::AlertLine;
pub use crate::command::hub::site::source::Source;
use crate::serve::site::{Page, Request, Site, SlowPage};
use crate::serve::stream::Records;

/// The reply of the API to a query, for [`query::serve`].
pub async fn answer(source: impl Source, name: &str, query: &str) -> query::QueryReply {
    let missing = || (StatusCode::NOT_FOUND.as_u16(), format!("nothing is named {name}"));
    let page = api::page(&source, &format!("/api/v1/{name}"), query)
        .ok_or_else(missing)?
        .await;
    if page.status == StatusCode::OK {
        return Ok(page.body);
    }
    let reply: serde_json::Value = serde_json::from_slice(&page.body).unwrap_or_default();
    Err((
        page.status.as_u16(),
        reply["error"].as_str().unwrap_or_default().to_owned(),
    ))
}

pub struct HubSite<S> {
    source: S,
    /// When it started.
    since_ns: u64,
    /// Identifiers of the alerts that the stream has last said to be raised.
    raised: BTreeSet<String>,
}

impl<S: Source> HubSite<S> {
    pub fn new(source: S) -> Self {
        Self {
            source,
            since_ns: realtime_ns(),
            raised: BTreeSet::new(),
        }
    }
}

fn stream(alert: &Alert, records: &mut Records) {
    records.add("alert", |out| {
        serde_json::to_writer(&mut *out, &AlertLine::from(alert))?;
        out.push(b'\n');
        Ok(())
    });
}

impl<S: Source> Site for HubSite<S> {
    /// Nothing is handed over: the site looks at what the hub has.
    type Update = Infallible;

    fn update(&mut self, update: Infallible, _now_ns: u64, _records: &mut Records) {
        match update {}
    }

    fn tick(&mut self, _now_ns: u64, records: &mut Records) {
        let alerts = self.source.alerts();
        let raised: BTreeSet<String> = alerts.raised().map(|alert| alert.id.clone()).collect();
        let is_new = |alert: &&Alert| !self.raised.contains(&alert.id);
        let has_ended = |alert: &&Alert| self.raised.contains(&alert.id) && !raised.contains(&alert.id);
        let changed = alerts
            .raised()
            .filter(is_new)
            .chain(alerts.resolved().filter(has_ended));
        changed.for_each(|alert| stream(alert, records));
        drop(alerts);
        self.raised = raised;
    }

    fn greet(&self, records: &mut Records) {
        let alerts = self.source.alerts();
        let known = alerts.raised().filter(|alert| self.raised.contains(&alert.id));
        known.for_each(|alert| stream(alert, records));
    }

    fn page(&mut self, request: &Request<'_>) -> Option<Page> {
        match request.path {
            "/api/v1/openapi.json" => Some(Page::json(&openapi::document())),
            path => assets::page(path),
        }
    }

    fn slow_page(&mut self, request: &Request<'_>) -> Option<SlowPage> {
        if request.path != "/metrics" {
            return api::page(&self.source, request.path, request.query);
        }
        let (source, since_ns, format) = (self.source.clone(), self.since_ns, request.format);
        Some(api::beside(move || match metrics::encode(&source, since_ns, format) {
            Ok(body) => Page::new(format.content_type(), body),
            Err(_) => Page::refusal(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded"),
        }))
    }

    fn obstacle(&self) -> Option<&'static str> {
        if !self.source.is_connected() {
            return Some("there is no connection to a NATS server");
        }
        let now_ns = monotonic_ns();
        let fleet = self.source.fleet();
        let is_alive = |port| fleet.is_alive(port, now_ns);
        match (fleet.ports().next(), fleet.ports().any(|(id, _)| is_alive(id))) {
            (None, _) => Some("no port has announced itself"),
            (Some(_), false) => Some("no port sends heartbeats"),
            (Some(_), true) => None,
        }
    }
}
