//! One line for each refusal, but no flood of lines from whoever keeps trying.

use std::cell::RefCell;
use std::net::SocketAddr;

use log::warn;

use crate::openflow::server::Reason;

/// At most so many lines
const LINES: u32 = 50;
/// in such a time.
const WITHIN_NS: u64 = 10_000_000_000;

#[derive(Debug, Default)]
struct Window {
    since_ns: u64,
    count: u32,
}

/// Writes refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    window: RefCell<Window>,
}

impl Refusals {
    /// Writes a line, or counts it if too many were written lately.
    pub(super) fn log(&self, address: SocketAddr, reason: &Reason, now_ns: u64) {
        let (held_back, write) = self.window.borrow_mut().count(now_ns);
        if held_back > 0 {
            warn!("{held_back} more connections were refused");
        }
        if write {
            warn!("{address}: refused: {reason}");
        }
    }
}

impl Window {
    /// How many were held back in the window that is over, and whether this one is written.
    fn count(&mut self, now_ns: u64) -> (u32, bool) {
        let mut held_back = 0;
        if now_ns.saturating_sub(self.since_ns) >= WITHIN_NS {
            held_back = self.count.saturating_sub(LINES);
            *self = Self {
                since_ns: now_ns,
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
        (held_back, self.count <= LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_counted() {
        let mut window = Window::default();
        let start = WITHIN_NS;
        for _ in 0..LINES {
            assert_eq!(window.count(start), (0, true));
        }
        for _ in 0..7 {
            assert_eq!(window.count(start + 1), (0, false));
        }
        assert_eq!(window.count(start + WITHIN_NS), (7, true));
        assert_eq!(window.count(start + WITHIN_NS), (0, true));
    }
}
