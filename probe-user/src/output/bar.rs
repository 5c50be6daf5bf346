//! A bar whose parts are in proportion.

/// Columns of each part: in proportion, and at least one for each part above zero.
pub fn columns(parts: &[i64], width: usize) -> Vec<usize> {
    let parts = parts.iter().map(|part| part.max(&0).unsigned_abs());
    let whole: u128 = parts.clone().map(u128::from).sum::<u128>().max(1);
    let mut columns: Vec<usize> = parts
        .map(|part| {
            let exact = u128::from(part) * width as u128;
            usize::from(part > 0).max(usize::try_from((exact + whole / 2) / whole).unwrap_or(width))
        })
        .collect();
    // Rounding is at the expense of the widest part.
    let sum: usize = columns.iter().sum();
    if let Some(widest) = columns.iter_mut().max().filter(|widest| **widest > 0) {
        *widest = (*widest + width).saturating_sub(sum).max(1);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_bar_in_proportion_and_none_is_hidden() {
        let table: [(&[i64], &[usize]); 6] = [
            (&[50, 50], &[10, 10]),
            (&[1, 1_000_000], &[1, 19]),
            (&[1, 1, 1], &[7, 7, 6]),
            (&[0, 0, 40], &[0, 0, 20]),
            // Clocks that disagree.
            (&[-5, 10], &[0, 20]),
            (&[0, 0], &[0, 0]),
        ];
        for (parts, want) in table {
            assert_eq!(columns(parts, 20), want, "{parts:?}");
        }
        assert_eq!(columns(&[i64::MAX, i64::MAX, 1], 3), [1, 1, 1]);
    }
}
