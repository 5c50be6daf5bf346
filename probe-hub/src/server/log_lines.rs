//! The log lines of nats-server: which ones are shown.

use std::time::Duration;

/// Lines that are shown in each interval: hosts can cause errors.
const MAX_LINES: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(60);
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

/// Shows the first lines of each interval, and counts the others.
#[derive(Debug, Default)]
pub struct Budget {
    begin: Duration,
    shown: u32,
    left_out: u64,
}

impl Budget {
    /// The line to show, if any; `now` is since the start.
    pub fn take(&mut self, text: &str, now: Duration) -> Option<String> {
        let mut note = String::new();
        if now.saturating_sub(self.begin) >= INTERVAL {
            if self.left_out > 0 {
                note = format!("{} more warnings; ", self.left_out);
            }
            *self = Self {
                begin: now,
                ..Self::default()
            };
        }
        if self.shown == MAX_LINES {
            self.left_out += 1;
            return None;
        }
        self.shown += 1;
        note.extend(text.chars().filter(|char| !char.is_control()).take(MAX_LEN));
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
            .filter(|_| budget.take("x", Duration::from_secs(1)).is_some())
            .count();
        assert_eq!(shown, MAX_LINES as usize);
        let next = budget.take("y\u{1b}\n", INTERVAL + Duration::from_secs(1));
        assert_eq!(next.as_deref(), Some("80 more warnings; y"));
        assert_eq!(budget.take("z", INTERVAL * 3).as_deref(), Some("z"));
        assert!(budget.take(&"w".repeat(1000), INTERVAL * 3).unwrap().len() <= MAX_LEN);
    }
}
