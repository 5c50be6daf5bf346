//! Counts and distributions of a window.

pub mod distribution;
pub mod native;
pub mod report;
