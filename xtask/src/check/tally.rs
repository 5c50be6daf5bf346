//! Counts passed, failed and skipped tests in the output of test binaries.

use std::fmt;

/// The counts, and what failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    failures: Vec<Failure>,
    /// A test binary has started and not yet printed its result.
    open: bool,
    section: Section,
    /// The test whose output is being read is already in `self_skipped`.
    counted: bool,
    /// Tests of this binary that passed because they skipped themselves.
    self_skipped: u64,
}

/// What failed, and the output that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    name: String,
    output: Vec<String>,
}

/// Lines of a failure's output that are shown from its beginning, and as many from its end.
const SHOWN: usize = 15;

/// The longest line that is shown, in characters.
const MAX_WIDTH: usize = 300;

impl fmt::Display for Failure {
    /// The name, and below it the beginning and the end of the output.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed: {}", self.name)?;
        let lines: Vec<_> = self.output.iter().filter(|line| !line.trim().is_empty()).collect();
        let left_out = SHOWN..lines.len().saturating_sub(SHOWN);
        for (number, line) in lines.iter().enumerate() {
            if !left_out.contains(&number) {
                write!(f, "\n    {}", line.chars().take(MAX_WIDTH).collect::<String>())?;
            } else if number == left_out.start {
                write!(f, "\n    ({} lines left out)", left_out.len())?;
            }
        }
        Ok(())
    }
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

    /// Counts a failure, with the text that says why.
    pub(super) fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        self.failures.push(Failure {
            name: name.to_owned(),
            output: why.lines().map(str::to_owned).collect(),
        });
    }

    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn failures(&self) -> &[Failure] {
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
        for failure in &mut self.failures {
            failure.name = format!("{place}: {}", failure.name);
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
            self.section = match self.section {
                // The second list has only the names.
                Section::Failures => Section::Progress,
                _ => Section::Failures,
            };
        } else if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.counted = false;
            if self.section == Section::Failures {
                self.failures.push(Failure {
                    name: name.to_owned(),
                    output: Vec::new(),
                });
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
        } else if self.section == Section::Failures
            && let Some(failure) = self.failures.last_mut()
        {
            failure.output.push(line.to_owned());
        }
    }

    /// Ends the test binary `name`: one that broke off counts as a failure.
    pub(super) fn finish(&mut self, name: &str, success: bool) {
        let broke_off = std::mem::take(&mut self.open);
        if broke_off || (!success && self.failed == 0) {
            self.fail(&format!("{name}: broke off"), "");
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

    fn shown(tally: &Tally) -> Vec<String> {
        tally.failures().iter().map(Failure::to_string).collect()
    }

    #[test]
    fn failures_are_named_with_what_they_said() {
        let text = "running 2 tests\n\nsuccesses:\n\n---- core::takes stdout ----\nnot this\n\nsuccesses:\n    core::takes\n\n\
                    failures:\n\n---- core::adds stdout ----\nSKIPPED: not this\n\nleft: 1\n\n\
                    failures:\n    core::adds\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let tally = read(text, false);
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 0 skipped");
        assert_eq!(
            shown(&tally),
            ["failed: core::adds\n    SKIPPED: not this\n    left: 1"]
        );
        assert_eq!(
            shown(&tally.located("there"))[0].lines().next(),
            Some("failed: there: core::adds")
        );
    }

    #[test]
    fn of_a_long_output_the_beginning_and_the_end_are_shown() {
        let mut tally = Tally::default();
        let output: Vec<_> = (0..100).map(|line| format!("{line} {}", "x".repeat(1000))).collect();
        tally.fail("long", &output.join("\n"));
        let shown = shown(&tally).concat();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 1 + SHOWN + 1 + SHOWN);
        assert!(
            lines[1].starts_with("    0 x") && lines[2 * SHOWN + 1].starts_with("    99 x"),
            "{shown}"
        );
        assert_eq!(lines[SHOWN + 1], "    (70 lines left out)");
        assert!(lines.iter().all(|line| line.len() <= 4 + MAX_WIDTH), "{shown}");
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
            assert_eq!(shown(&tally), ["failed: tests: broke off"], "{text}");
        }
        assert_eq!(read("", true).to_string(), "0 passed, 0 failed, 0 skipped");
    }
}
