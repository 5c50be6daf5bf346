//! Standard error, which must not delay measuring either.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::output::file::is_writable;
use crate::output::progress;

const LAST_LINE_TIMEOUT: Duration = Duration::from_secs(1);

type Elsewhere = Box<dyn Fn(&str) + Send>;

/// Takes lines instead of standard error.
static ELSEWHERE: Mutex<Option<Elsewhere>> = Mutex::new(None);

/// Has lines shown elsewhere, while a screen is drawn where standard error may go too.
pub fn divert(elsewhere: Option<Elsewhere>) {
    *ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
}

/// Writes whole lines as long as standard error takes them at once, and counts those that it leaves out.
#[derive(Default)]
pub struct Diagnostics {
    left_out: u64,
}

impl io::Write for Diagnostics {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(elsewhere) = &*ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner) {
            elsewhere(String::from_utf8_lossy(line).trim_end());
            return Ok(line.len());
        }
        progress::clear();
        let mut stderr = io::stderr().lock();
        if !is_writable(&stderr, Some(Duration::ZERO)) {
            self.left_out += 1;
            return Ok(line.len());
        }
        // A closed or full standard error cannot be reported.
        if self.left_out > 0 {
            writeln!(stderr, "kstamp: {} lines were left out here", self.left_out).ok();
            self.left_out = 0;
        }
        stderr.write_all(line).ok();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line that is no warning.
pub fn line(line: &str) {
    // Never fails.
    writeln!(Diagnostics::default(), "kstamp: {line}").ok();
}

/// Writes a last line of a run, and waits a moment for standard error.
pub fn last(line: &str) {
    progress::clear();
    let mut stderr = io::stderr().lock();
    if is_writable(&stderr, Some(LAST_LINE_TIMEOUT)) {
        // It may quote a file that another host has written: no sequence of it reaches a terminal.
        let line = line.replace(char::is_control, "\u{fffd}");
        writeln!(stderr, "kstamp: {line}").ok();
    }
}
