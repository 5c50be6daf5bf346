//! Counts passed, failed and skipped tests in the output of test binaries.

use std::fmt;

/// The counts, and the names of those that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    failures: Vec<String>,
    /// A test binary has started and not yet printed its result.
    open: bool,
    section: Section,
    /// The test whose output is being read is already in `self_skipped`.
    counted: bool,
    /// Tests of this binary that passed because they skipped themselves.
    self_skipped: u64,
}

/// Sections of a test binary's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Progress,
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

    /// Prefixes every failure with `place`.
    pub(super) fn located(mut self, place: &str) -> Self {
        for name in &mut self.failures {
            *name = format!("{place}: {name}");
        }
        self
    }

    /// Reads one line of a test binary's output.
    ///
    /// A test that cannot run prints `SKIPPED: reason` and returns. libtest counts it as passed; here it counts as skipped.
    pub(super) fn read(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.open = true;
            self.section = Section::Progress;
        } else if line == "successes:" {
            self.section = Section::Successes;
        } else if line == "failures:" {
            self.section = Section::Failures;
        } else if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.counted = false;
            if self.section == Section::Failures {
                self.failures.push(name.to_owned());
            }
        } else if line.starts_with("SKIPPED: ") && self.section == Section::Successes && !self.counted {
            self.counted = true;
            self.self_skipped += 1;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.open = false;
            let self_skipped = std::mem::take(&mut self.self_skipped);
            self.passed += count(result, " passed").saturating_sub(self_skipped);
            self.failed += count(result, " failed");
            self.skipped += count(result, " ignored") + self_skipped;
            self.section = Section::Progress;
        }
    }

    /// Ends the test binary `name`: one that broke off counts as a failure.
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
    fn a_skipped_test_counts_once_and_is_not_passed() {
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
