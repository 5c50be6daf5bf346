//! Makes windows, roll-ups and events messages, which wait in queues until they are delivered.

use std::path::Path;

use log::warn;
use probe_host::clock::realtime_ns;
use probe_host::wall::WallOffset;
use prost::Message as _;

use crate::agent::batch;
use crate::agent::recorder::Interval;
use crate::agent::rollup::{Rollup, Sum};
use crate::agent::spool::{Record, Spool};
use crate::message::event::{Event, What};
use crate::message::windows::{MINUTE_NS, QUARTER_NS, Window, message_id};
use crate::name::PortName;
use crate::subjects::{EVENTS, MINUTES, QUARTERS, Results, WINDOWS};

#[derive(Debug)]
pub struct Outbox {
    /// Delivered first: an alert must not wait until the results of an hour are delivered.
    events: Spool,
    results: Spool,
    port: PortName,
    boot: u64,
    /// Of the last message of each stream.
    numbers: [u64; Results::ALL.len()],
    minutes: Rollup,
    quarters: Rollup,
}

/// The part of the queue for events: they are short.
const EVENTS_PART: u64 = 16;

/// The message that is next.
#[derive(Debug)]
pub struct Outgoing {
    pub ticket: Ticket,
    pub subject: String,
    pub id: String,
    pub payload: Vec<u8>,
}

/// Which message of which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    is_event: bool,
    token: u64,
}

impl Outbox {
    /// As [`Spool::open`], for a process of this port.
    pub fn open(directory: &Path, max_bytes: u64, port: PortName, boot: u64) -> Self {
        Self {
            events: Spool::open(&directory.join("events"), max_bytes / EVENTS_PART),
            results: Spool::open(directory, max_bytes - max_bytes / EVENTS_PART),
            port,
            boot,
            numbers: [0; Results::ALL.len()],
            minutes: Rollup::new(MINUTE_NS),
            quarters: Rollup::new(QUARTER_NS),
        }
    }

    pub fn interval(&mut self, interval: &Interval) {
        let wall = WallOffset::now();
        let (start_ns, end_ns) = (wall.wall_ns(interval.start_ns), wall.wall_ns(interval.end_ns));
        self.push_windows(WINDOWS, batch::windows(interval, &wall), (start_ns, end_ns));
        if let Some(minute) = self.minutes.add(&Sum::of(interval, start_ns, end_ns)) {
            self.push_minute(&minute);
        }
    }

    fn push_minute(&mut self, minute: &Sum) {
        self.push_sum(MINUTES, minute);
        if let Some(quarter) = self.quarters.add(minute) {
            self.push_sum(QUARTERS, &quarter);
        }
    }

    fn push_sum(&mut self, results: Results, sum: &Sum) {
        self.push_windows(results, sum.windows(), (sum.start_ns, sum.end_ns));
    }

    fn push_windows(&mut self, results: Results, windows: Vec<Window>, times: (u64, u64)) {
        let kind = kind_of(results);
        let numbers = &mut self.numbers;
        let batches = batch::batches(windows, times, self.boot, || {
            numbers[kind] += 1;
            numbers[kind]
        });
        for batch in batches {
            self.push(kind, batch.number, batch.encode_to_vec());
        }
    }

    pub fn event(&mut self, what: What) {
        let event = Event {
            port: self.port.clone(),
            boot: self.boot,
            time_ns: realtime_ns(),
            what,
        };
        let kind = kind_of(EVENTS);
        self.numbers[kind] += 1;
        match serde_json::to_vec(&event) {
            Ok(payload) => self.push(kind, self.numbers[kind], payload),
            Err(error) => warn!("an event cannot be written: {error}"),
        }
    }

    fn push(&mut self, kind: usize, number: u64, payload: Vec<u8>) {
        let subject = Results::ALL[kind].of(&self.port);
        let record = Record {
            kind: kind as u32,
            id: message_id(&subject, self.boot, number),
            payload,
        };
        self.queue(kind == kind_of(EVENTS)).push(record);
    }

    /// Ends the minute and the quarter of an hour that are not over.
    pub fn finish_rollups(&mut self) {
        if let Some(minute) = self.minutes.finish() {
            self.push_minute(&minute);
        }
        if let Some(quarter) = self.quarters.finish() {
            self.push_sum(QUARTERS, &quarter);
        }
    }

    fn queue(&mut self, is_event: bool) -> &mut Spool {
        match is_event {
            true => &mut self.events,
            false => &mut self.results,
        }
    }

    /// The oldest event, or the oldest result. One of a stream that this version does not know is dropped.
    pub fn first(&mut self) -> Option<Outgoing> {
        self.first_of(true).or_else(|| self.first_of(false))
    }

    fn first_of(&mut self, is_event: bool) -> Option<Outgoing> {
        loop {
            let (token, record) = self.queue(is_event).first()?;
            let ticket = Ticket { is_event, token };
            if let Some(results) = Results::ALL.get(record.kind as usize) {
                return Some(Outgoing {
                    ticket,
                    subject: results.of(&self.port),
                    id: record.id,
                    payload: record.payload,
                });
            }
            self.give_up(ticket);
        }
    }

    pub fn delivered(&mut self, Ticket { is_event, token }: Ticket) {
        self.queue(is_event).delivered(token);
    }

    /// Drops and counts a message that the server does not accept.
    pub fn give_up(&mut self, Ticket { is_event, token }: Ticket) {
        self.queue(is_event).give_up(token);
    }

    pub fn waiting(&self) -> u64 {
        self.events.waiting() + self.results.waiting()
    }

    pub fn bytes(&self) -> u64 {
        self.events.bytes() + self.results.bytes()
    }

    pub fn dropped(&self) -> u64 {
        self.events.dropped() + self.results.dropped()
    }
}

/// The place of a stream in [`Results::ALL`].
fn kind_of(results: Results) -> usize {
    Results::ALL
        .iter()
        .position(|other| *other == results)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use probe_host::clock::monotonic_ns;

    use super::*;
    use crate::agent::probes::Picked;
    use crate::agent::recorder::Measured;
    use crate::agent::test_data::report;
    use crate::message::windows::Batch;

    #[test]
    fn windows_and_their_sums_wait_in_their_order_and_events_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(directory.path(), 1 << 20, "h/p".parse().unwrap(), 0xab);
        let now_ns = monotonic_ns();
        for number in 0..3 {
            let end_ns = now_ns + number * MINUTE_NS;
            outbox.interval(&Interval {
                start_ns: end_ns - 100,
                end_ns,
                windows: vec![Measured {
                    report: report(&[1, 2]),
                    port: None,
                    probes: Picked::default(),
                }],
            });
        }
        outbox.event(What::Refused {
            peer: "h2/p".parse().unwrap(),
            address: "10.0.0.2".parse().unwrap(),
            why: "a test".to_owned(),
        });
        outbox.finish_rollups();
        outbox.results.push(Record {
            kind: 99,
            id: "of a later version".to_owned(),
            payload: Vec::new(),
        });
        let (mut ids, mut received) = (Vec::new(), 0);
        while let Some(outgoing) = outbox.first() {
            if outgoing.subject.starts_with(QUARTERS.prefix) {
                let batch = Batch::decode(&outgoing.payload[..]).unwrap();
                received += batch.windows[0].counts.unwrap().received;
            }
            assert!(outgoing.id.starts_with(&outgoing.subject));
            ids.push(outgoing.id);
            outbox.delivered(outgoing.ticket);
        }
        // They may lie in two quarters.
        ids.retain(|id| !id.starts_with(QUARTERS.prefix));
        let want = [
            "kstamp.event.h.p.ab.1",
            "kstamp.window.h.p.ab.1",
            "kstamp.window.h.p.ab.2",
            "kstamp.minute.h.p.ab.1",
            "kstamp.window.h.p.ab.3",
            "kstamp.minute.h.p.ab.2",
            "kstamp.minute.h.p.ab.3",
        ];
        assert_eq!(ids, want);
        assert_eq!((received, outbox.dropped()), (6, 1));
    }
}
