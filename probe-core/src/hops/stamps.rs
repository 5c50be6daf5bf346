//! The stamps of one probe and its reply at one host, in a fixed size.

use crate::direction::Direction;
use crate::hops::stamp::Mark;

/// Stamps of one probe and its reply at one host.
pub const MAX_STAMPS: usize = 12;

/// The first stamp at each hook, by direction. Times are of `CLOCK_MONOTONIC`, or of the reflector's UTC if it gave them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    at_ns: [u64; MAX_STAMPS],
    /// Of each, as [`Mark::place`].
    place: [u8; MAX_STAMPS],
    count: u8,
    is_cut: bool,
    /// The longest wait for a processor by direction, and as [`Mark::place`], where the packet came in then.
    softirq_place: [u8; 2],
    softirq_ns: [u32; 2],
    upcall_ns: [u32; 2],
}

impl Stamps {
    /// Of a duplicated packet, the earlier stamp counts.
    pub fn note(&mut self, mark: Mark) {
        let Some(place) = mark.place() else { return };
        let count = usize::from(self.count);
        if let Some(known) = self.place[..count].iter().position(|&known| known == place) {
            self.at_ns[known] = self.at_ns[known].min(mark.at_ns);
        } else if count < MAX_STAMPS {
            (self.place[count], self.at_ns[count]) = (place, mark.at_ns);
            self.count += 1;
        } else {
            self.is_cut = true;
        }
    }

    /// The packet waited in an upcall.
    pub fn note_upcall(&mut self, direction: Direction, wait_ns: u64) {
        let sum = &mut self.upcall_ns[direction as usize];
        *sum = sum.saturating_add(u32::try_from(wait_ns).unwrap_or(u32::MAX));
    }

    /// The sum of the waits in upcalls, at most 4.3 s; 0 without any.
    pub fn upcall_ns(&self, direction: Direction) -> u32 {
        self.upcall_ns[direction as usize]
    }

    /// The processor received the packet late at `mark`. The longest wait of each direction counts. If several devices see it,
    /// the first one counts.
    pub fn note_softirq(&mut self, mark: Mark, wait_ns: u64) {
        let Some(place) = mark.place() else { return };
        let wait_ns = u32::try_from(wait_ns).unwrap_or(u32::MAX);
        let direction = mark.direction as usize;
        if wait_ns > self.softirq_ns[direction] {
            (self.softirq_ns[direction], self.softirq_place[direction]) = (wait_ns, place);
        }
    }

    /// The longest wait for a processor, at most 4.3 s, and where the packet came in then.
    pub fn softirq(&self, direction: Direction) -> Option<(Mark, u32)> {
        let wait_ns = Some(self.softirq_ns[direction as usize]).filter(|&wait_ns| wait_ns > 0)?;
        let place = Some(self.softirq_place[direction as usize]);
        let mark = self.marks().find(|mark| mark.place() == place)?;
        Some((mark, wait_ns))
    }

    /// Without those that had no room.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        let count = usize::from(self.count);
        let places = self.place[..count].iter().zip(&self.at_ns[..count]);
        places.filter_map(|(&place, &at_ns)| Mark::at(place, at_ns))
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Some stamps had no room.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// The same on a clock that is ahead by `ahead_ns`.
    pub fn shifted(mut self, ahead_ns: i64) -> Self {
        let count = usize::from(self.count);
        for at_ns in &mut self.at_ns[..count] {
            *at_ns = at_ns.wrapping_add_signed(ahead_ns);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hops::stamp::HookId;

    fn mark(hook: u8, egress: bool, direction: Direction, at_ns: u64) -> Mark {
        Mark {
            hook: HookId(hook),
            egress,
            direction,
            at_ns,
        }
    }

    #[test]
    fn the_earlier_stamp_of_a_duplicate_counts_and_no_other_place_is_touched() {
        let mut stamps = Stamps::default();
        let places = [
            (0, false, Direction::Forward),
            (0, true, Direction::Forward),
            (0, false, Direction::Backward),
            (15, true, Direction::Backward),
        ];
        for at_ns in [7, 5, 9] {
            for (hook, egress, direction) in places {
                stamps.note(mark(hook, egress, direction, at_ns));
            }
        }
        let want = places.map(|(hook, egress, direction)| mark(hook, egress, direction, 5));
        assert_eq!(stamps.marks().collect::<Vec<_>>(), want);
        assert!(!stamps.is_cut());
        stamps.note(mark(16, false, Direction::Forward, 1));
        assert_eq!(stamps.marks().count(), 4, "no such hook");
        let later = stamps.shifted(-2).marks().map(|mark| mark.at_ns).collect::<Vec<_>>();
        assert_eq!(later, [3; 4]);
    }

    #[test]
    fn stamps_without_room_are_admitted_to() {
        let mut stamps = Stamps::default();
        for hook in 0..MAX_STAMPS as u8 {
            stamps.note(mark(hook, true, Direction::Forward, 1));
        }
        assert!(!stamps.is_cut());
        stamps.note(mark(MAX_STAMPS as u8, true, Direction::Forward, 1));
        assert!(stamps.is_cut());
        assert_eq!(stamps.marks().count(), MAX_STAMPS);
    }

    #[test]
    fn of_the_waits_for_a_processor_the_longest_counts_and_of_equal_ones_the_first() {
        let mut stamps = Stamps::default();
        let [first, second, third] =
            [(0, 5), (1, 6), (2, 9)].map(|(hook, at_ns)| mark(hook, false, Direction::Backward, at_ns));
        for (mark, wait_ns) in [(first, 700), (second, 700), (third, 600)] {
            stamps.note(mark);
            stamps.note_softirq(mark, wait_ns);
        }
        assert_eq!(stamps.softirq(Direction::Backward), Some((first, 700)));
        assert_eq!(stamps.softirq(Direction::Forward), None);
        stamps.note_softirq(third, u64::MAX);
        assert_eq!(stamps.softirq(Direction::Backward), Some((third, u32::MAX)));
    }

    #[test]
    fn waits_in_upcalls_add_up_by_direction() {
        let mut stamps = Stamps::default();
        stamps.note_upcall(Direction::Backward, 3);
        stamps.note_upcall(Direction::Backward, 4);
        assert_eq!(stamps.upcall_ns(Direction::Forward), 0);
        assert_eq!(stamps.upcall_ns(Direction::Backward), 7);
        stamps.note_upcall(Direction::Backward, u64::MAX);
        assert_eq!(stamps.upcall_ns(Direction::Backward), u32::MAX);
    }
}
