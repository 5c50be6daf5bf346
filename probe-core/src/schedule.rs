//! Decides when each session sends: once per interval, at its turn. Turns are spread over the interval. Many sessions share them,
//! because a wake-up for each probe would cost as much as the probe.

use std::collections::VecDeque;

/// A wake-up that is late by at most this catches up on missed turns. Wake-ups are not exact to the microsecond, so
/// without catching up, short intervals would become longer. After a longer stall, it would cause a burst.
const MAX_CATCH_UP_NS: u64 = 1_000_000;

/// An interval has at least 2 to the power of this many turns.
const MIN_TURNS_BITS: u32 = 7;

/// A long interval has more turns, so that they are at most this far apart and few sessions share one.
const MAX_APART_NS: u64 = 800_000;

#[derive(Debug)]
pub struct Schedule {
    interval_ns: u64,
    start_ns: u64,
    /// In ascending order. A session that has sent is nearly always due last, because all have one interval.
    due: VecDeque<(u64, u16)>,
}

impl Schedule {
    pub fn new(interval_ns: u64, start_ns: u64) -> Self {
        Self {
            interval_ns: interval_ns.max(1),
            start_ns,
            due: VecDeque::new(),
        }
    }

    /// Adds the session `ssid`, the `ordinal`-th of the agent. Its first probe is due at its next turn.
    pub fn join(&mut self, ssid: u16, ordinal: u16, now_ns: u64) {
        let first_ns = self.start_ns + phase(ordinal, self.interval_ns);
        self.add(self.turn_from(first_ns, now_ns), ssid);
    }

    /// From now on, all sessions send at another interval, and are spread over it. `ordinal` is as in [`Schedule::join`].
    pub fn set_interval(&mut self, interval_ns: u64, ordinal: impl Fn(u16) -> u16, now_ns: u64) {
        let sessions = std::mem::take(&mut self.due);
        (self.interval_ns, self.start_ns) = (interval_ns.max(1), now_ns);
        for (_, ssid) in sessions {
            self.join(ssid, ordinal(ssid), now_ns);
        }
    }

    fn add(&mut self, due_ns: u64, ssid: u16) {
        let place = match self.due.back() {
            Some(last) if *last > (due_ns, ssid) => self.due.partition_point(|other| *other < (due_ns, ssid)),
            _ => self.due.len(),
        };
        self.due.insert(place, (due_ns, ssid));
    }

    pub fn leave(&mut self, ssid: u16) {
        self.due.retain(|(_, other)| *other != ssid);
    }

    pub fn clear(&mut self) {
        self.due.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub fn next_due(&self) -> Option<u64> {
        self.due.front().map(|(due_ns, _)| *due_ns)
    }

    /// A session that missed turns in a stall of more than [`MAX_CATCH_UP_NS`], and their number; call again until there is
    /// none. Its latest turn is still due.
    pub fn skip_missed(&mut self, now_ns: u64) -> Option<(u16, u64)> {
        let late_ns = now_ns.checked_sub(self.next_due()?)?;
        let missed = late_ns / self.interval_ns;
        if late_ns <= MAX_CATCH_UP_NS || missed == 0 {
            return None;
        }
        let (due_ns, ssid) = self.due.pop_front()?;
        self.add(due_ns + missed * self.interval_ns, ssid);
        Some((ssid, missed))
    }

    /// A session whose probe is due. After a delay of more than [`MAX_CATCH_UP_NS`], missed turns are skipped.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u16> {
        let due_ns = self.next_due().filter(|&due_ns| due_ns <= now_ns)?;
        let stalled = now_ns - due_ns > MAX_CATCH_UP_NS;
        let earliest_ns = if stalled { now_ns } else { due_ns };
        let next_ns = self.turn_from(due_ns, earliest_ns + 1);
        let (_, ssid) = self.due.pop_front()?;
        self.add(next_ns, ssid);
        Some(ssid)
    }

    /// The first of the turns `turn_ns`, `turn_ns` + interval, … at or after `earliest_ns`.
    fn turn_from(&self, turn_ns: u64, earliest_ns: u64) -> u64 {
        let missed = earliest_ns.saturating_sub(turn_ns).div_ceil(self.interval_ns);
        turn_ns.saturating_add(missed.saturating_mul(self.interval_ns))
    }
}

/// The `ordinal`-th of the fractions 0, 1/2, 1/4, 3/4, 1/8, … of an interval (van der Corput): any number of sessions is
/// spread about evenly, and none moves when another joins. Once all turns are taken, further sessions share them in the same order.
fn phase(ordinal: u16, interval_ns: u64) -> u64 {
    let are_close = |bits: &u32| interval_ns >> bits <= MAX_APART_NS;
    let bits = (MIN_TURNS_BITS..u16::BITS).find(are_close).unwrap_or(u16::BITS);
    let fraction = ordinal.reverse_bits() >> (u16::BITS - bits);
    ((u128::from(interval_ns) * u128::from(fraction)) >> bits) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const INTERVAL: u64 = 1_000_000;

    fn schedule(sessions: u16) -> Schedule {
        let mut schedule = Schedule::new(INTERVAL, 5_000);
        (0..sessions).for_each(|ordinal| schedule.join(ordinal + 1, ordinal, 5_000));
        schedule
    }

    /// The times of the next `count` probes if nothing is ever late.
    fn times(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        let mut times = Vec::new();
        for _ in 0..count {
            let due = schedule.next_due().unwrap();
            assert!(schedule.take_due(due).is_some());
            times.push(due);
        }
        times
    }

    #[test]
    fn sessions_are_spread_over_the_interval() {
        for sessions in 1..40u16 {
            let mut schedule = schedule(sessions);
            let times = times(&mut schedule, usize::from(sessions) + 1);
            let fair = INTERVAL / u64::from(sessions.next_power_of_two());
            assert!(
                times.windows(2).all(|pair| pair[1] - pair[0] >= fair),
                "{sessions} sessions"
            );
            assert_eq!(times[usize::from(sessions)] - times[0], INTERVAL);
        }
    }

    #[test]
    fn many_sessions_share_turns_that_are_close_enough() {
        // Sessions, interval, turns, and the most sessions that share one.
        let cases = [
            (128, INTERVAL, 128, 1),
            (129, INTERVAL, 128, 2),
            (1_000, 100 * INTERVAL, 128, 8),
            (10_000, 1_000 * INTERVAL, 2_048, 5),
            (10_000, 60_000 * INTERVAL, 10_000, 1),
        ];
        for (sessions, interval_ns, turns, most) in cases {
            let mut shared = BTreeMap::<u64, usize>::new();
            for ordinal in 0..sessions {
                *shared.entry(phase(ordinal, interval_ns)).or_default() += 1;
            }
            assert_eq!(
                (shared.len(), shared.values().max()),
                (turns, Some(&most)),
                "{sessions}, {interval_ns} ns"
            );
            assert!(shared.keys().all(|&phase_ns| phase_ns < interval_ns));
        }
    }

    #[test]
    fn a_session_keeps_its_grid_when_a_turn_is_late() {
        let mut schedule = schedule(1);
        assert_eq!(schedule.take_due(5_000 + INTERVAL / 2), Some(1));
        assert_eq!(schedule.next_due(), Some(5_000 + INTERVAL));
    }

    #[test]
    fn missed_turns_are_left_out() {
        let mut schedule = schedule(3);
        let late = 5_000 + 10 * INTERVAL + 1;
        let sent: Vec<u16> = std::iter::from_fn(|| schedule.take_due(late)).collect();
        assert_eq!(sent.len(), 3);
        assert!(schedule.next_due().unwrap() > late);
    }

    #[test]
    fn the_turns_of_a_stall_are_counted_but_the_latest_is_still_due() {
        let mut schedule = schedule(2);
        let stalled_ns = 5_000 + 10 * INTERVAL + INTERVAL / 4 + MAX_CATCH_UP_NS;
        let skipped: Vec<_> = std::iter::from_fn(|| schedule.skip_missed(stalled_ns)).collect();
        assert_eq!(skipped, [(1, 11), (2, 10)]);
        assert_eq!(std::iter::from_fn(|| schedule.take_due(stalled_ns)).count(), 2);
        assert!(schedule.next_due().unwrap() > stalled_ns);
        let late_ns = schedule.next_due().unwrap() + MAX_CATCH_UP_NS;
        assert_eq!(schedule.skip_missed(late_ns), None, "caught up");
    }

    #[test]
    fn turns_missed_by_little_are_caught_up() {
        let interval_ns = MAX_CATCH_UP_NS / 100;
        let mut schedule = Schedule::new(interval_ns, 0);
        schedule.join(1, 0, 0);
        let mut sent = 0;
        for wake_ns in (0..100).map(|i| i * 37 * interval_ns / 10) {
            while schedule.take_due(wake_ns).is_some() {
                sent += 1;
            }
        }
        assert_eq!(sent, 99 * 37 / 10 + 1);
        let stalled_ns = 1_000 * MAX_CATCH_UP_NS;
        assert_eq!(std::iter::from_fn(|| schedule.take_due(stalled_ns)).count(), 1);
    }

    #[test]
    fn another_interval_spreads_the_sessions_anew() {
        for interval_ns in [INTERVAL / 10, 3 * INTERVAL] {
            let mut schedule = schedule(3);
            times(&mut schedule, 10);
            schedule.leave(2);
            let now_ns = 1_000_000_007;
            schedule.set_interval(interval_ns, |ssid| ssid - 1, now_ns);
            let third_ns = now_ns + interval_ns / 4;
            let expected = [now_ns, third_ns, now_ns + interval_ns, third_ns + interval_ns];
            assert_eq!(times(&mut schedule, 4), expected);
        }
    }

    #[test]
    fn a_session_that_left_is_not_due_and_a_late_one_takes_its_phase() {
        let mut schedule = schedule(2);
        schedule.leave(1);
        assert_eq!(schedule.next_due(), Some(5_000 + INTERVAL / 2));
        schedule.leave(2);
        assert!(schedule.is_empty());
        schedule.join(2, 1, 5_000 + 7 * INTERVAL);
        assert_eq!(schedule.next_due(), Some(5_000 + 7 * INTERVAL + INTERVAL / 2));
    }
}
