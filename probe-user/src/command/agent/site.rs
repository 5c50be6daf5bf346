//! What `--listen` shows of an agent.

mod api;
mod assets;
pub mod openapi;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;

use crate::command::agent::site::api::{Source, Status};
pub use crate::command::shared::update::Update;
use crate::output::history::History;
use crate::output::jsonl::{self, record};
use crate::output::metrics::{Metrics, encode};
use crate::output::model::{Clock, Counters, Event};
use crate::output::time::Utc;
use crate::serve::site::{Page, Request, Site};
use crate::serve::stream::Records;

pub struct AgentSite {
    /// Who measures.
    agent: String,
    metrics: Arc<Mutex<Metrics>>,
    history: History,
    /// State of this host's clock; `None` in the first seconds.
    clock: Option<Clock>,
    report_ns: u64,
}

impl AgentSite {
    /// `agent` is the name of who measures.
    pub fn new(agent: &str, metrics: Arc<Mutex<Metrics>>, report_ns: u64) -> Self {
        Self {
            agent: agent.to_owned(),
            metrics,
            history: History::default(),
            clock: None,
            report_ns,
        }
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self, event: &Event, records: &mut Records) {
        let agent = &self.agent;
        match event {
            Event::Windows(windows) => {
                for results in &windows.results {
                    records.add("window", |out| record("window", agent, results, out));
                }
            }
            Event::End(end) => {
                for results in &end.results {
                    records.add("summary", |out| record("summary", agent, results, out));
                }
                records.add("counters", |out| record("counters", agent, &end.counters, out));
            }
            _ => records.add(event.kind().0, |out| jsonl::event(agent, event, out)),
        }
    }

    fn status(&self, updates_lost: u64) -> Status {
        Status {
            interface_up: self.metrics().interface_is_up(),
            clock: self.clock,
            report_ns: self.report_ns,
            updates_lost,
            time: Utc::now(),
        }
    }

    fn scrape(&self, request: &Request<'_>) -> Page {
        let format = request.format;
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
                let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
                metrics.event(&event, now_ns);
                self.history.event(&event, |peer| metrics.is_shown(peer));
                drop(metrics);
                self.stream(&event, records);
            }
            Update::ReportInterval(report_ns) => self.report_ns = report_ns,
            Update::State(state) => {
                self.clock = state.clock.map(Into::into);
                let values = state.counters.iter().map(|(name, value)| ((*name).to_owned(), *value));
                let counters = Counters {
                    values: values.collect(),
                    time: Utc::now(),
                };
                let (status, agent) = (self.status(state.events_lost), &self.agent);
                records.add("counters", |out| record("counters", agent, &counters, out));
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
        if let Some(start) = self.metrics().start() {
            records.add("start", |out| record("start", &self.agent, start, out));
        }
    }

    fn page(&mut self, request: &Request<'_>) -> Option<Page> {
        match request.path {
            "/metrics" => Some(self.scrape(request)),
            "/api/v1/openapi.json" => Some(Page::json(&openapi::document())),
            path => {
                let status = self.status(request.updates_lost);
                let metrics = self.metrics();
                let source = Source {
                    agent: &self.agent,
                    history: &self.history,
                    start: metrics.start(),
                    status,
                };
                source.page(path, request.query).or_else(|| assets::page(path))
            }
        }
    }

    fn obstacle(&self) -> Option<&'static str> {
        (!self.metrics().interface_is_up()).then_some("the interface is down")
    }
}

#[cfg(test)]
mod tests;
