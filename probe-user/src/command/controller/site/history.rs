//! The round trips of each link in the last hour, in bounded memory.

use std::collections::{BTreeMap, VecDeque};

use probe_controller::link_delay::LinkState;
use serde::Serialize;

use crate::command::controller::output::model::{self, ByMethod, ControllerReport, LinkLine};
use crate::output::time::Utc;

/// Rows of a link: an hour of reports every five seconds.
const MAX_ROWS: usize = 720;
const HOUR_NS: u64 = 3_600_000_000_000;
/// Of more frequent reports, one in this time is kept.
const MIN_STEP_NS: u64 = HOUR_NS / MAX_ROWS as u64;
/// Reports are not exactly in time.
const TOLERANCE_NS: u64 = MIN_STEP_NS / 10;
/// Links with a history; 720 rows of 64 bytes each.
const MAX_LINKS: usize = 512;

/// Both ends of a link: datapath and port.
pub(super) type LinkName = [(String, u32); 2];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) time: Utc,
    #[serde(serialize_with = "model::state")]
    pub(super) state: LinkState,
    pub(super) rtt_ns: ByMethod<i64>,
}

#[derive(Debug, Default)]
pub(super) struct History {
    links: BTreeMap<LinkName, VecDeque<Row>>,
}

pub(super) fn name(link: &LinkLine) -> LinkName {
    [&link.from, &link.to].map(|end| (end.dpid.clone(), end.port))
}

impl History {
    /// A link that is no longer reported takes its history along.
    pub(super) fn add(&mut self, report: &ControllerReport) {
        let mut before = std::mem::take(&mut self.links);
        for link in report.links.iter().take(MAX_LINKS) {
            let name = name(link);
            let mut rows = before.remove(&name).unwrap_or_default();
            let row = Row {
                time: link.time,
                state: link.state,
                rtt_ns: link.rtt_ns,
            };
            let age_ns = |row: &Row| link.time.unix_ns.saturating_sub(row.time.unix_ns);
            if rows
                .back()
                .is_none_or(|last| age_ns(last) >= MIN_STEP_NS - TOLERANCE_NS)
            {
                rows.push_back(row);
            }
            while rows.len() > MAX_ROWS || rows.front().is_some_and(|first| age_ns(first) > HOUR_NS) {
                rows.pop_front();
            }
            self.links.insert(name, rows);
        }
    }

    /// The oldest first; `None` of a link without a history.
    pub(super) fn of(&self, name: &LinkName) -> Option<impl Iterator<Item = Row>> {
        self.links.get(name).map(|rows| rows.iter().copied())
    }
}
