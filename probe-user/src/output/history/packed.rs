//! Rows as bytes: integers take as many bytes as they need (LEB128), and quantiles are distances from each other. A row of a
//! quiet network takes about 150 bytes instead of 600.

use std::collections::VecDeque;

use probe_core::stats::native::Buckets;
use probe_core::stats::report::{Counts, OneWayClock, Summary};

use crate::output::history::row::Row;
use crate::output::time::Utc;

/// Bytes of the length before each row.
const LENGTH: usize = 2;

/// Rows in order of time.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: VecDeque<u8>,
    number: usize,
}

impl Rows {
    /// Adds a row. Those that ended `lasts_ns` before it go, and the oldest of more bytes than `max`.
    pub(super) fn push(&mut self, row: &Row, lasts_ns: u64, max: usize) {
        let packed = pack(row);
        let Ok(length) = u16::try_from(packed.len()) else {
            return;
        };
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(packed);
        self.number += 1;
        let old_ns = row.end.unix_ns.saturating_sub(lasts_ns);
        while let Some((oldest, length)) = self.first()
            && self.number > 1
            && (oldest.end.unix_ns <= old_ns || self.bytes.len() > max)
        {
            self.bytes.drain(..LENGTH + length);
            self.number -= 1;
        }
        // A burst of short windows gives its memory back.
        if self.bytes.capacity() > 4 * self.bytes.len().max(1 << 10) {
            self.bytes.shrink_to(2 * self.bytes.len());
        }
    }

    /// The oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row> {
        self.last(self.number)
    }

    /// The last rows, at most so many, the oldest first.
    pub(super) fn last(&self, number: usize) -> impl Iterator<Item = Row> {
        let mut at = 0;
        for _ in number..self.number {
            at += LENGTH + self.length(at).unwrap_or_default();
        }
        std::iter::from_fn(move || {
            let length = self.length(at)?;
            let row = unpack(&mut self.bytes.range(at + LENGTH..at + LENGTH + length).copied());
            at += LENGTH + length;
            row
        })
    }

    fn first(&self) -> Option<(Row, usize)> {
        self.iter().next().zip(self.length(0))
    }

    fn length(&self, at: usize) -> Option<usize> {
        let bytes = [*self.bytes.get(at)?, *self.bytes.get(at + 1)?];
        Some(u16::from_le_bytes(bytes).into())
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of both signs are short.
fn put_signed(value: i64, out: &mut Vec<u8>) {
    put((value << 1 ^ value >> 63).cast_unsigned(), out);
}

fn get(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn get_signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = get(bytes)?;
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn pack(row: &Row) -> Vec<u8> {
    let Row {
        start,
        end,
        counts,
        rtt_ns,
        forward_ns,
        backward_ns,
        clock,
        rtt_buckets,
    } = row;
    let mut out = Vec::new();
    put(start.unix_ns, &mut out);
    put(end.unix_ns.saturating_sub(start.unix_ns), &mut out);
    map_counts(counts, |count| {
        put(count, &mut out);
        Some(count)
    });
    for summary in [rtt_ns, forward_ns, backward_ns] {
        pack_summary(summary.as_ref(), &mut out);
    }
    pack_clock(*clock, &mut out);
    put(rtt_buckets.len() as u64, &mut out);
    let mut before = 0;
    for &(index, count) in rtt_buckets {
        put_signed(i64::from(index) - before, &mut out);
        put(count, &mut out);
        before = i64::from(index);
    }
    out
}

/// `None` if the bytes are not those of a row.
fn unpack(bytes: &mut impl Iterator<Item = u8>) -> Option<Row> {
    let start_ns = get(bytes)?;
    let end_ns = start_ns.saturating_add(get(bytes)?);
    Some(Row {
        start: Utc { unix_ns: start_ns },
        end: Utc { unix_ns: end_ns },
        counts: map_counts(&Counts::default(), |_| get(bytes))?,
        rtt_ns: unpack_summary(bytes)?,
        forward_ns: unpack_summary(bytes)?,
        backward_ns: unpack_summary(bytes)?,
        clock: unpack_clock(bytes)?,
        rtt_buckets: unpack_buckets(bytes)?,
    })
}

/// Passes each count through `each`, in the order in which they are stored.
fn map_counts(counts: &Counts, mut each: impl FnMut(u64) -> Option<u64>) -> Option<Counts> {
    Some(Counts {
        sent: each(counts.sent)?,
        received: each(counts.received)?,
        lost: each(counts.lost)?,
        pending: each(counts.pending)?,
        lost_forward: each(counts.lost_forward)?,
        lost_backward: each(counts.lost_backward)?,
        lost_unknown: each(counts.lost_unknown)?,
        late: each(counts.late)?,
        duplicates: each(counts.duplicates)?,
        reordered: each(counts.reordered)?,
        collector_lost: each(counts.collector_lost)?,
        send_failed: each(counts.send_failed)?,
        not_sent: each(counts.not_sent)?,
    })
}

fn pack_summary(summary: Option<&Summary>, out: &mut Vec<u8>) {
    let Some(summary) = summary else { return put(0, out) };
    let Summary {
        min,
        mean,
        p50,
        p90,
        p99,
        p999,
        max,
        stddev,
        count,
    } = *summary;
    // Never zero.
    put(count, out);
    let mut before = 0;
    for value in [min, p50, p90, p99, p999, max, mean] {
        put_signed(value.wrapping_sub(before), out);
        before = value;
    }
    put_signed(stddev, out);
}

fn unpack_summary(bytes: &mut impl Iterator<Item = u8>) -> Option<Option<Summary>> {
    let count = get(bytes)?;
    if count == 0 {
        return Some(None);
    }
    let mut before = 0_i64;
    let mut next = || {
        before = before.wrapping_add(get_signed(bytes)?);
        Some(before)
    };
    let [min, p50, p90, p99, p999, max, mean] = [next()?, next()?, next()?, next()?, next()?, next()?, next()?];
    Some(Some(Summary {
        min,
        mean,
        p50,
        p90,
        p99,
        p999,
        max,
        stddev: get_signed(bytes)?,
        count,
    }))
}

fn pack_clock(clock: Option<OneWayClock>, out: &mut Vec<u8>) {
    let kind = match clock {
        None => 0,
        Some(OneWayClock::SameClock) => 1,
        Some(OneWayClock::Synced { .. }) => 2,
        Some(OneWayClock::Estimated { .. }) => 3,
    };
    put(kind, out);
    if let Some(bound_ns) = clock.and_then(OneWayClock::bound_ns) {
        put(bound_ns, out);
    }
}

fn unpack_clock(bytes: &mut impl Iterator<Item = u8>) -> Option<Option<OneWayClock>> {
    Some(match get(bytes)? {
        0 => None,
        1 => Some(OneWayClock::SameClock),
        2 => Some(OneWayClock::Synced { bound_ns: get(bytes)? }),
        _ => Some(OneWayClock::Estimated {
            bound_ns: get(bytes)?,
            offset_ns: 0,
            skew_ppb: 0,
        }),
    })
}

fn unpack_buckets(bytes: &mut impl Iterator<Item = u8>) -> Option<Buckets> {
    let number = get(bytes)?;
    let mut index = 0;
    (0..number)
        .map(|_| {
            index += get_signed(bytes)?;
            Some((i16::try_from(index).ok()?, get(bytes)?))
        })
        .collect()
}
