//! Numbers of runs, and figures of them.

pub(crate) const ROUNDS: usize = 21;
/// Packets per subject and round: some milliseconds each, and no more replies than the ring buffer holds.
pub(crate) const REPEAT: u32 = 40_000;
/// Packets per batch and batches per round of softirqs. A batch is short, so that most are not interrupted.
pub(crate) const SOFTIRQ_BATCH: u32 = 1_000;
pub(crate) const SOFTIRQ_BATCHES: usize = 40;
/// Single runs for the cross-check.
pub(crate) const SINGLES: usize = 4_000;

pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Medians of the repeat=1 measurement.
pub(crate) struct Singles {
    pub(crate) empty: f64,
    /// Above the empty program.
    pub(crate) v4: f64,
    pub(crate) v6: f64,
}
