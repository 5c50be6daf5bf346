//! Where the probes of a session spent their time, where they were lost, and which took longest.

use crate::output::model::hops::{HopHistory, Hops, Outlier};

/// Outliers of a session that are listed: those that took longest.
const MAX_OUTLIERS: usize = 20;

#[derive(Debug, Clone, Default)]
pub struct SessionHops {
    pub history: Option<Box<HopHistory>>,
    /// The longest first.
    pub outliers: Vec<Outlier>,
    pub outliers_left_out: u64,
}

impl SessionHops {
    pub fn add(&mut self, hops: &Hops) {
        HopHistory::add_to(&mut self.history, hops);
    }

    pub fn add_outlier(&mut self, outlier: Outlier) {
        let place = self
            .outliers
            .partition_point(|known| known.elapsed_ns >= outlier.elapsed_ns);
        self.outliers.insert(place, outlier);
        if self.outliers.len() > MAX_OUTLIERS {
            self.outliers.pop();
            self.outliers_left_out += 1;
        }
    }
}
