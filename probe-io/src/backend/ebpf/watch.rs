//! Notices that replies which the program transmitted never left: an attachment that succeeds does not prove that
//! reflection works.

/// Replies to see before judging.
const ENOUGH_REPLIES: u64 = 4;

/// Judgements in a row that nothing left. A queue that overflows while the other end is kept from running drops much,
/// but neither everything nor for so long.
const ENOUGH_JUDGEMENTS: u32 = 3;

/// Compares what the program reflected with what the device dropped, over one attachment.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    reflected: u64,
    dropped: u64,
    judgements: u32,
}

impl Watch {
    /// Starts from the counters at the time of attaching.
    pub fn new(reflected: u64, dropped: u64) -> Self {
        Self {
            reflected,
            dropped,
            judgements: 0,
        }
    }

    /// Whether the device has dropped as much as was reflected, time after time. Few replies are no evidence and are
    /// kept for the next call.
    pub fn swallows(&mut self, reflected: u64, dropped: u64) -> bool {
        let replies = reflected.saturating_sub(self.reflected);
        if replies < ENOUGH_REPLIES {
            return false;
        }
        let all_dropped = dropped.saturating_sub(self.dropped) >= replies;
        *self = Self {
            reflected,
            dropped,
            judgements: if all_dropped { self.judgements + 1 } else { 0 },
        };
        self.judgements >= ENOUGH_JUDGEMENTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_that_drops_everything_all_the_time_swallows() {
        let table = [
            (100, 50, false, "nothing new"),
            (103, 53, false, "too few to judge"),
            (104, 54, false, "all dropped, once"),
            (204, 154, false, "twice"),
            (304, 250, false, "not all: an overflowing queue"),
            (404, 350, false, "all dropped, once"),
            (406, 352, false, "too few to judge"),
            (408, 354, false, "twice"),
            (508, 460, true, "three times"),
        ];
        let mut watch = Watch::new(100, 50);
        for (reflected, dropped, swallowed, what) in table {
            assert_eq!(watch.swallows(reflected, dropped), swallowed, "{what}");
        }
    }
}
