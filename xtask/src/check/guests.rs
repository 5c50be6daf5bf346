//! Adds up what a guest prints, as it comes.

use std::time::Instant;

use super::tally::Tally;
use anyhow::Result;

use crate::vm::{Kernel, Listener, table::Table};

/// What has been heard of one guest.
pub(super) struct Heard {
    place: String,
    /// Of the part that runs.
    part: Tally,
    /// Of those that have ended.
    total: Tally,
    /// When the part that runs began.
    since: Instant,
    matrix: Table,
}

impl Heard {
    /// Nothing yet of the guest with a kernel of this series.
    pub(super) fn new(series: &str) -> Self {
        let (part, total) = (Tally::default(), Tally::default());
        let place = format!("Linux {series}");
        Self {
            place,
            part,
            total,
            since: Instant::now(),
            matrix: Table::default(),
        }
    }

    /// The guest did not come to its end.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        eprintln!("xtask: {}: {error:#}", self.place);
        // What the part that ran has not finished counts as broken off.
        std::mem::take(&mut self.part).add_to(&mut self.total, "the guest's last part", true);
        self.total.fail("the guest failed");
    }

    /// Holds the attach matrix, if it was among the tests, against the documentation; or writes it there.
    pub(super) fn judge_matrix(&mut self, kernel: Kernel, write: bool) {
        let outcome: Result<()> = match (self.matrix.is_empty(), write) {
            (true, _) => return,
            (false, true) => self.matrix.write(kernel),
            (false, false) => self.matrix.check(kernel),
        };
        match outcome {
            Ok(()) => self.total.pass(),
            Err(error) => {
                eprintln!("xtask: {error:#}");
                self.total.fail("the attach matrix in the documentation");
            }
        }
    }

    /// All of it.
    pub(super) fn end(self) -> Tally {
        self.total.located(&self.place)
    }
}

impl Listener for Heard {
    fn line(&mut self, line: &str) {
        println!("{line}");
        self.part.read(line);
        self.matrix.hear(line);
    }

    fn part(&mut self, name: &str, success: bool) {
        let taken = std::mem::replace(&mut self.since, Instant::now()).elapsed();
        println!("{}: {name} took {:.1} s", self.place, taken.as_secs_f64());
        std::mem::take(&mut self.part).add_to(&mut self.total, name, success);
    }
}

impl Tally {
    /// Reads the end of a part, and adds it.
    fn add_to(mut self, total: &mut Self, name: &str, success: bool) {
        self.finish(name, success);
        total.add(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_breaks_off_has_failed_and_says_where() {
        let mut heard = Heard::new("6.1");
        heard.line("running 2 tests");
        heard.line("test result: ok. 2 passed; 0 failed; 0 ignored");
        heard.part("programs", true);
        heard.line("running 3 tests");
        heard.fail(&anyhow::anyhow!("it said nothing"));
        let tally = heard.end();
        assert_eq!(tally.to_string(), "2 passed, 2 failed, 0 skipped");
        assert!(tally.failures().iter().all(|name| name.starts_with("Linux 6.1: ")));
    }
}
