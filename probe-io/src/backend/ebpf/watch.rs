//! Detects that the replies of a program never leave: reflection may fail although the attachment succeeded.

/// Fewer replies are no evidence.
const MIN_REPLIES: u64 = 4;

/// Consecutive checks in which nothing left. A queue that overflows while the other end is descheduled drops many
/// packets, but neither all of them nor for this long.
const MIN_CHECKS: u32 = 3;

/// Compares what the program reflected with what the device dropped, over one attachment.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    reflected: u64,
    dropped: u64,
    checks: u32,
}

impl Watch {
    /// Starts from the counters at the time of attaching.
    pub fn new(reflected: u64, dropped: u64) -> Self {
        Self {
            reflected,
            dropped,
            checks: 0,
        }
    }

    /// Whether the device dropped as much as was reflected in several checks. Few replies are kept for the next call.
    pub fn swallows(&mut self, reflected: u64, dropped: u64) -> bool {
        let replies = reflected.saturating_sub(self.reflected);
        if replies < MIN_REPLIES {
            return false;
        }
        let all_dropped = dropped.saturating_sub(self.dropped) >= replies;
        *self = Self {
            reflected,
            dropped,
            checks: if all_dropped { self.checks + 1 } else { 0 },
        };
        self.checks >= MIN_CHECKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_that_drops_everything_all_the_time_swallows() {
        let table = [
            (100, 50, false, "nothing new"),
            (103, 53, false, "too few to tell"),
            (104, 54, false, "all dropped, once"),
            (204, 154, false, "twice"),
            (304, 250, false, "not all: an overflowing queue"),
            (404, 350, false, "all dropped, once"),
            (406, 352, false, "too few to tell"),
            (408, 354, false, "twice"),
            (508, 460, true, "three times"),
        ];
        let mut watch = Watch::new(100, 50);
        for (reflected, dropped, swallowed, what) in table {
            assert_eq!(watch.swallows(reflected, dropped), swallowed, "{what}");
        }
    }
}
