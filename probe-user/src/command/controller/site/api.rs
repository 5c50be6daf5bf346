//! The API: links, switches, paths and events, as the JSON records that the controller writes.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::command::controller::site::history::{LinkName, name};
use crate::command::controller::site::openapi;
use crate::command::controller::site::state::State;
use crate::output::jsonl::record_value;
use crate::serve::query::{Query, Refused, bad};
use crate::serve::site::Page;

/// Paths of a reply.
const MAX_PATHS: usize = 5_000;

/// The reply; `None` if the API has no such path.
pub(super) fn page(state: &State, path: &str, query: &str) -> Option<Page> {
    let reply = match path {
        "/api/v1/links" => links(state, query),
        "/api/v1/history" => history(state, query),
        "/api/v1/paths" => paths(state, query),
        "/api/v1/events" => events(state, query),
        "/api/v1/openapi.json" => Ok(openapi::document()),
        _ => return None,
    };
    Some(match reply {
        Ok(body) => Page::json(&body),
        Err((status, error)) => Page::refusal(status, &error),
    })
}

fn links(state: &State, query: &str) -> Result<Value, Refused> {
    Query::read(query, &[]).map_err(bad)?;
    let report = state.report.as_deref();
    Ok(json!({
        "start": state.start.as_ref().map(|start| value(state, "start", start)),
        "links": list(state, "link", report.map(|report| report.links.iter())),
        "switches": list(state, "switch", report.map(|report| report.switches.iter())),
        "summary": report.map(|report| value(state, "summary", &report.summary)),
    }))
}

fn history(state: &State, query: &str) -> Result<Value, Refused> {
    let query = Query::read(query, &["link"]).map_err(bad)?;
    let wanted = "two ports, such as 0000000000000001:2 0000000000000002:1";
    let link = query.parsed("link", wanted, link_name).map_err(bad)?;
    let link = link.ok_or_else(|| bad(format!("link is missing; write {wanted}")))?;
    let report = state.report.as_deref();
    let line = report.and_then(|report| report.links.iter().find(|line| name(line) == link));
    match (state.history.of(&link), line) {
        (Some(rows), Some(line)) => Ok(json!({
            "link": value(state, "link", line),
            "history": rows.collect::<Vec<_>>(),
        })),
        _ => Err((
            StatusCode::NOT_FOUND,
            "no such link; /api/v1/links lists them".to_owned(),
        )),
    }
}

fn link_name(text: &str) -> Option<LinkName> {
    let (from, to) = text.split_once(' ')?;
    let end = |text: &str| {
        let (dpid, port) = text.split_once(':')?;
        Some((dpid.to_owned(), port.parse().ok()?))
    };
    Some([end(from)?, end(to)?])
}

/// Those between two switches, or all; both directions are one path.
fn paths(state: &State, query: &str) -> Result<Value, Refused> {
    let query = Query::read(query, &["from", "to"]).map_err(bad)?;
    let wanted = [query.text("from"), query.text("to")];
    let paths = state.report.iter().flat_map(|report| report.paths.iter());
    let mut found = paths.filter(|path| {
        let is_between = |[from, to]: [&String; 2]| {
            wanted[0].is_none_or(|wanted| wanted == from) && wanted[1].is_none_or(|wanted| wanted == to)
        };
        is_between([&path.from, &path.to]) || is_between([&path.to, &path.from])
    });
    let paths: Vec<Value> = found
        .by_ref()
        .take(MAX_PATHS)
        .map(|path| value(state, "path", path))
        .collect();
    Ok(json!({ "paths": paths, "cut": found.next().is_some() }))
}

fn events(state: &State, query: &str) -> Result<Value, Refused> {
    Query::read(query, &[]).map_err(bad)?;
    Ok(json!({ "events": list(state, "event", Some(state.events.iter())) }))
}

fn list<'a, T: Serialize + 'a>(
    state: &State,
    kind: &'static str,
    lines: Option<impl Iterator<Item = &'a T>>,
) -> Vec<Value> {
    lines
        .into_iter()
        .flatten()
        .map(|line| value(state, kind, line))
        .collect()
}

/// As the output writes it.
fn value(state: &State, kind: &'static str, line: &impl Serialize) -> Value {
    record_value(kind, &state.agent, line).unwrap_or_default()
}
