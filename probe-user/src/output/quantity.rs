//! Durations, ratios and counts for people.

use probe_core::stats::report::OneWayClock;

/// Three or four digits and a unit: `850 ns`, `161 µs`, `50.45 ms`, `2.00 s`, `-6.12 µs`.
pub fn duration(ns: i64) -> String {
    const UNITS: [(&str, u64); 3] = [("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    let sign = if ns < 0 { "-" } else { "" };
    let magnitude = ns.unsigned_abs();
    if magnitude < 1_000 {
        return format!("{sign}{magnitude} ns");
    }
    let mut written = String::new();
    for (unit, per_unit) in UNITS {
        let (whole, hundredths) = rounded(magnitude, per_unit);
        written = match hundredths {
            Some(hundredths) => format!("{sign}{whole}.{hundredths:02} {unit}"),
            None => format!("{sign}{whole} {unit}"),
        };
        // A thousand, after rounding, is one of the next unit.
        if whole < 1_000 {
            break;
        }
    }
    written
}

/// A round number without its decimals: `10 ms`.
pub fn whole(ns: i64) -> String {
    duration(ns).replace(".00 ", " ")
}

pub fn duration_u64(ns: u64) -> String {
    duration(i64::try_from(ns).unwrap_or(i64::MAX))
}

/// Two decimals below one hundred, none above.
fn rounded(magnitude: u64, per_unit: u64) -> (u64, Option<u64>) {
    let hundredths = magnitude.saturating_add(per_unit / 200) / (per_unit / 100);
    if hundredths < 10_000 {
        (hundredths / 100, Some(hundredths % 100))
    } else {
        (magnitude.saturating_add(per_unit / 2) / per_unit, None)
    }
}

/// `0 %`, `0.15 %`, `100 %`, or `-` of nothing. Only none is `0 %`, only all is `100 %`.
pub fn percent(part: u64, whole: u64) -> String {
    match part {
        _ if whole == 0 => "-".to_owned(),
        0 => "0 %".to_owned(),
        _ if part >= whole => "100 %".to_owned(),
        _ => {
            let hundredths = u128::from(part) * 10_000 + u128::from(whole) / 2;
            let hundredths = hundredths / u128::from(whole);
            if hundredths == 0 {
                return "<0.01 %".to_owned();
            }
            let hundredths = hundredths.min(9_999);
            format!("{}.{:02} %", hundredths / 100, hundredths % 100)
        }
    }
}

/// `1 probe`, `2 probes`, `2 replies`.
pub fn count(number: u64, singular: &str) -> String {
    match singular.strip_suffix('y') {
        _ if number == 1 => format!("{number} {singular}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {singular}s"),
    }
}

/// `1 this`, `2 that`: those that are not zero.
pub fn above_zero<const N: usize>(numbers: [(u64, &str); N]) -> Vec<String> {
    let present = numbers.into_iter().filter(|(number, _)| *number > 0);
    present.map(|(number, what)| format!("{number} {what}")).collect()
}

/// `a, b, c`; the first few if they are many.
pub fn list<T: ToString>(items: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The clock that a one-way delay rests on.
pub fn clock_name(clock: OneWayClock) -> String {
    match clock {
        OneWayClock::SameClock => "same clock".to_owned(),
        OneWayClock::Synced { bound_ns } => format!("synchronised, ± {}", duration_u64(bound_ns)),
        OneWayClock::Estimated { bound_ns, .. } => format!("estimated, ± {}", duration_u64(bound_ns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_readable_unit() {
        let table = [
            (0, "0 ns"),
            (1, "1 ns"),
            (-850, "-850 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (6_124, "6.12 µs"),
            (99_994, "99.99 µs"),
            (99_995, "100 µs"),
            (161_400, "161 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (50_450_000, "50.45 ms"),
            (-50_450_000, "-50.45 ms"),
            (999_600_000, "1.00 s"),
            (2_000_000_000, "2.00 s"),
            (4_000_000_000_000, "4000 s"),
            (i64::MIN, "-9223372037 s"),
        ];
        for (ns, expected) in table {
            assert_eq!(duration(ns), expected);
        }
        assert_eq!(duration_u64(u64::MAX), "9223372037 s");
    }

    #[test]
    fn nearly_all_is_not_all_and_nearly_none_not_none() {
        let table = [
            ((0, 0), "-"),
            ((0, 100), "0 %"),
            ((1, 100), "1.00 %"),
            ((3, 2_000), "0.15 %"),
            ((1, 1_000_000), "<0.01 %"),
            ((999_999, 1_000_000), "99.99 %"),
            ((100, 100), "100 %"),
            ((u64::MAX / 2, u64::MAX), "50.00 %"),
        ];
        for ((part, whole), expected) in table {
            assert_eq!(percent(part, whole), expected);
        }
    }

    #[test]
    fn counts_have_a_plural() {
        assert_eq!(
            [count(0, "probe"), count(1, "probe"), count(2, "probe")],
            ["0 probes", "1 probe", "2 probes"]
        );
        assert_eq!([count(1, "reply"), count(2, "reply")], ["1 reply", "2 replies"]);
    }
}
