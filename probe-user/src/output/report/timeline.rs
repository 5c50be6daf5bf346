//! Values over time in a bounded number of columns, which get wider as the time gets longer.

use std::collections::BTreeMap;

pub const MAX_COLUMNS: u64 = 240;

const S: u64 = 1_000_000_000;
/// Widths of a column. Each is a multiple of the one before, so that whole columns are merged.
const WIDTHS: [u64; 16] = [
    S / 10,
    S / 5,
    S,
    2 * S,
    10 * S,
    30 * S,
    60 * S,
    120 * S,
    600 * S,
    1_800 * S,
    3_600 * S,
    7_200 * S,
    21_600 * S,
    43_200 * S,
    86_400 * S,
    172_800 * S,
];

pub trait Merge: Default {
    fn merge(&mut self, other: Self);
}

#[derive(Debug, Clone)]
pub struct Timeline<T> {
    width_ns: u64,
    /// By time, UTC since 1970, in widths.
    columns: BTreeMap<u64, T>,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self {
            width_ns: WIDTHS[0],
            columns: BTreeMap::new(),
        }
    }
}

impl<T: Merge> Timeline<T> {
    /// The column of a time. Columns are widened until `lasts_ns` fits into one, within an eighth.
    pub fn at(&mut self, at_ns: u64, lasts_ns: u64) -> &mut T {
        while lasts_ns > self.width_ns.saturating_add(self.width_ns / 8) || self.span_with(at_ns) > MAX_COLUMNS {
            self.widen();
        }
        self.columns.entry(at_ns / self.width_ns).or_default()
    }

    fn span_with(&self, at_ns: u64) -> u64 {
        let place = at_ns / self.width_ns;
        let edge = |edge: Option<(&u64, &T)>| edge.map_or(place, |(&place, _)| place);
        let first = edge(self.columns.first_key_value()).min(place);
        let last = edge(self.columns.last_key_value()).max(place);
        last - first + 1
    }

    fn widen(&mut self) {
        let next = WIDTHS.into_iter().find(|&width| width > self.width_ns);
        let width_ns = next.unwrap_or(self.width_ns.saturating_mul(2));
        let factor = width_ns / self.width_ns;
        self.width_ns = width_ns;
        for (place, column) in std::mem::take(&mut self.columns) {
            self.columns.entry(place / factor).or_default().merge(column);
        }
    }
}

impl<T> Timeline<T> {
    pub fn width_ns(&self) -> u64 {
        self.width_ns
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The start of each column, in nanoseconds of UTC since 1970, and its value.
    pub fn columns(&self) -> impl Iterator<Item = (u64, &T)> {
        let width_ns = self.width_ns;
        self.columns
            .iter()
            .map(move |(place, column)| (place.saturating_mul(width_ns), column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Merge for u64 {
        fn merge(&mut self, other: Self) {
            *self += other;
        }
    }

    #[test]
    fn each_width_is_a_multiple_of_the_one_before() {
        assert!(
            WIDTHS
                .windows(2)
                .all(|pair| pair[1] > pair[0] && pair[1] % pair[0] == 0)
        );
    }

    #[test]
    fn columns_get_wider_and_lose_nothing() {
        let mut timeline = Timeline::<u64>::default();
        for second in 0..10_000_u64 {
            *timeline.at((1_795_000_000 + second) * S, S) += 1;
            assert!(timeline.columns.len() as u64 <= MAX_COLUMNS);
        }
        assert_eq!(timeline.width_ns, 60 * S);
        assert_eq!(timeline.columns().map(|(_, count)| count).sum::<u64>(), 10_000);
        // Earlier records, and times at both ends of what a file can say.
        for at_ns in [S, 0, u64::MAX] {
            *timeline.at(at_ns, 0) += 1;
        }
        assert_eq!(timeline.columns().map(|(_, count)| count).sum::<u64>(), 10_003);
        assert!(timeline.columns.len() <= 3);
    }

    #[test]
    fn a_window_gets_a_column_of_its_length() {
        let mut timeline = Timeline::<u64>::default();
        for window in 0..6 {
            // The middle of windows of ten seconds and a little.
            *timeline.at((1_795_000_005 + window * 10) * S, 10 * S + 1) += 1;
        }
        assert_eq!(timeline.width_ns, 10 * S);
        assert!(timeline.columns().all(|(_, count)| *count == 1));
        *timeline.at(0, u64::MAX) += 1;
        assert_eq!(timeline.columns().count(), 1);
    }
}
