//! What `--listen` shows of an agent.

mod api;
mod assets;
pub mod openapi;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use probe_host::clock::realtime_ns;

use crate::command::agent::site::api::{Source, Status};
pub use crate::command::shared::update::Update;
use crate::output::history::History;
use crate::output::jsonl::{Jsonl, record};
use crate::output::metrics::format::Format;
use crate::output::metrics::{Metrics, encode};
use crate::output::model::{Counters, Event, Exporter as _, Start};
use crate::output::time::Utc;
use crate::serve::site::{Page, Request, Site};
use crate::serve::stream::Records;

pub struct AgentSite {
    jsonl: Jsonl,
    metrics: Arc<Mutex<Metrics>>,
    history: History,
    /// With the hook that is in use now.
    start: Option<Start>,
    status: Status,
}

impl AgentSite {
    /// `agent` is the name of who measures.
    pub fn new(agent: &str, metrics: Arc<Mutex<Metrics>>, report_ns: u64) -> Self {
        Self {
            jsonl: Jsonl {
                agent: agent.to_owned(),
            },
            metrics,
            history: History::default(),
            start: None,
            status: Status {
                interface_up: true,
                clock: None,
                report_ns,
                updates_lost: 0,
                time: now(),
            },
        }
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self, event: &Event, records: &mut Records) {
        let agent = &self.jsonl.agent;
        match event {
            Event::Windows(windows) => {
                for results in &windows.results {
                    records.add("window", |out| record("window", agent, results, out));
                }
            }
            _ => records.add(event.kind().0, |out| self.jsonl.clone().export(event, out)),
        }
    }

    fn status_now(&self, updates_lost: u64) -> Status {
        Status {
            interface_up: self.metrics().interface_is_up(),
            updates_lost,
            time: now(),
            ..self.status.clone()
        }
    }

    fn scrape(&self, request: &Request<'_>) -> Page {
        let format = Format::negotiated(request.accept);
        self.metrics().set_events_lost(request.updates_lost);
        match encode(&self.metrics, format) {
            Ok(body) => Page::new(format.content_type(), body),
            Err(_) => Page::refusal(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded"),
        }
    }
}

impl Site for AgentSite {
    type Update = Update;

    fn update(&mut self, update: Update, now_ns: u64, records: &mut Records) {
        match update {
            Update::Event(event) => {
                self.metrics().event(&event, now_ns);
                let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
                self.history.event(&event, |peer| metrics.is_shown(peer));
                drop(metrics);
                self.stream(&event, records);
                match *event {
                    Event::Start(start) => self.start = Some(start),
                    Event::Attach(change) => {
                        if let Some(start) = &mut self.start {
                            start.attach.receive = change.receive;
                        }
                    }
                    _ => {}
                }
            }
            Update::State(state) => {
                self.status.clock = state.clock.map(Into::into);
                let values = state.counters.iter().map(|(name, value)| ((*name).to_owned(), *value));
                let counters = Counters {
                    values: values.collect(),
                    time: now(),
                };
                self.stream(&Event::Counters(counters), records);
                let (status, agent) = (self.status_now(self.status.updates_lost), &self.jsonl.agent);
                records.add("status", |out| record("status", agent, &status, out));
                self.metrics().set_state(*state);
            }
        }
    }

    fn tick(&mut self, now_ns: u64, _records: &mut Records) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.expire(now_ns);
        self.history.retain(|peer| metrics.is_shown(peer));
    }

    fn greet(&self, records: &mut Records) {
        if let Some(start) = &self.start {
            self.stream(&Event::Start(start.clone()), records);
        }
    }

    fn page(&mut self, request: &Request<'_>) -> Option<Page> {
        self.status.updates_lost = request.updates_lost;
        match request.path {
            "/metrics" => Some(self.scrape(request)),
            "/api/v1/openapi.json" => Some(Page::json(&openapi::document())),
            path => {
                let source = Source {
                    jsonl: &self.jsonl,
                    history: &self.history,
                    start: self.start.as_ref(),
                    status: self.status_now(request.updates_lost),
                };
                source.page(path, request.query).or_else(|| assets::page(path))
            }
        }
    }

    fn obstacle(&self) -> Option<&'static str> {
        (!self.metrics().interface_is_up()).then_some("the interface is down")
    }
}

fn now() -> Utc {
    Utc { unix_ns: realtime_ns() }
}

#[cfg(test)]
mod tests;
