//! The log lines of nats-server: which ones are shown.

use std::collections::HashMap;
use std::time::Duration;

/// Lines that are shown in each interval: hosts can cause errors.
const MAX_LINES: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(60);
/// A line that keeps coming, as about a host that keeps failing to connect, is shown again after this time.
const REPEAT: Duration = Duration::from_secs(3600);
/// Lines that are remembered.
const MAX_REMEMBERED: usize = 1000;
/// Longest line that is shown.
const MAX_LEN: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// The level and the text of a line such as `[20437] 2026/11/27 20:20:08.063009 [INF] Trapped "terminated" signal`.
pub fn split(line: &str) -> (Level, &str) {
    let marks = [
        ("[INF] ", Level::Info),
        ("[WRN] ", Level::Warning),
        ("[ERR] ", Level::Error),
        ("[FTL] ", Level::Error),
    ];
    let places = marks
        .iter()
        .filter_map(|(mark, level)| Some((line.find(mark)?, mark.len(), *level)));
    if let Some((place, length, level)) = places.min_by_key(|(place, ..)| *place) {
        return (level, &line[place + length..]);
    }
    // The configuration is wrong: "nats-server: nats.conf:3:1: …". Debugging is never on.
    match line.strip_prefix("nats-server: ") {
        Some(text) => (Level::Error, text),
        None => (Level::Info, line),
    }
}

/// Whether a line says that the disk is full. A quota that is exceeded is none: the free space of the disk does not show it.
pub fn disk_is_full(text: &str) -> bool {
    text.contains("no space left on device")
}

/// A line without the parts that differ each time. In `10.2.0.2:56810 - cid:40 - TLS handshake error` these are the port and the
/// number of the connection.
fn recurring(text: &str) -> String {
    let parts = text.split_once(" - cid:").and_then(|(client, rest)| {
        let (address, _port) = client.rsplit_once(':')?;
        let (_number, what) = rest.split_once(" - ")?;
        Some((address, what))
    });
    let Some((address, what)) = parts else {
        return text.to_owned();
    };
    match what.starts_with("authentication error") {
        true => format!("{address} is not enrolled, or has old credentials: {what}"),
        false => format!("{address}: {what}"),
    }
}

/// Shows the first lines of each interval, and counts the others. The same line is shown once an hour.
#[derive(Debug, Default)]
pub struct Budget {
    /// Lines that were shown: when, and how often they have come since.
    recent: HashMap<String, (Duration, u64)>,
    begin: Duration,
    shown: u32,
    left_out: u64,
}

impl Budget {
    /// The line to show, if any; `now` is since the start.
    pub fn take(&mut self, text: &str, now: Duration) -> Option<String> {
        let text = recurring(text);
        let mut times = 0;
        if let Some((shown, repeats)) = self.recent.get_mut(&text) {
            *repeats += 1;
            if now.saturating_sub(*shown) < REPEAT {
                return None;
            }
            times = *repeats;
        }
        let mut note = String::new();
        if now.saturating_sub(self.begin) >= INTERVAL {
            if self.left_out > 0 {
                note = format!("{} more warnings; ", self.left_out);
            }
            (self.begin, self.shown, self.left_out) = (now, 0, 0);
        }
        if self.shown == MAX_LINES {
            self.left_out += 1;
            return None;
        }
        self.shown += 1;
        note.extend(text.chars().filter(|char| !char.is_control()).take(MAX_LEN));
        if times > 1 {
            note += &format!(" ({times} times since this was last shown)");
        }
        if self.recent.len() >= MAX_REMEMBERED {
            self.recent.clear();
        }
        self.recent.insert(text, (now, 0));
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_level() {
        for (line, expected) in [
            (
                "[2] 2026/11/27 20:20:08.063009 [INF] Server is ready",
                (Level::Info, "Server is ready"),
            ),
            (
                "[2] 2026/11/27 20:20:08.063009 [WRN] x [ERR] y",
                (Level::Warning, "x [ERR] y"),
            ),
            (
                "[2] 2026/11/27 20:20:08.063009 [ERR] [x] [INF] y",
                (Level::Error, "[x] [INF] y"),
            ),
            ("[2] 2026/11/27 20:20:08.063009 [FTL] z", (Level::Error, "z")),
            ("nats-server: nats.conf:3:1: x", (Level::Error, "nats.conf:3:1: x")),
            ("", (Level::Info, "")),
        ] {
            assert_eq!(split(line), expected);
        }
    }

    #[test]
    fn a_flood_of_lines_is_counted() {
        let mut budget = Budget::default();
        let shown = (0..100)
            .filter(|number| budget.take(&format!("x{number}"), Duration::from_secs(1)).is_some())
            .count();
        assert_eq!(shown, MAX_LINES as usize);
        let next = budget.take("y\u{1b}\n", INTERVAL + Duration::from_secs(1));
        assert_eq!(next.as_deref(), Some("80 more warnings; y"));
        assert_eq!(budget.take("z", INTERVAL * 3).as_deref(), Some("z"));
        assert!(budget.take(&"w".repeat(1000), INTERVAL * 3).unwrap().len() <= MAX_LEN);
    }

    #[test]
    fn a_host_that_connects_in_vain_is_named_once_an_hour() {
        let mut budget = Budget::default();
        let mut take = |client: &str, number: u64| {
            let text = format!(
                "{client}:{} - cid:{number} - authentication error - Nkey \"U\"",
                40_000 + number
            );
            budget.take(&text, Duration::from_secs(4 * number))
        };
        let first = take("10.2.0.2", 1).unwrap();
        assert_eq!(
            first,
            "10.2.0.2 is not enrolled, or has old credentials: authentication error - Nkey \"U\""
        );
        assert!((2..=900).all(|number| take("10.2.0.2", number).is_none()));
        assert!(take("fd01::2", 900).unwrap().starts_with("fd01::2 is"));
        let again = take("10.2.0.2", 901).unwrap();
        assert_eq!(again, format!("{first} (900 times since this was last shown)"));
        assert_eq!(take("10.2.0.2", 902), None);
        assert_eq!(recurring("10.2.0.2:1 - cid:4 - slow"), "10.2.0.2: slow");
        assert_eq!(recurring("no client: slow - x"), "no client: slow - x");
    }

    #[test]
    fn few_lines_are_remembered() {
        let mut budget = Budget::default();
        for number in 0..10 * MAX_REMEMBERED as u32 {
            budget.take(&number.to_string(), number * INTERVAL / MAX_LINES);
        }
        assert!(budget.recent.len() <= MAX_REMEMBERED);
    }
}
