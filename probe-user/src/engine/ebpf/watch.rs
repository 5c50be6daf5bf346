//! Notices that replies which the program transmitted never left: an attachment that succeeds does not prove that
//! reflection works.

/// Replies to see before judging.
const ENOUGH_REPLIES: u64 = 4;

/// Compares what the program reflected with what the device dropped, over one attachment.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    reflected: u64,
    dropped: u64,
}

impl Watch {
    /// Starts from the counters at the time of attaching.
    pub fn new(reflected: u64, dropped: u64) -> Self {
        Self { reflected, dropped }
    }

    /// Whether the device dropped at least half of the replies since the last verdict; few replies are no evidence
    /// and are kept for the next call.
    pub fn swallows(&mut self, reflected: u64, dropped: u64) -> bool {
        let replies = reflected.saturating_sub(self.reflected);
        if replies < ENOUGH_REPLIES {
            return false;
        }
        let swallowed = dropped.saturating_sub(self.dropped).saturating_mul(2) >= replies;
        *self = Self::new(reflected, dropped);
        swallowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_by_the_share_of_drops() {
        let table = [
            (100, 50, false, "nothing new"),
            (103, 53, false, "too few to judge"),
            (104, 54, true, "all dropped"),
            (108, 54, false, "none dropped"),
            (208, 103, false, "less than half"),
            (308, 153, true, "half"),
        ];
        let mut watch = Watch::new(100, 50);
        for (reflected, dropped, swallowed, what) in table {
            assert_eq!(watch.swallows(reflected, dropped), swallowed, "{what}");
        }
    }
}
