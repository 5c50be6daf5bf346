//! Adds up what test binaries print.

use std::fmt;

/// How many passed, failed, were skipped; and which failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What failed, by name where it is known.
    failures: Vec<String>,
    /// Whether a test binary began and has not said its result.
    open: bool,
    part: Part,
    /// Whether the test whose output is being read has said that it was skipped.
    counted: bool,
    /// How many of the binary being read have.
    said_so: u64,
}

/// Which part of a test binary's output is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Course,
    Successes,
    Failures,
}

impl Tally {
    pub(super) fn pass(&mut self) {
        self.passed += 1;
    }

    pub(super) fn fail(&mut self, name: &str) {
        self.failed += 1;
        self.failures.push(name.to_owned());
    }

    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }

    /// Says of every failure where it was.
    pub(super) fn located(mut self, place: &str) -> Self {
        for name in &mut self.failures {
            *name = format!("{place}: {name}");
        }
        self
    }

    /// Reads one line of a test binary's output.
    ///
    /// libtest counts a test that could not run, says so (`SKIPPED: reason`) and returns, as passed; here it is not.
    pub(super) fn read(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.open = true;
            self.part = Part::Course;
        } else if line == "successes:" {
            self.part = Part::Successes;
        } else if line == "failures:" {
            self.part = Part::Failures;
        } else if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.counted = false;
            if self.part == Part::Failures {
                self.failures.push(name.to_owned());
            }
        } else if line.starts_with("SKIPPED: ") && self.part == Part::Successes && !self.counted {
            self.counted = true;
            self.said_so += 1;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.open = false;
            let said_so = std::mem::take(&mut self.said_so);
            self.passed += count(result, " passed").saturating_sub(said_so);
            self.failed += count(result, " failed");
            self.skipped += count(result, " ignored") + said_so;
            self.part = Part::Course;
        }
    }

    /// Reads the end of the test binary `name`: that it broke off is a failure too.
    pub(super) fn finish(&mut self, name: &str, success: bool) {
        let broke_off = std::mem::take(&mut self.open);
        if broke_off || (!success && self.failed == 0) {
            self.fail(&format!("{name}: broke off"));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// The number before `word` in `ok. 12 passed; 0 failed; ...`.
fn count(result: &str, word: &str) -> u64 {
    let before = result.split(word).next().filter(|before| before.len() < result.len());
    before
        .and_then(|text| text.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, success: bool) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.read(line));
        tally.finish("tests", success);
        tally
    }

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let one = "running 13 tests\ntest a ... ok\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured\n";
        let two = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(
            read(&format!("{one}\n{two}"), true).to_string(),
            "13 passed, 0 failed, 1 skipped"
        );
    }

    #[test]
    fn a_test_that_says_skipped_has_not_passed_and_counts_once() {
        let text = "running 2 tests\n\nsuccesses:\n\n---- a stdout ----\nSKIPPED: no root\nSKIPPED: no root\n\n\n\
                    successes:\n    a\n    b\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(read(text, true).to_string(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn failures_are_named() {
        let text = "running 1 test\n\nfailures:\n\n---- core::adds stdout ----\nSKIPPED: not this\n\n\
                    failures:\n    core::adds\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n";
        let tally = read(text, false);
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
        assert_eq!(tally.failures(), ["core::adds"]);
    }

    #[test]
    fn a_binary_that_breaks_off_has_failed() {
        for (text, success) in [
            ("", false),
            ("running 5 tests\ntest a ... ok\n", false),
            ("running 5 tests\n", true),
        ] {
            let tally = read(text, success);
            assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped", "{text}");
            assert_eq!(tally.failures(), ["tests: broke off"], "{text}");
        }
        assert_eq!(read("", true).to_string(), "0 passed, 0 failed, 0 skipped");
    }
}
