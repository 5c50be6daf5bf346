//! Where the kernel programs keep the records of probes in flight. Each session has a ring of its own, so a record is found by
//! an index instead of a hash, and no session displaces the records of another.

use probe_common::abi::{MAX_IN_FLIGHT, MAX_RECORDS, MIN_PEER_SESSIONS, SessionRing};

use crate::session::MAX_PROBES;

/// The number of rings, and their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    number: u32,
    /// A power of two.
    length: u32,
}

impl Rings {
    /// For a port that sends no probes.
    pub const NONE: Self = Self { number: 1, length: 1 };
    /// For one session with [`MAX_IN_FLIGHT`] probes.
    pub const ONE: Self = Self {
        number: 1,
        length: MAX_IN_FLIGHT,
    };

    /// For `sessions` sessions, each with `in_flight` probes that may still be answered in time; `None` if these are more than
    /// [`MAX_IN_FLIGHT`]. If there is room, rings are longer, up to [`MAX_PROBES`], so that more late and duplicate replies
    /// are recognised.
    pub fn of(sessions: u64, in_flight: u64) -> Option<Self> {
        let (sessions, in_flight) = (sessions.max(1), in_flight.max(1));
        if sessions.checked_mul(in_flight)? > u64::from(MAX_IN_FLIGHT) {
            return None;
        }
        let needed = in_flight.next_power_of_two();
        // Rounding up less than doubles a ring, and MAX_RECORDS is twice MAX_IN_FLIGHT.
        let affordable = 1 << (u64::from(MAX_RECORDS) / sessions).ilog2();
        Some(Self {
            number: sessions as u32,
            length: needed.max(affordable.min(MAX_PROBES as u64)) as u32,
        })
    }

    /// Whether `sessions` sessions, each with `in_flight` probes that may still be answered in time, fit.
    pub fn hold(self, sessions: u64, in_flight: u64) -> bool {
        sessions <= u64::from(self.number) && in_flight <= u64::from(self.length)
    }

    /// The number of records in all rings.
    pub fn records(self) -> u32 {
        self.number * self.length
    }

    /// Entries of `SESSIONS_BY_PEER`. Twice the sessions: an LRU map evicts before it is full.
    pub fn peer_sessions(self) -> u32 {
        (2 * self.number).max(MIN_PEER_SESSIONS)
    }

    /// The bits of a sequence number that give the place in a ring.
    pub fn mask(self) -> u32 {
        self.length - 1
    }
}

/// A session and the ring that it was given.
#[derive(Debug, Clone, Copy)]
struct Owner {
    ssid: u16,
    ring: SessionRing,
    /// The [`RingTable::tick`] of its last probe.
    used: u32,
}

/// A ring that a session got, to be written to `SESSION_RINGS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRing {
    pub ring: SessionRing,
    /// The session that lost this ring.
    pub evicted: Option<u16>,
}

/// The ring of each session.
#[derive(Debug)]
pub struct RingTable {
    rings: Rings,
    /// By session identifier: the index in `owners` plus 1, or 0.
    places: Vec<u32>,
    owners: Vec<Owner>,
    generation: u32,
    ticks: u32,
}

impl RingTable {
    pub fn new(rings: Rings) -> Self {
        Self {
            rings,
            places: vec![0; usize::from(u16::MAX) + 1],
            owners: Vec::new(),
            generation: 0,
            ticks: 0,
        }
    }

    pub fn rings(&self) -> Rings {
        self.rings
    }

    /// The index of a probe's record, and its [`probe_common::abi::InFlightRecord::id`], if its session has a ring.
    pub fn record(&self, ssid: u16, seq: u32) -> Option<(u32, u64)> {
        let owner = &self.owners[self.place(ssid)?];
        owner.ring.record(seq, self.rings.mask())
    }

    /// Advances the time by which [`RingTable::sends`] compares idle sessions.
    pub fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
    }

    /// Notes a probe of session `ssid`. A session without a ring gets a free one, or the ring of the session that has been
    /// idle for longest.
    pub fn sends(&mut self, ssid: u16) -> Option<NewRing> {
        if let Some(place) = self.place(ssid) {
            self.owners[place].used = self.ticks;
            return None;
        }
        Some(self.give(ssid))
    }

    /// Begins a session. Records of an earlier session with this identifier are no longer found.
    pub fn begins(&mut self, ssid: u16) -> NewRing {
        let Some(place) = self.place(ssid) else {
            return self.give(ssid);
        };
        let ring = self.ring_at(place);
        self.owners[place] = Owner {
            ssid,
            ring,
            used: self.ticks,
        };
        NewRing { ring, evicted: None }
    }

    fn place(&self, ssid: u16) -> Option<usize> {
        (self.places[usize::from(ssid)] as usize).checked_sub(1)
    }

    fn give(&mut self, ssid: u16) -> NewRing {
        let (place, evicted) = if self.owners.len() < self.rings.number as usize {
            (self.owners.len(), None)
        } else {
            let idle = |(_, owner): &(usize, &Owner)| self.ticks.wrapping_sub(owner.used);
            let longest = self.owners.iter().enumerate().max_by_key(idle);
            longest.map_or((0, None), |(place, owner)| (place, Some(owner.ssid)))
        };
        if let Some(evicted) = evicted {
            self.places[usize::from(evicted)] = 0;
        }
        let owner = Owner {
            ssid,
            ring: self.ring_at(place),
            used: self.ticks,
        };
        match self.owners.get_mut(place) {
            Some(known) => *known = owner,
            None => self.owners.push(owner),
        }
        self.places[usize::from(ssid)] = place as u32 + 1;
        NewRing {
            ring: owner.ring,
            evicted,
        }
    }

    /// The ring at a place, with a new generation.
    fn ring_at(&mut self, place: usize) -> SessionRing {
        self.generation = self.generation.wrapping_add(1).max(1);
        SessionRing::new(place as u32 * self.rings.length, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_cover_the_probes_in_flight_and_fit_the_memory() {
        // sessions, in flight, length
        for (sessions, in_flight, length) in [
            (1, 1, 16_384),
            (1, 20_000, 32_768),
            (1, 65_536, 65_536),
            (2, 32_768, 65_536 / 2),
            (8, 10, 16_384),
            (9, 10, 8_192),
            (1_026, 11, 64),
            (1_026, 63, 64),
            (10_002, 3, 8),
            (65_536, 1, 2),
        ] {
            let rings = Rings::of(sessions, in_flight).unwrap();
            assert_eq!(rings.length, length, "{sessions} sessions, {in_flight} in flight");
            assert_eq!(u64::from(rings.peer_sessions()), (2 * sessions).max(4_096));
        }
        for sessions in 1..=u64::from(MAX_IN_FLIGHT) {
            let in_flight = u64::from(MAX_IN_FLIGHT) / sessions;
            let rings = Rings::of(sessions, in_flight).unwrap();
            assert!(rings.length.is_power_of_two() && u64::from(rings.length) >= in_flight);
            assert!(rings.records() <= MAX_RECORDS, "{sessions}: {rings:?}");
            assert_eq!(Rings::of(sessions, in_flight + 1), None, "{sessions}");
        }
        assert_eq!(Rings::of(u64::MAX, 2), None);
        assert_eq!((Rings::NONE.records(), Rings::NONE.mask()), (1, 0));
        assert_eq!((Rings::ONE.records(), Rings::ONE.mask()), (65_536, 65_535));
    }

    fn table() -> RingTable {
        RingTable::new(Rings { number: 3, length: 8 })
    }

    #[test]
    fn sessions_share_no_record() {
        let mut table = table();
        for (ssid, base) in [(9, 0), (0, 8), (u16::MAX, 16)] {
            let given = table.sends(ssid).unwrap();
            assert_eq!((given.ring.base(), given.evicted), (base, None));
            assert_eq!(table.record(ssid, 15), given.ring.record(15, 7));
            assert_eq!(table.record(ssid, 15).unwrap().0, base + 7);
            assert_eq!(table.sends(ssid), None, "it has one");
        }
        assert_eq!(table.record(10, 15), None);
    }

    #[test]
    fn rings_hold_what_they_were_made_for_and_no_more() {
        let rings = Rings::of(3, MAX_PROBES as u64).unwrap();
        for (sessions, in_flight, is_held) in [
            (3, MAX_PROBES as u64, true),
            (4, 1, false),
            (1, MAX_PROBES as u64 + 1, false),
        ] {
            assert_eq!(rings.hold(sessions, in_flight), is_held, "{sessions} {in_flight}");
        }
    }

    #[test]
    fn a_session_that_sends_keeps_its_ring() {
        let mut table = table();
        for ssid in 1..=3 {
            table.sends(ssid);
        }
        table.tick();
        table.sends(1);
        table.sends(3);
        let taken = table.sends(4).unwrap();
        assert_eq!((taken.ring.base(), taken.evicted), (8, Some(2)));
        assert_eq!(table.record(2, 0), None);
        table.tick();
        for ssid in [3, 4] {
            assert_eq!(table.sends(ssid), None);
        }
        assert_eq!(table.sends(2).unwrap().evicted, Some(1));
    }

    #[test]
    fn a_session_that_begins_again_finds_no_old_record() {
        let mut table = table();
        let first = table.begins(7);
        let again = table.begins(7);
        assert_eq!((again.ring.base(), again.evicted), (first.ring.base(), None));
        let [old, new] = [first.ring, again.ring].map(|ring| ring.record(3, 7));
        assert_eq!(old.unwrap().0, new.unwrap().0, "the same place");
        assert_ne!(old.unwrap().1, new.unwrap().1);
        assert_eq!(table.record(7, 3), new);
        table.generation = u32::MAX;
        assert!(
            table.begins(7).ring.record(0, 7).is_some(),
            "the generation is never zero"
        );
    }
}
