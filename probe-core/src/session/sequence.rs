//! Wire sequence numbers, 32 bits that wrap, as 64-bit indices that do not.

/// The index nearest to `newest` whose low 32 bits are `seq`. It is at most 2³¹ − 1 ahead and 2³¹ behind. `None` if it
/// would be negative: the number is from before the session.
pub fn unwrap(newest: u64, seq: u32) -> Option<u64> {
    newest.checked_add_signed(i64::from(ahead(seq, newest as u32)))
}

/// The distance from `b` to `a` on the 32-bit circle; negative if `a` is behind.
pub fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn near_a_wrap_both_sides_are_found() {
        let wrap = 1u64 << 32;
        assert_eq!(unwrap(wrap - 1, 0), Some(wrap));
        assert_eq!(unwrap(wrap, u32::MAX), Some(wrap - 1));
        assert_eq!(unwrap(5 * wrap + 3, 3), Some(5 * wrap + 3));
    }

    #[test]
    fn a_number_before_the_session_has_no_index() {
        assert_eq!(unwrap(3, u32::MAX), None);
        assert_eq!(unwrap(3, 0), Some(0));
    }

    proptest! {
        #[test]
        fn any_index_within_reach_is_found(
            newest in 1u64 << 31..u64::MAX - (1 << 31),
            step in i64::from(i32::MIN)..=i64::from(i32::MAX),
        ) {
            let index = newest.checked_add_signed(step).unwrap();
            prop_assert_eq!(unwrap(newest, index as u32), Some(index));
        }
    }
}
