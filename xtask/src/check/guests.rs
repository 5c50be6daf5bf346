//! Adds up what a guest prints, as it comes.

use std::time::Instant;

use anyhow::Result;

use super::tally::Tally;
use crate::vm::{Kernel, Listener, table::Table};

/// What has been heard of one guest.
pub(super) struct Heard {
    kernel: Kernel,
    /// Whether the attach matrix is to be written into the documentation.
    write_table: bool,
    /// Of the part that runs.
    part: Tally,
    /// Of those that have ended.
    total: Tally,
    begin: Instant,
    /// When the part that runs began.
    since: Instant,
    matrix: Table,
}

impl Heard {
    /// Nothing yet.
    pub(super) fn new(kernel: Kernel, write_table: bool) -> Self {
        let now = Instant::now();
        Self {
            kernel,
            write_table,
            part: Tally::default(),
            total: Tally::default(),
            begin: now,
            since: now,
            matrix: Table::default(),
        }
    }

    /// All of it.
    pub(super) fn total(mut self) -> Tally {
        self.judge_matrix();
        self.total.located(&format!("Linux {}", self.kernel.series()))
    }

    /// Prints a line such that one sees whose it is: guests run at the same time.
    fn print(&self, line: &str) {
        println!("{:4} | {line}", self.kernel.series());
    }

    /// Holds the attach matrix, if it was among the tests, against the documentation; or writes it there.
    fn judge_matrix(&mut self) {
        let outcome = match (self.matrix.is_empty(), self.write_table) {
            (true, _) => return,
            (false, true) => self.matrix.write(self.kernel),
            (false, false) => self.matrix.check(self.kernel),
        };
        match outcome {
            Ok(()) => self.total.pass(),
            Err(error) => {
                self.print(&format!("{error:#}"));
                self.total.fail("the attach matrix in the documentation");
            }
        }
    }
}

impl Listener for Heard {
    fn line(&mut self, line: &str) {
        self.print(line);
        self.part.read(line);
        self.matrix.read_line(line);
    }

    fn part(&mut self, name: &str, success: bool) {
        let now = Instant::now();
        let taken = now.duration_since(std::mem::replace(&mut self.since, now));
        self.print(&format!("{name} took {:.1} s", taken.as_secs_f64()));
        std::mem::take(&mut self.part).add_to(&mut self.total, name, success);
    }

    fn end(&mut self, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                self.print(&format!("all took {:.0} s", self.begin.elapsed().as_secs_f64()));
            }
            Err(error) => {
                self.print(&format!("{error:#}"));
                // What the part that ran has not finished counts as broken off.
                std::mem::take(&mut self.part).add_to(&mut self.total, "the last part", true);
                self.total.fail("the guest failed");
            }
        }
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
        let mut heard = Heard::new(Kernel::V6_1, false);
        heard.line("running 2 tests");
        heard.line("test result: ok. 2 passed; 0 failed; 0 ignored");
        heard.part("programs", true);
        heard.line("running 3 tests");
        heard.end(Err(anyhow::anyhow!("it said nothing")));
        let tally = heard.total();
        assert_eq!(tally.to_string(), "2 passed, 2 failed, 0 skipped");
        assert!(tally.failures().iter().all(|name| name.starts_with("Linux 6.1: ")));
    }
}
