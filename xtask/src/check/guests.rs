//! Counts the results that a guest prints.

use std::time::Instant;

use anyhow::Result;

use crate::check::tally::Tally;
use crate::vm::table::Table;
use crate::vm::{Guest, Listener};

pub(super) struct Output {
    guest: Guest,
    /// Whether to write the attach matrix into the documentation.
    write_table: bool,
    /// Results of the test binary that runs.
    part: Tally,
    /// Results of binaries that have ended.
    total: Tally,
    start: Instant,
    part_start: Instant,
    matrix: Table,
}

impl Output {
    pub(super) fn new(guest: Guest, write_table: bool) -> Self {
        let now = Instant::now();
        Self {
            guest,
            write_table,
            part: Tally::default(),
            total: Tally::default(),
            start: now,
            part_start: now,
            matrix: Table::default(),
        }
    }

    /// All results, once the guest has ended.
    pub(super) fn total(mut self) -> Tally {
        self.check_matrix();
        self.total.located(&self.guest.to_string())
    }

    /// Prints a line with the guest's name.
    fn print(&self, line: &str) {
        println!("{:10} | {line}", self.guest.to_string());
    }

    /// Compares the attach matrix with the documentation, or writes it, if its test has run.
    fn check_matrix(&mut self) {
        let outcome = match (self.matrix.is_empty(), self.write_table) {
            (true, _) => return,
            (false, true) => self.matrix.write(self.guest.kernel),
            (false, false) => self.matrix.check(self.guest.kernel),
        };
        match outcome {
            Ok(()) => self.total.pass(),
            Err(error) => {
                self.total
                    .fail("the attach matrix in the documentation", &format!("{error:#}"));
            }
        }
    }
}

impl Listener for Output {
    fn line(&mut self, line: &str) {
        self.print(line);
        self.part.read(line);
        self.matrix.read_line(line);
    }

    fn part(&mut self, name: &str, success: bool) {
        let now = Instant::now();
        let taken = now.duration_since(std::mem::replace(&mut self.part_start, now));
        self.print(&format!("{name} took {:.1} s", taken.as_secs_f64()));
        std::mem::take(&mut self.part).add_to(&mut self.total, name, success);
    }

    fn end(&mut self, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                self.print(&format!("all took {:.0} s", self.start.elapsed().as_secs_f64()));
            }
            Err(error) => {
                let why = format!("{error:#}");
                self.print(&why);
                // A part that has not finished counts as failed.
                std::mem::take(&mut self.part).add_to(&mut self.total, "the last part", true);
                self.total.fail("the guest failed", &why);
            }
        }
    }
}

impl Tally {
    /// Ends a part and adds it.
    fn add_to(mut self, total: &mut Self, name: &str, success: bool) {
        self.finish(name, success);
        total.add(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tally::Failure;
    use crate::vm::{Kernel, Userland};

    #[test]
    fn a_guest_that_breaks_off_is_a_located_failure() {
        let guest = Guest {
            kernel: Kernel::V6_1,
            userland: Userland::Bare,
        };
        let mut output = Output::new(guest, false);
        output.line("running 2 tests");
        output.line("test result: ok. 2 passed; 0 failed; 0 ignored");
        output.part("programs", true);
        output.line("running 3 tests");
        output.end(Err(anyhow::anyhow!("no output")));
        let tally = output.total();
        assert_eq!(tally.to_string(), "2 passed, 2 failed, 0 skipped");
        let is_located = |failure: &Failure| failure.to_string().starts_with("failed: Linux 6.1: ");
        assert!(tally.failures().iter().all(is_located));
    }
}
