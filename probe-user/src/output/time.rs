//! UTC in results, from monotonic timestamps.

use std::fmt;

use jiff::Timestamp;
use probe_host::clock::realtime_ns;
use probe_host::wall::WallOffset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// UTC, written as in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc {
    pub unix_ns: u64,
}

impl Utc {
    pub fn now() -> Self {
        Self { unix_ns: realtime_ns() }
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.unix_ns)).unwrap_or(Timestamp::MAX)
    }

    /// `10:10:38` on an axis of some length; of some seconds `10:10:38.500`, of some days `21 10:10`.
    pub fn on_axis(self, lasts_ns: u64) -> String {
        let form = match lasts_ns / 1_000_000_000 {
            0..4 => "%H:%M:%S%.3f",
            4..86_400 => "%H:%M:%S",
            _ => "%d %H:%M",
        };
        self.timestamp().strftime(form).to_string()
    }

    /// `2026-11-21T10:10:38Z`.
    pub fn to_second(self) -> impl fmt::Display {
        fmt::from_fn(move |f| write!(f, "{:.0}", self.timestamp()))
    }
}

/// `2026-11-21T10:10:38Z – 10:10:48Z`; the end has its day if it is another, and milliseconds are shown below a second.
pub fn interval(start: Utc, end: Utc) -> impl fmt::Display {
    const DAY: &str = "%Y-%m-%d";
    let time = if end.unix_ns.saturating_sub(start.unix_ns) < 1_000_000_000 {
        "%H:%M:%S%.3fZ"
    } else {
        "%H:%M:%SZ"
    };
    fmt::from_fn(move |f| {
        let (start, end) = (start.timestamp(), end.timestamp());
        let [first_day, last_day] = [start, end].map(|at| at.strftime(DAY).to_string());
        write!(f, "{first_day}T{} – ", start.strftime(time))?;
        if last_day != first_day {
            write!(f, "{last_day}T")?;
        }
        write!(f, "{}", end.strftime(time))
    })
}

/// `2026-11-21T10:10:38.000000000Z`.
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", self.timestamp())
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: Option<Timestamp> = text.parse().ok();
        let unix_ns = time.and_then(|time| u64::try_from(time.as_nanosecond()).ok());
        let wrong = || serde::de::Error::custom(format!("'{text}' is not a time of RFC 3339 after 1970"));
        Ok(Self {
            unix_ns: unix_ns.ok_or_else(wrong)?,
        })
    }
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How far UTC was ahead of `CLOCK_MONOTONIC` when both were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UtcOffset {
    ahead_ns: i128,
}

impl UtcOffset {
    /// How far two offsets are apart.
    pub fn distance_ns(self, other: Self) -> u128 {
        self.ahead_ns.abs_diff(other.ahead_ns)
    }

    /// From several readings, so that an interrupt between those of the two clocks does not count.
    pub fn now() -> Self {
        Self {
            ahead_ns: WallOffset::now().ahead_ns().into(),
        }
    }

    /// From readings of both clocks, taken together.
    pub fn new(monotonic_ns: u64, realtime_ns: u64) -> Self {
        Self {
            ahead_ns: i128::from(realtime_ns) - i128::from(monotonic_ns),
        }
    }

    pub fn utc(self, monotonic_ns: u64) -> Utc {
        let unix_ns = i128::from(monotonic_ns) + self.ahead_ns;
        Utc {
            unix_ns: u64::try_from(unix_ns.max(0)).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let table = [
            (0, "1970-01-01T00:00:00.000000000Z", "1970-01-01T00:00:00Z"),
            (
                1_795_255_838_000_000_001,
                "2026-11-21T10:10:38.000000001Z",
                "2026-11-21T10:10:38Z",
            ),
            (
                1_795_255_838_999_999_999,
                "2026-11-21T10:10:38.999999999Z",
                "2026-11-21T10:10:38Z",
            ),
        ];
        for (unix_ns, exact, to_second) in table {
            let utc = Utc { unix_ns };
            assert_eq!(utc.to_string(), exact);
            assert_eq!(utc.to_second().to_string(), to_second);
            assert_eq!(serde_json::to_string(&utc).unwrap(), format!("\"{exact}\""));
        }
    }

    #[test]
    fn an_interval_repeats_only_what_differs() {
        const NOON_NS: u64 = 1_795_262_400_000_000_000;
        let table = [
            ((0, 10_000_000_001), "2026-11-21T12:00:00Z – 12:00:10Z"),
            ((0, 43_200_000_000_000), "2026-11-21T12:00:00Z – 2026-11-22T00:00:00Z"),
            ((0, 1_000_000_000), "2026-11-21T12:00:00Z – 12:00:01Z"),
            ((200_000_000, 700_900_000), "2026-11-21T12:00:00.200Z – 12:00:00.700Z"),
        ];
        for ((start, end), expected) in table {
            let [start, end] = [start, end].map(|ns| Utc { unix_ns: NOON_NS + ns });
            assert_eq!(interval(start, end).to_string(), expected);
        }
    }

    #[test]
    fn monotonic_time_becomes_utc() {
        let offset = UtcOffset::new(1_000, 1_795_255_838_000_000_000);
        assert_eq!(offset.utc(1_001).unix_ns, 1_795_255_838_000_000_001);
        assert_eq!(offset.utc(0).unix_ns, 1_795_255_837_999_999_000);
    }

    #[test]
    fn a_clock_before_1970_is_1970() {
        assert_eq!(UtcOffset::new(5_000, 1_000).utc(3_000).unix_ns, 0);
    }
}
