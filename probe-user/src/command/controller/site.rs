//! What `--web-listen` shows of a controller.

mod api;
mod assets;
mod history;
mod metrics;
mod openapi;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::StatusCode;

use crate::command::controller::output::drawing::Sketch;
use crate::command::controller::output::model::ControllerReport;
use crate::command::controller::site::history::History;
use crate::command::controller::site::state::State;
use crate::command::controller::update::Update;
use crate::output::jsonl::record;
use crate::serve::site::{Page, Request, Site};
use crate::serve::stream::Records;

/// Events that the API has.
const MAX_EVENTS: usize = 500;

pub struct ControllerSite {
    state: State,
    sketch: Sketch,
}

impl ControllerSite {
    /// `agent` is the name of who measures.
    pub fn new(agent: &str) -> Self {
        Self {
            state: State {
                agent: agent.to_owned(),
                start: None,
                report: None,
                events: VecDeque::new(),
                history: History::default(),
            },
            sketch: Sketch::default(),
        }
    }

    fn stream(&self, report: &ControllerReport, records: &mut Records) {
        let agent = &self.state.agent;
        for link in &report.links {
            records.add("link", |out| record("link", agent, link, out));
        }
        for switch in &report.switches {
            records.add("switch", |out| record("switch", agent, switch, out));
        }
        // The last record of each report. Paths are many, and the API has them.
        records.add("summary", |out| record("summary", agent, &report.summary, out));
    }

    fn scrape(&self, request: &Request<'_>) -> Page {
        let format = request.format;
        match metrics::encode(
            self.state.start.clone(),
            self.state.report.clone(),
            request.updates_lost,
            format,
        ) {
            Ok(body) => Page::new(format.content_type(), body),
            Err(_) => Page::refusal(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded"),
        }
    }
}

impl Site for ControllerSite {
    type Update = Update;

    fn update(&mut self, update: Update, _now_ns: u64, records: &mut Records) {
        let agent = &self.state.agent;
        match update {
            Update::Start(start) => {
                records.add("start", |out| record("start", agent, &start, out));
                self.state.start = Some(start);
            }
            Update::Event(event) => {
                records.add("event", |out| record("event", agent, &event, out));
                self.state.events.truncate(MAX_EVENTS - 1);
                self.state.events.push_front(event);
            }
            Update::Report(report) => {
                self.state.history.add(&report);
                self.stream(&report, records);
                self.state.report = Some(Arc::from(report));
            }
        }
    }

    fn greet(&self, records: &mut Records) {
        if let Some(start) = &self.state.start {
            records.add("start", |out| record("start", &self.state.agent, start, out));
        }
        if let Some(report) = &self.state.report {
            self.stream(report, records);
        }
    }

    fn page(&mut self, request: &Request<'_>) -> Option<Page> {
        match request.path {
            "/metrics" => Some(self.scrape(request)),
            "/drawing" => {
                let drawn = self
                    .state
                    .report
                    .as_ref()
                    .map(|report| self.sketch.draw(report).into_string());
                Some(Page::new("text/html; charset=utf-8", drawn.unwrap_or_default()))
            }
            path => api::page(&self.state, path, request.query).or_else(|| assets::page(path)),
        }
    }

    fn obstacle(&self) -> Option<&'static str> {
        let has_switches = self
            .state
            .report
            .as_ref()
            .is_some_and(|report| !report.switches.is_empty());
        (!has_switches).then_some("no switch is connected")
    }
}
