//! Counts of the results that a hub has taken.

use std::collections::BTreeMap;

use crate::name::HostName;

/// What has come since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    pub batches: u64,
    pub windows: u64,
    /// Windows that were older than the one of the pair, or as old.
    pub old: u64,
    /// Batches of ports that are not in the fleet, and windows to such ones.
    pub unknown: u64,
    /// Batches with wrong content.
    pub wrong: BTreeMap<HostName, u64>,
    /// The whole backlog was read.
    pub is_current: bool,
}
