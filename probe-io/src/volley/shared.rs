//! Maps of the programs, mapped into the memory of this process.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use probe_common::volley::{COUNTS, Control, Count, Slot, Spread, Tally, word};
use probe_core::volley::Histogram;

use crate::backend::error::ObjectError;

/// An array map of `T`s in the memory of this process. Both sides change it at any time, so it is accessed only by whole
/// words, atomically.
struct Mapped<T> {
    entries: NonNull<T>,
    number: usize,
    /// Keeps the map of the kernel alive.
    _map: MapData,
}

// SAFETY: all access is atomic, and the memory is unmapped only when nothing refers to this.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T> Mapped<T> {
    /// Maps `name`, an array of `number` entries.
    fn take(ebpf: &mut Ebpf, name: &'static str, number: usize) -> Result<Self, ObjectError> {
        // Entries lie at multiples of eight bytes.
        const { assert!(size_of::<T>().is_multiple_of(8)) }
        let Some(Map::Array(map)) = ebpf.take_map(name) else {
            return Err(ObjectError::Missing(name));
        };
        // SAFETY: a new mapping of a descriptor that lives, of at most the map's length rounded up to pages; it is shared.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<T>() * number,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        let entries = NonNull::new(memory.cast()).filter(|_| memory != libc::MAP_FAILED);
        let entries = entries.ok_or_else(|| ObjectError::Mapping {
            name,
            source: io::Error::last_os_error(),
        })?;
        Ok(Self {
            entries,
            number,
            _map: map,
        })
    }

    fn at(&self, index: usize) -> *mut T {
        assert!(index < self.number, "entry {index} of {}", self.number);
        // SAFETY: the entry lies within the mapping.
        unsafe { self.entries.as_ptr().add(index) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made by `take`, and nothing refers to it any more.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), size_of::<T>() * self.number) };
    }
}

/// # Safety
///
/// `word` must be aligned and stay mapped for as long as the result lives.
unsafe fn atomic<'a>(word: *mut u64) -> &'a AtomicU64 {
    // SAFETY: the caller passes a valid pointer.
    unsafe { AtomicU64::from_ptr(word) }
}

macro_rules! control_words {
    ($($word:ident),+) => {$(
        pub fn $word(&self) -> &AtomicU64 {
            // SAFETY: a word of a `Control`, mapped as long as `self`.
            unsafe { atomic(&raw mut (*self.control.at(0)).$word) }
        }
    )+};
}

/// The maps of one run.
pub struct Shared {
    control: Mapped<Control>,
    ring: Mapped<Slot>,
    tallies: Mapped<Tally>,
    /// Probes that the process has declared lost.
    lost: AtomicU64,
}

/// The counts of all processors. They are read in an order in which no probe is received or lost before it is sent.
pub struct Counted {
    counts: [u64; COUNTS],
    pub lost: u64,
    /// For each processor that has claimed a reply: processor, newest sequence number, newest number of the reflector.
    pub newest: Vec<(usize, u32, u32)>,
}

impl Counted {
    pub fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }
}

/// The delays that have a histogram.
#[derive(Debug, Clone, Copy)]
pub enum Delay {
    Rtt,
    Residence,
    Forward,
    Backward,
}

impl Shared {
    pub(crate) fn take(ebpf: &mut Ebpf, slots: u32, processors: usize) -> Result<Self, ObjectError> {
        Ok(Self {
            control: Mapped::take(ebpf, "CONTROL", 1)?,
            ring: Mapped::take(ebpf, "RING", slots as usize)?,
            tallies: Mapped::take(ebpf, "TALLIES", processors)?,
            lost: AtomicU64::new(0),
        })
    }

    control_words!(
        limit,
        deadline_ns,
        first,
        start_ns,
        rate,
        burst,
        balls,
        capture,
        next,
        balls_in_flight
    );

    /// Declares pending probes from `from` to before `to` lost. Returns their number.
    pub fn lose(&self, from: u64, to: u64) -> u64 {
        let mut lost = 0;
        self.pending(from, to, |slot, sequence, before| {
            if self.exchange(slot, before, word::of(sequence, word::LOST)) {
                lost += 1;
                if word::state(before) == word::FLYING {
                    self.balls_in_flight().fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
        self.lost.fetch_add(lost, Ordering::Release);
        lost
    }

    /// Makes room for other balls in place of those from `from` to before `to` that are still in flight. Replies to them
    /// still count. Returns their number.
    pub fn release(&self, from: u64, to: u64) -> u64 {
        let mut released = 0;
        self.pending(from, to, |slot, sequence, before| {
            if word::state(before) == word::FLYING && self.exchange(slot, before, word::of(sequence, word::LOOSE)) {
                self.balls_in_flight().fetch_sub(1, Ordering::Relaxed);
                released += 1;
            }
        });
        released
    }

    /// The number of pending probes from `from` to before `to`, by the slots of the ring.
    pub fn count_pending(&self, from: u64, to: u64) -> u64 {
        let mut pending = 0;
        self.pending(from, to, |_, _, _| pending += 1);
        pending
    }

    /// The number of balls among them: a reply to any other pending probe does not become the next probe.
    pub fn count_flying(&self, from: u64, to: u64) -> u64 {
        let mut flying = 0;
        self.pending(from, to, |_, _, before| {
            flying += u64::from(word::state(before) == word::FLYING);
        });
        flying
    }

    fn pending(&self, from: u64, to: u64, mut each: impl FnMut(&AtomicU64, u32, u64)) {
        // Older slots have been overwritten.
        let from = from.max(to.saturating_sub(self.ring.number as u64));
        // The number of slots is a power of two, so a mask replaces a division, which would cost as much as the rest here.
        let mask = self.ring.number as u64 - 1;
        for sequence in from..to {
            let index = (sequence & mask) as usize;
            // SAFETY: a word of a slot, mapped as long as `self`.
            let slot = unsafe { atomic(&raw mut (*self.ring.at(index)).word) };
            let before = slot.load(Ordering::Acquire);
            if word::is_pending(before) && word::sequence(before) == sequence as u32 {
                each(slot, sequence as u32, before);
            }
        }
    }

    fn exchange(&self, slot: &AtomicU64, before: u64, after: u64) -> bool {
        slot.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Everything that was counted so far.
    pub fn counted(&self) -> Counted {
        let mut counts = [0; COUNTS];
        let lost = self.lost.load(Ordering::Acquire);
        for tally in self.each_tally() {
            for (index, total) in counts.iter_mut().enumerate() {
                // SAFETY: a word of a tally, mapped as long as `self`.
                *total += unsafe { atomic(&raw mut (*tally).counts[index]) }.load(Ordering::Acquire);
            }
        }
        let mut newest = Vec::new();
        for (processor, tally) in self.each_tally().enumerate() {
            let half = |word: *mut u32| {
                // SAFETY: a word of a tally, mapped as long as `self`.
                unsafe { AtomicU32::from_ptr(word) }.load(Ordering::Acquire)
            };
            // SAFETY: the tally is mapped; only addresses are taken.
            let (has, sequence, reflected) = unsafe {
                (
                    &raw mut (*tally).has_newest,
                    &raw mut (*tally).newest,
                    &raw mut (*tally).newest_reflected,
                )
            };
            if half(has) != 0 {
                newest.push((processor, half(sequence), half(reflected)));
            }
        }
        // Read last: every probe that was received or lost by now has been sent.
        let sent = Count::Sent as usize;
        counts[sent] = self
            .each_tally()
            // SAFETY: as above.
            .map(|tally| unsafe { atomic(&raw mut (*tally).counts[sent]) }.load(Ordering::Acquire))
            .sum();
        Counted { counts, lost, newest }
    }

    /// The delays of one kind.
    pub fn histogram(&self, delay: Delay) -> Histogram {
        let mut histogram = Histogram::default();
        for tally in self.each_tally() {
            // SAFETY: the tally is mapped as long as `self`; only addresses are taken, and words are read atomically.
            unsafe {
                let spread: *mut Spread = match delay {
                    Delay::Rtt => &raw mut (*tally).rtt,
                    Delay::Residence => &raw mut (*tally).residence,
                    Delay::Forward => &raw mut (*tally).forward,
                    Delay::Backward => &raw mut (*tally).backward,
                };
                let word = |word: *mut i64| atomic(word.cast()).load(Ordering::Relaxed).cast_signed();
                let bins = (&raw mut (*spread).bins).cast::<u64>();
                histogram.add(
                    |bin| atomic(bins.add(bin)).load(Ordering::Relaxed),
                    word(&raw mut (*spread).sum),
                    word(&raw mut (*spread).min),
                    word(&raw mut (*spread).max),
                );
            }
        }
        histogram
    }

    /// Resets all counts and histograms. No probe may be in flight.
    pub fn reset(&self) {
        self.lost.store(0, Ordering::Release);
        for tally in self.each_tally() {
            // SAFETY: the tally is mapped, and all its words are written atomically: all zero but the smallest and the
            // largest delay.
            unsafe {
                let words = tally.cast::<u64>();
                for index in 0..size_of::<Tally>() / 8 {
                    atomic(words.add(index)).store(0, Ordering::Relaxed);
                }
                for spread in [
                    &raw mut (*tally).rtt,
                    &raw mut (*tally).residence,
                    &raw mut (*tally).forward,
                    &raw mut (*tally).backward,
                ] {
                    atomic((&raw mut (*spread).min).cast()).store(i64::MAX.cast_unsigned(), Ordering::Relaxed);
                    atomic((&raw mut (*spread).max).cast()).store(i64::MIN.cast_unsigned(), Ordering::Relaxed);
                }
            }
        }
    }

    /// State and T1 of the probe in the slot of `sequence`.
    pub fn slot(&self, sequence: u32) -> (u64, u64) {
        let slot = self.ring.at(sequence as usize % self.ring.number);
        // SAFETY: words of a slot, mapped as long as `self`.
        unsafe {
            (
                atomic(&raw mut (*slot).word).load(Ordering::Acquire),
                atomic(&raw mut (*slot).t1).load(Ordering::Acquire),
            )
        }
    }

    /// Writes the slot of a probe, for tests.
    pub fn set_slot(&self, sequence: u32, word: u64, t1: u64) {
        let slot = self.ring.at(sequence as usize % self.ring.number);
        // SAFETY: as above.
        unsafe {
            atomic(&raw mut (*slot).t1).store(t1, Ordering::Release);
            atomic(&raw mut (*slot).word).store(word, Ordering::Release);
        }
    }

    fn each_tally(&self) -> impl Iterator<Item = *mut Tally> + '_ {
        (0..self.tallies.number).map(|index| self.tallies.at(index))
    }
}
