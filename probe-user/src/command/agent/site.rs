//! What `--listen` shows of an agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use maud::{DOCTYPE, html};

use crate::command::shared::update::Update;
use crate::output::jsonl::{Jsonl, record};
use crate::output::metrics::format::Format;
use crate::output::metrics::{Detail, Metrics, encode};
use crate::output::model::{Event, Exporter as _};
use crate::serve::site::{Page, Request, Site};
use crate::serve::stream::Records;

pub struct AgentSite {
    jsonl: Jsonl,
    metrics: Arc<Mutex<Metrics>>,
    /// The first record.
    start: Option<Event>,
}

impl AgentSite {
    /// `agent` is the name of who measures.
    pub fn new(agent: &str, detail: Detail) -> Self {
        Self {
            jsonl: Jsonl {
                agent: agent.to_owned(),
            },
            metrics: Arc::new(Mutex::new(Metrics::new(detail))),
            start: None,
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
                self.stream(&event, records);
                if matches!(*event, Event::Start(_)) {
                    self.start = Some(*event);
                }
            }
            Update::State(state) => self.metrics().set_state(*state),
        }
    }

    fn tick(&mut self, now_ns: u64, _records: &mut Records) {
        self.metrics().expire(now_ns);
    }

    fn greet(&self, records: &mut Records) {
        if let Some(start) = &self.start {
            self.stream(start, records);
        }
    }

    fn page(&mut self, request: &Request<'_>) -> Option<Page> {
        match request.path {
            "/" => Some(index()),
            "/metrics" => Some(self.scrape(request)),
            _ => None,
        }
    }

    fn obstacle(&self) -> Option<&'static str> {
        (!self.metrics().interface_is_up()).then_some("the interface is down")
    }
}

fn index() -> Page {
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
    Page::new("text/html; charset=utf-8", page.into_string())
}
