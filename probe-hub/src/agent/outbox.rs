//! What waits to be delivered: windows, roll-ups and events become messages of the queue.

use std::path::Path;

use log::warn;
use probe_host::clock::realtime_ns;
use probe_host::wall::WallOffset;
use prost::Message as _;

use crate::agent::batch;
use crate::agent::recorder::Interval;
use crate::agent::rollup::{MINUTE_NS, QUARTER_NS, Rollup, Sum};
use crate::agent::spool::{Record, Spool};
use crate::message::event::{Event, What};
use crate::message::windows::{Window, message_id};
use crate::name::PortName;
use crate::subjects::{EVENTS, MINUTES, QUARTERS, Results, WINDOWS};

#[derive(Debug)]
pub struct Outbox {
    pub spool: Spool,
    port: PortName,
    boot: u64,
    /// Of the last message of each stream.
    numbers: [u64; Results::ALL.len()],
    minutes: Rollup,
    quarters: Rollup,
}

/// The oldest message.
#[derive(Debug)]
pub struct Outgoing {
    /// For [`Spool::delivered`].
    pub token: u64,
    pub subject: String,
    pub id: String,
    pub payload: Vec<u8>,
}

impl Outbox {
    /// As [`Spool::open`], for a process of this port.
    pub fn open(directory: &Path, max_bytes: u64, port: PortName, boot: u64) -> Self {
        Self {
            spool: Spool::open(directory, max_bytes),
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
        self.spool.push(Record {
            kind: kind as u32,
            id: message_id(&subject, self.boot, number),
            payload,
        });
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

    /// The oldest message. One of a stream that this version does not know is dropped.
    pub fn first(&mut self) -> Option<Outgoing> {
        loop {
            let (token, record) = self.spool.first()?;
            if let Some(results) = Results::ALL.get(record.kind as usize) {
                return Some(Outgoing {
                    token,
                    subject: results.of(&self.port),
                    id: record.id,
                    payload: record.payload,
                });
            }
            self.spool.give_up(token);
        }
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
    fn windows_and_their_sums_wait_in_the_order_in_which_they_were_made() {
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
        outbox.spool.push(Record {
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
            outbox.spool.delivered(outgoing.token);
        }
        // They may lie in two quarters.
        ids.retain(|id| !id.starts_with(QUARTERS.prefix));
        let want = [
            "kstamp.window.h.p.ab.1",
            "kstamp.window.h.p.ab.2",
            "kstamp.minute.h.p.ab.1",
            "kstamp.window.h.p.ab.3",
            "kstamp.minute.h.p.ab.2",
            "kstamp.event.h.p.ab.1",
            "kstamp.minute.h.p.ab.3",
        ];
        assert_eq!(ids, want);
        assert_eq!((received, outbox.spool.dropped()), (6, 1));
    }
}
