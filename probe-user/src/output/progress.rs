//! Progress of a long command: one line on standard error, where that is a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::output::file::is_writable;

/// Clears the line of the cursor, which moves to its start.
const CLEAR: &str = "\r\x1b[K";
const REDRAW: Duration = Duration::from_secs(1);

/// Whether the line is on the terminal.
static IS_SHOWN: Mutex<bool> = Mutex::new(false);

/// A line of progress, until it is dropped.
pub struct Progress(Option<JoinHandle<()>>);

impl Progress {
    /// Shows the time that has passed of `length`.
    pub fn show(what: &'static str, length: Duration) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        Self(Some(tokio::spawn(async move {
            let start = Instant::now();
            let mut redraw = interval(REDRAW);
            redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                redraw.tick().await;
                draw(&line(what, start.elapsed(), length));
            }
        })))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
            clear();
        }
    }
}

/// Writes in the place of the line, which is drawn again later. Waits for others that write.
pub fn aside<T>(write: impl FnOnce() -> T) -> T {
    // Held while it writes, so that the line is not drawn in between.
    let mut is_shown = IS_SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    hide(&mut is_shown);
    write()
}

/// Clears the line. Never waits: a thread that writes now has cleared it.
pub fn clear() {
    if let Some(mut is_shown) = try_lock() {
        hide(&mut is_shown);
    }
}

/// Leaves the line as it is if somebody writes, or the terminal takes nothing: drawing must not delay measuring.
fn draw(line: &str) {
    if let Some(mut is_shown) = try_lock() {
        *is_shown |= put(&format!("{CLEAR}{line}"));
    }
}

fn try_lock() -> Option<MutexGuard<'static, bool>> {
    match IS_SHOWN.try_lock() {
        Ok(is_shown) => Some(is_shown),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn hide(is_shown: &mut bool) {
    if std::mem::take(is_shown) {
        put(CLEAR);
    }
}

/// Returns false if standard error would not take it at once.
fn put(text: &str) -> bool {
    let mut stderr = io::stderr().lock();
    is_writable(&stderr, Some(Duration::ZERO)) && stderr.write_all(text.as_bytes()).is_ok()
}

fn line(what: &str, passed: Duration, length: Duration) -> String {
    // Rounded up, so that it ends at its length and not before.
    let length_s = length.as_secs_f64().ceil() as u64;
    format!("{what}: {} of {length_s} s", passed.as_secs().min(length_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_that_passed_and_the_length() {
        let s = Duration::from_secs;
        assert_eq!(line("idle", s(3), s(10)), "idle: 3 of 10 s");
        assert_eq!(line("idle", s(3), Duration::from_millis(9_500)), "idle: 3 of 10 s");
        assert_eq!(line("idle", s(12), s(10)), "idle: 10 of 10 s");
    }
}
