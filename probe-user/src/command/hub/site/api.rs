//! The API: hosts, ports, pairs, one pair over time, alerts, the worst pairs; and the cells of the page.

use std::cmp::Ordering;
use std::time::Duration;

use hyper::StatusCode;
use probe_hub::hub::fleet::{Fleet, Now, PortId};
use probe_hub::hub::history::Range;
use probe_hub::hub::matrix::Cell;
use probe_hub::name::{HostName, PortName};
use probe_hub::subjects::{MINUTES, WINDOWS};
use serde_json::{Value, json};

use crate::command::hub::site::cells::{self, Head, Known};
use crate::command::hub::site::rows::{AlertLine, HostLine, PairLine, PortLine, WindowLine};
use crate::command::hub::site::source::{Source, hub_line};
use crate::command::hub::site::view::View;
use crate::output::time::Utc;
use crate::serve::query::{Query, Refused, bad};
use crate::serve::site::{BINARY, Page, SlowPage};

/// Items of a reply, unless `limit` says otherwise.
pub const DEFAULT_LIMIT: usize = 5_000;
pub const MAX_LIMIT: usize = 20_000;
/// Of the worst pairs.
pub const DEFAULT_TOP: usize = 20;
pub const MAX_TOP: usize = 1_000;
/// How far back a pair is shown, unless `range` says otherwise.
pub const DEFAULT_RANGE: Duration = Duration::from_secs(3_600);
pub const MAX_RANGE: Duration = Duration::from_secs(400 * 86_400);

/// The paths of the API, each of which is made beside others.
pub fn page<S: Source>(source: &S, path: &str, query: &str) -> Option<SlowPage> {
    if path == "/api/v1/pair" {
        let asked = pair_query(query);
        let source = source.clone();
        return Some(Box::pin(async move {
            let made = match asked {
                Ok(asked) => pair(&source, asked).await,
                Err(refused) => Err(refused),
            };
            made.map_or_else(refusal, |reply| Page::json(&reply))
        }));
    }
    let make: fn(&S, &str) -> Result<Page, Refused> = match path {
        "/api/v1/hosts" => hosts,
        "/api/v1/ports" => ports,
        "/api/v1/matrix" => matrix,
        "/api/v1/cells" => cells,
        "/api/v1/alerts" => alerts,
        "/api/v1/top" => top,
        _ => return None,
    };
    let (source, query) = (source.clone(), query.to_owned());
    Some(beside(move || make(&source, &query).unwrap_or_else(refusal)))
}

/// Makes a page in another thread: a large matrix takes time.
pub fn beside(make: impl FnOnce() -> Page + Send + 'static) -> SlowPage {
    Box::pin(async move {
        let made = tokio::task::spawn_blocking(make).await;
        made.unwrap_or_else(|error| Page::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
    })
}

fn refusal((status, error): Refused) -> Page {
    Page::refusal(status, &error)
}

fn limit(query: &Query, default: usize, most: usize) -> Result<usize, Refused> {
    let wanted = format!("a number from 1 to {most}");
    let read = |text: &str| text.parse().ok().filter(|number| (1..=most).contains(number));
    Ok(query.parsed("limit", &wanted, read).map_err(bad)?.unwrap_or(default))
}

/// At most so many, and whether there are more.
fn cut<T>(items: impl Iterator<Item = T>, limit: usize) -> (Vec<T>, bool) {
    let mut items: Vec<T> = items.take(limit + 1).collect();
    let is_cut = items.len() > limit;
    items.truncate(limit);
    (items, is_cut)
}

fn hosts<S: Source>(source: &S, query: &str) -> Result<Page, Refused> {
    let query = Query::read(query, &["limit"]).map_err(bad)?;
    let limit = limit(&query, DEFAULT_LIMIT, MAX_LIMIT)?;
    let now = Now::read();
    let hub = hub_line(source, now);
    let fleet = source.fleet();
    let lines = fleet
        .hosts()
        .map(|(name, _)| HostLine::new(&fleet, name, now.monotonic_ns));
    let (hosts, is_cut) = cut(lines, limit);
    Ok(Page::json(&json!({ "hub": hub, "hosts": hosts, "cut": is_cut })))
}

fn ports<S: Source>(source: &S, query: &str) -> Result<Page, Refused> {
    let query = Query::read(query, &["host", "limit"]).map_err(bad)?;
    let limit = limit(&query, DEFAULT_LIMIT, MAX_LIMIT)?;
    let host: Option<HostName> = query.value("host", "the name of a host").map_err(bad)?;
    let now = Now::read();
    let fleet = source.fleet();
    let wanted = fleet
        .ports()
        .filter(|(_, port)| host.as_ref().is_none_or(|host| *host == port.name.host));
    let lines = wanted.map(|(id, port)| PortLine::new(&fleet, id, port, now.monotonic_ns));
    let (ports, is_cut) = cut(lines, limit);
    Ok(Page::json(&json!({ "ports": ports, "cut": is_cut })))
}

/// A host, or one port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Host(HostName),
    Port(PortName),
}

impl End {
    fn read(query: &Query, name: &str) -> Result<Option<Self>, Refused> {
        let read = |text: &str| match text.contains('/') {
            true => text.parse().ok().map(Self::Port),
            false => text.parse().ok().map(Self::Host),
        };
        query.parsed(name, "HOST or HOST/INTERFACE", read).map_err(bad)
    }

    fn ports(&self, fleet: &Fleet) -> Vec<PortId> {
        match self {
            Self::Host(host) => fleet.ports_of(host).collect(),
            Self::Port(port) => fleet.id(port).into_iter().collect(),
        }
    }
}

/// The worst first.
fn matrix<S: Source>(source: &S, query: &str) -> Result<Page, Refused> {
    let query = Query::read(query, &["from", "to", "limit"]).map_err(bad)?;
    let limit = limit(&query, DEFAULT_LIMIT, MAX_LIMIT)?;
    let (from, to) = (End::read(&query, "from")?, End::read(&query, "to")?);
    let now = Now::read();
    let fleet = source.fleet();
    let ports = |end: Option<End>| end.map(|end| end.ports(&fleet));
    let (from, to) = (ports(from), ports(to));
    let is_of = |ports: &Option<Vec<PortId>>, id| ports.as_ref().is_none_or(|ports| ports.contains(&id));
    let matrix = source.matrix();
    let cells: Vec<(PortId, Cell)> = match &from {
        Some(from) => from
            .iter()
            .flat_map(|from| matrix.row(*from).iter().map(|cell| (*from, *cell)))
            .collect(),
        None => matrix.cells().map(|(from, cell)| (from, *cell)).collect(),
    };
    let version = matrix.version();
    drop(matrix);
    let wanted = cells.into_iter().filter(|(_, cell)| is_of(&to, cell.to));
    let order = |one: &Cell, other: &Cell| one.severity_order(other, now.utc_ns);
    let (pairs, is_cut) = worst(wanted, limit, order);
    Ok(Page::json(&json!({
        "version": version,
        "time": Utc { unix_ns: now.utc_ns },
        "pairs": lines(&fleet, &pairs, now),
        "cut": is_cut,
    })))
}

fn lines(fleet: &Fleet, pairs: &[(PortId, Cell)], now: Now) -> Vec<PairLine> {
    let line = |(from, cell): &(PortId, Cell)| PairLine::new(fleet, *from, cell, now.utc_ns);
    pairs.iter().filter_map(line).collect()
}

/// The greatest cells by an order, the greatest first, and whether there are more.
pub fn worst(
    cells: impl Iterator<Item = (PortId, Cell)>,
    limit: usize,
    order: impl Fn(&Cell, &Cell) -> Ordering,
) -> (Vec<(PortId, Cell)>, bool) {
    let mut cells: Vec<_> = cells.collect();
    let descending = |one: &(PortId, Cell), other: &(PortId, Cell)| {
        let by_place = || (one.0, one.1.to).cmp(&(other.0, other.1.to));
        order(&other.1, &one.1).then_with(by_place)
    };
    let is_cut = cells.len() > limit;
    if is_cut {
        cells.select_nth_unstable_by(limit, descending);
        cells.truncate(limit);
    }
    cells.sort_unstable_by(descending);
    (cells, is_cut)
}

/// The pairs that have a window about now.
pub fn fresh<S: Source>(source: &S, utc_ns: u64) -> Vec<(PortId, Cell)> {
    let matrix = source.matrix();
    let fresh = matrix.cells().filter(|(_, cell)| !cell.is_stale(utc_ns));
    fresh.map(|(from, cell)| (from, *cell)).collect()
}

fn top<S: Source>(source: &S, query: &str) -> Result<Page, Refused> {
    let query = Query::read(query, &["limit"]).map_err(bad)?;
    let limit = limit(&query, DEFAULT_TOP, MAX_TOP)?;
    let now = Now::read();
    let fresh = fresh(source, now.utc_ns);
    let loss = |cell: &Cell| cell.loss().unwrap_or(0.0);
    let lossy = fresh.iter().filter(|(_, cell)| cell.lost() > 0).copied();
    let (lossy, _) = worst(lossy, limit, |one, other| loss(one).total_cmp(&loss(other)));
    let answered = fresh.iter().filter(|(_, cell)| cell.p99_ns().is_some()).copied();
    let (slow, _) = worst(answered, limit, |one, other| one.p99_ns().cmp(&other.p99_ns()));
    let fleet = source.fleet();
    Ok(Page::json(&json!({
        "loss": lines(&fleet, &lossy, now),
        "p99": lines(&fleet, &slow, now),
    })))
}

fn alerts<S: Source>(source: &S, query: &str) -> Result<Page, Refused> {
    Query::read(query, &[]).map_err(bad)?;
    let alerts = source.alerts();
    let mut raised: Vec<AlertLine> = alerts.raised().map(AlertLine::from).collect();
    raised.sort_by_key(|alert| std::cmp::Reverse(alert.since.unix_ns));
    let resolved: Vec<AlertLine> = alerts.resolved().map(AlertLine::from).collect();
    Ok(Page::json(
        &json!({ "alerts": raised, "more": alerts.more(), "resolved": resolved }),
    ))
}

fn cells<S: Source>(source: &S, query: &str) -> Result<Page, Refused> {
    let query = Query::read(query, &["since", "hosts", "zone"]).map_err(bad)?;
    let known = Known {
        since: query
            .value("since", "the version of a reply")
            .map_err(bad)?
            .unwrap_or(0),
        hosts_version: query.text("hosts").unwrap_or_default().to_owned(),
    };
    let now = Now::read();
    let view = View::new(&source.fleet(), query.text("zone"), now.monotonic_ns);
    let (news, is_all, version) = {
        let matrix = source.matrix();
        let (news, is_all) = cells::news(&view, &matrix, &known, now.utc_ns);
        (news, is_all, matrix.version())
    };
    let silent = cells::silent(&view, &source.alerts());
    let head = Head {
        hub: hub_line(source, now),
        version,
        hosts_version: cells::version_of(&view),
        time: Utc { unix_ns: now.utc_ns },
        hosts: is_all.then_some(&view.hosts),
        hosts_in_all: view.number,
        zones: &view.zones,
        down: &view.down,
        silent,
        cells: news.len(),
    };
    let message = cells::message(&head, &news, now.utc_ns);
    let message = message.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Page::new(BINARY, message))
}

/// What a request for a pair asks for.
struct Asked {
    from: PortName,
    to: PortName,
    range: Duration,
}

fn pair_query(query: &str) -> Result<Asked, Refused> {
    let query = Query::read(query, &["from", "to", "range"]).map_err(bad)?;
    let port = |name| {
        let port = query.value(name, "HOST/INTERFACE").map_err(bad)?;
        port.ok_or_else(|| bad(format!("{name} is missing; write HOST/INTERFACE")))
    };
    let range = |text: &str| {
        let range = humantime::parse_duration(text).ok();
        range.filter(|range| (Duration::from_secs(1)..=MAX_RANGE).contains(range))
    };
    let range = query.parsed("range", "a time from 1s to 400d", range).map_err(bad)?;
    Ok(Asked {
        from: port("from")?,
        to: port("to")?,
        range: range.unwrap_or(DEFAULT_RANGE),
    })
}

async fn pair<S: Source>(source: &S, asked: Asked) -> Result<Value, Refused> {
    let Asked { from, to, range } = asked;
    let is_known = |port| source.fleet().id(port).is_some();
    if let Some(unknown) = [&from, &to].into_iter().find(|port| !is_known(port)) {
        let error = format!("no port {unknown}; /api/v1/ports lists them");
        return Err((StatusCode::NOT_FOUND, error));
    }
    let to_ns = Now::read().utc_ns;
    let length_ns = u64::try_from(range.as_nanos()).unwrap_or(u64::MAX);
    let range = Range {
        from_ns: to_ns.saturating_sub(length_ns),
        to_ns,
        limit: DEFAULT_LIMIT,
    };
    let past = source.windows(from.clone(), to.clone(), range).await;
    let past = past.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")))?;
    let by = match past.results {
        WINDOWS => "window",
        MINUTES => "minute",
        _ => "quarter",
    };
    let windows: Vec<WindowLine> = past.windows.iter().map(WindowLine::from).collect();
    Ok(json!({ "from": from, "to": to, "by": by, "windows": windows, "cut": past.is_cut }))
}
