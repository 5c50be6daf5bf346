//! What a window reports: counts and distributions.

pub mod distribution;
pub mod report;
