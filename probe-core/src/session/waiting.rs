//! Delays that wait for their distributions.
//!
//! Each reply has several delays, and each of them a distribution of its own. With very many peers, none of these is in the
//! processor's caches when a reply arrives. So the delays wait next to each other, and those of several replies are recorded
//! together (`docs/src/internals/decisions/delays-wait-for-distributions.md`). Each distribution gets its delays in the order in
//! which they came.

/// The delays of eight replies.
const MAX_WAITING: usize = 8 * Delay::ALL.len();

/// The kind of a delay. Each kind has a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delay {
    Rtt,
    Residence,
    Forward,
    Backward,
    EstimatedForward,
    EstimatedBackward,
    Ipdv,
}

impl Delay {
    pub(super) const ALL: [Self; 7] = [
        Self::Rtt,
        Self::Residence,
        Self::Forward,
        Self::Backward,
        Self::EstimatedForward,
        Self::EstimatedBackward,
        Self::Ipdv,
    ];
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// The window of all that wait.
    window: u64,
    number: u8,
    delays: [Delay; MAX_WAITING],
    /// In nanoseconds.
    values: [i64; MAX_WAITING],
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            window: 0,
            number: 0,
            delays: [Delay::Rtt; MAX_WAITING],
            values: [0; MAX_WAITING],
        }
    }
}

impl Waiting {
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Whether all delays of another reply in `window` can wait, too.
    pub(super) fn has_room(&self, window: u64) -> bool {
        let number = usize::from(self.number);
        number == 0 || (self.window == window && number + Delay::ALL.len() <= MAX_WAITING)
    }

    /// The next delays are of `window`. Call it only if there is room.
    pub(super) fn set_window(&mut self, window: u64) {
        self.window = window;
    }

    pub(super) fn push(&mut self, delay: Delay, value_ns: i64) {
        let place = usize::from(self.number);
        self.delays[place] = delay;
        self.values[place] = value_ns;
        self.number += 1;
    }

    /// Hands out all that wait, one kind after the other, with their values in nanoseconds.
    pub(super) fn each(&self, mut each: impl FnMut(Delay, i64)) {
        let number = usize::from(self.number);
        let (delays, values) = (&self.delays[..number], &self.values[..number]);
        for kind in Delay::ALL {
            let of_kind = delays.iter().zip(values).filter(|(delay, _)| **delay == kind);
            of_kind.for_each(|(_, value)| each(kind, *value));
        }
    }

    pub(super) fn clear(&mut self) {
        self.number = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_of_eight_replies_of_one_window_wait_and_keep_their_order() {
        let mut waiting = Waiting::default();
        for reply in 0..8 {
            assert!(waiting.has_room(3), "{reply}");
            waiting.set_window(3);
            Delay::ALL.iter().for_each(|delay| waiting.push(*delay, reply));
        }
        assert!(!waiting.has_room(3));
        let mut taken = Vec::new();
        waiting.each(|delay, value| taken.push((delay, value)));
        let want = Delay::ALL
            .iter()
            .flat_map(|&delay| (0..8).map(move |reply| (delay, reply)));
        assert_eq!(taken, want.collect::<Vec<_>>());
        waiting.clear();
        assert!(waiting.has_room(4));
        waiting.each(|_, _| unreachable!("nothing waits any more"));
    }

    #[test]
    fn delays_of_two_windows_do_not_wait_together() {
        let mut waiting = Waiting::default();
        waiting.set_window(3);
        waiting.push(Delay::Ipdv, -5);
        assert!(waiting.has_room(3));
        assert!(!waiting.has_room(4));
    }
}
