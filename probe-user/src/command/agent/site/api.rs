//! The API: peers, windows and events in JSON, with the names of the records.

use std::net::IpAddr;

use hyper::StatusCode;
use probe_core::hops::Part;
use probe_core::stats::report::Path;
use serde::Serialize;
use serde_json::Value;

use crate::output::field_lists::Field;
use crate::output::fields;
use crate::output::history::{By, History, Peer, Row};
use crate::output::jsonl::{self, record_value};
use crate::output::model::hops::HopHistory;
use crate::output::model::{Clock, Event, Start};
use crate::output::time::Utc;
use crate::serve::query::{Query, Refused, bad};
use crate::serve::site::Page;

/// Peers, windows or events of a reply, unless `limit` says otherwise.
pub const DEFAULT_LIMIT: usize = 5_000;
pub const MAX_LIMIT: usize = 20_000;
/// Windows of each path in the list of peers.
const MAX_RECENT: usize = 60;

/// What an agent says of itself every few seconds.
#[derive(Debug, Serialize)]
pub struct Status {
    pub interface_up: bool,
    pub clock: Option<Clock>,
    pub report_ns: u64,
    pub updates_lost: u64,
    pub time: Utc,
}

#[rustfmt::skip]
pub const STATUS: &[Field] = &[
    ("interface_up", "boolean", "Whether the interface is up and has carrier."),
    ("clock", "clock?", "State of this host's clock, as in the record `start`; null in the first seconds."),
    ("report_ns", "ns", "Time from one window to the next."),
    ("updates_lost", "integer", "Records that are missing here, because the server was too slow."),
    ("time", "time", "When."),
];

/// The last windows of a path, in columns: the value at one place of each list is of one window.
#[derive(Debug, Default, Serialize)]
struct Recent {
    end: Vec<Utc>,
    sent: Vec<u64>,
    lost: Vec<u64>,
    lost_forward: Vec<u64>,
    lost_backward: Vec<u64>,
    lost_unknown: Vec<u64>,
    send_failed: Vec<u64>,
    min_ns: Vec<Option<i64>>,
    p50_ns: Vec<Option<i64>>,
    p99_ns: Vec<Option<i64>>,
}

#[rustfmt::skip]
pub const RECENT: &[Field] = &[
    ("end", "list of times", "End of the window; the oldest first."),
    ("sent", "list of integers", "`sent`."),
    ("lost", "list of integers", "`lost`."),
    ("lost_forward", "list of integers", "`lost_forward`."),
    ("lost_backward", "list of integers", "`lost_backward`."),
    ("lost_unknown", "list of integers", "`lost_unknown`."),
    ("send_failed", "list of integers", "`send_failed`."),
    ("min_ns", "list of integers or null", "`rtt_ns.min`."),
    ("p50_ns", "list of integers or null", "`rtt_ns.p50`."),
    ("p99_ns", "list of integers or null", "`rtt_ns.p99`."),
];

impl Recent {
    fn add(&mut self, row: &Row) {
        self.end.push(row.end);
        let counts = &row.counts;
        self.sent.push(counts.sent);
        self.lost.push(counts.lost);
        self.lost_forward.push(counts.lost_forward);
        self.lost_backward.push(counts.lost_backward);
        self.lost_unknown.push(counts.lost_unknown);
        self.send_failed.push(counts.send_failed);
        self.min_ns.push(row.rtt_ns.map(|rtt| rtt.min));
        self.p50_ns.push(row.rtt_ns.map(|rtt| rtt.p50));
        self.p99_ns.push(row.rtt_ns.map(|rtt| rtt.p99));
    }
}

/// Beside the record `hops`.
#[rustfmt::skip]
pub const ALL_LOSSES: &[Field] = &[
    ("since", "time", "Since when losses and outliers are counted here."),
    ("places", "list of objects", "Places where probes were lost since then."),
    ("places[].segment", "string", "As in `hops`."),
    ("places[].direction", "string", "As in `hops`."),
    ("places[].lost", "integer", "Probes lost there."),
    ("lost", "integer", "Lost probes since then."),
    ("lost_late", "integer", "Of `lost`: answered after the timeout."),
    ("lost_unknown", "integer", "Of `lost`: in a place that is not known."),
    ("outliers", "integer", "Outliers since then."),
];

#[derive(Serialize)]
struct OfHops {
    latest: Value,
    since: Utc,
    places: Vec<Place>,
    lost: u64,
    lost_late: u64,
    lost_unknown: u64,
    outliers: u64,
}

#[derive(Serialize)]
struct Place {
    #[serde(flatten, with = "fields::PartFields")]
    part: Part,
    lost: u64,
}

#[derive(Serialize)]
struct OfPath {
    #[serde(with = "fields::PathName")]
    path: Path,
    recent: Recent,
}

#[derive(Serialize)]
struct OfPeer<'a> {
    #[serde(flatten)]
    peer: &'a Peer,
    paths: Vec<OfPath>,
}

#[derive(Serialize)]
struct Window<'a> {
    r#type: &'static str,
    agent: &'a str,
    peer: IpAddr,
    #[serde(with = "fields::PathName")]
    path: Path,
    #[serde(flatten)]
    row: Row,
}

/// What replies are made of.
pub struct Source<'a> {
    /// Who measures.
    pub agent: &'a str,
    pub history: &'a History,
    pub start: Option<&'a Start>,
    pub status: Status,
}

fn limit(query: &Query) -> Result<usize, Refused> {
    let wanted = format!("a number from 1 to {MAX_LIMIT}");
    let read = |text: &str| text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    let limit = query.parsed("limit", &wanted, read).map_err(bad)?;
    Ok(limit.unwrap_or(DEFAULT_LIMIT))
}

/// Of requests that may be about one peer.
fn peer_and_limit(query: &str) -> Result<(Option<IpAddr>, usize), Refused> {
    let query = Query::read(query, &["peer", "limit"]).map_err(bad)?;
    Ok((query.value("peer", "an address").map_err(bad)?, limit(&query)?))
}

/// At most so many, and whether there are more.
fn cut<T>(items: impl Iterator<Item = T>, limit: usize) -> (Vec<T>, bool) {
    let mut items: Vec<T> = items.take(limit + 1).collect();
    let is_cut = items.len() > limit;
    items.truncate(limit);
    (items, is_cut)
}

impl Source<'_> {
    /// The reply; `None` if the API has no such path.
    pub fn page(&self, path: &str, query: &str) -> Option<Page> {
        let page = match path {
            "/api/v1/peers" => self.peers(query),
            "/api/v1/windows" => self.windows(query),
            "/api/v1/events" => self.events(query),
            "/api/v1/hops" => self.hops(query),
            "/api/v1/outliers" => self.outliers(query),
            _ => return None,
        };
        Some(page.unwrap_or_else(|(status, error)| Page::refusal(status, &error)))
    }

    fn peers(&self, query: &str) -> Result<Page, Refused> {
        #[derive(Serialize)]
        struct Peers<'a> {
            agent: Option<Value>,
            status: &'a Status,
            peers: Vec<OfPeer<'a>>,
            cut: bool,
        }

        let limit = limit(&Query::read(query, &["limit"]).map_err(bad)?)?;
        let (peers, is_cut) = cut(self.history.peers(), limit);
        let start = self.start.map(|start| self.value("start", start));
        Ok(Page::json(&Peers {
            agent: start,
            status: &self.status,
            peers: peers.into_iter().map(|peer| self.of_peer(peer)).collect(),
            cut: is_cut,
        }))
    }

    fn of_peer<'a>(&self, peer: &'a Peer) -> OfPeer<'a> {
        let of_path = |path| {
            let mut recent = Recent::default();
            let windows = self.history.last_windows(peer.peer, path, MAX_RECENT);
            windows.for_each(|row| recent.add(&row));
            (!recent.end.is_empty()).then_some(OfPath { path, recent })
        };
        OfPeer {
            peer,
            paths: Path::ALL.into_iter().filter_map(of_path).collect(),
        }
    }

    fn windows(&self, query: &str) -> Result<Page, Refused> {
        #[derive(Serialize)]
        struct Windows<'a> {
            windows: Vec<Window<'a>>,
            cut: bool,
        }

        let query = Query::read(query, &["peer", "path", "by", "since", "limit"]).map_err(bad)?;
        let peer: Option<IpAddr> = query.value("peer", "an address").map_err(bad)?;
        let peer = peer.ok_or_else(|| bad("peer is missing; write its address".to_owned()))?;
        let path = |text: &str| Path::ALL.into_iter().find(|path| path.name() == text);
        let path = query.parsed("path", "unicast, group or cold", path).map_err(bad)?;
        let by = |text: &str| match text {
            "report" => Some(By::Report),
            "minute" => Some(By::Minute),
            _ => None,
        };
        let by = query.parsed("by", "report or minute", by).map_err(bad)?;
        // Before 1970 nothing was measured.
        let time = |text: &str| {
            let time: jiff::Timestamp = text.parse().ok()?;
            let unix_ns = u64::try_from(time.as_nanosecond()).unwrap_or(0);
            Some(Utc { unix_ns })
        };
        let since = query.parsed("since", "a time of RFC 3339", time).map_err(bad)?;
        let limit = limit(&query)?;
        if !self.history.has_peer(peer) {
            return Err((
                StatusCode::NOT_FOUND,
                format!("no peer {peer}; /api/v1/peers lists them"),
            ));
        }
        let path = path.unwrap_or(Path::Unicast);
        let rows = self.history.rows(peer, path, by.unwrap_or(By::Report));
        let newer = rows.filter(|row| since.is_none_or(|since| row.end > since));
        let rows: Vec<Row> = newer.collect();
        let (rows, is_cut) = cut(rows.into_iter().rev(), limit);
        let window = |row| Window {
            r#type: "window",
            agent: self.agent,
            peer,
            path,
            row,
        };
        Ok(Page::json(&Windows {
            windows: rows.into_iter().map(window).collect(),
            cut: is_cut,
        }))
    }

    fn events(&self, query: &str) -> Result<Page, Refused> {
        #[derive(Serialize)]
        struct Events {
            events: Vec<Value>,
            cut: bool,
        }

        let limit = limit(&Query::read(query, &["limit"]).map_err(bad)?)?;
        let (events, is_cut) = cut(self.history.events(), limit);
        Ok(Page::json(&Events {
            events: events.into_iter().map(|event| self.record(event)).collect(),
            cut: is_cut,
        }))
    }

    fn hops(&self, query: &str) -> Result<Page, Refused> {
        #[derive(Serialize)]
        struct AllHops {
            hops: Vec<OfHops>,
            cut: bool,
        }

        let (peer, limit) = peer_and_limit(query)?;
        let hops = self.history.hops();
        let (hops, is_cut) = cut(
            hops.filter(|hops| peer.is_none_or(|peer| peer == hops.latest.peer)),
            limit,
        );
        Ok(Page::json(&AllHops {
            hops: hops.into_iter().map(|hops| self.of_hops(hops)).collect(),
            cut: is_cut,
        }))
    }

    fn of_hops(&self, HopHistory { latest, whole }: &HopHistory) -> OfHops {
        let lossy = whole.parts.iter().filter(|part| part.lost > 0);
        OfHops {
            latest: self.value("hops", latest),
            since: whole.start,
            places: lossy
                .map(|part| Place {
                    part: part.part,
                    lost: part.lost,
                })
                .collect(),
            lost: whole.lost,
            lost_late: whole.lost_late,
            lost_unknown: whole.lost_unknown,
            outliers: whole.outliers,
        }
    }

    fn outliers(&self, query: &str) -> Result<Page, Refused> {
        #[derive(Serialize)]
        struct Outliers {
            outliers: Vec<Value>,
            cut: bool,
        }

        let (peer, limit) = peer_and_limit(query)?;
        let outliers = self.history.outliers();
        let (outliers, is_cut) = cut(
            outliers.filter(|outlier| peer.is_none_or(|peer| peer == outlier.peer)),
            limit,
        );
        Ok(Page::json(&Outliers {
            outliers: outliers
                .into_iter()
                .map(|outlier| self.value("outlier", outlier))
                .collect(),
            cut: is_cut,
        }))
    }

    fn value(&self, kind: &'static str, fields: &impl Serialize) -> Value {
        record_value(kind, self.agent, fields).unwrap_or_default()
    }

    /// As the output writes it.
    fn record(&self, event: &Event) -> Value {
        let mut line = Vec::new();
        let written = jsonl::event(self.agent, event, &mut line);
        let record = written.map(|()| serde_json::from_slice(&line));
        record.ok().and_then(Result::ok).unwrap_or_default()
    }
}
