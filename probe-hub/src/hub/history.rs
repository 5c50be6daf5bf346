//! Windows of one pair, read from the streams on demand.
//!
//! A port's batches are in its stream in the order of their ends: also those that were sent late. So the place of a time is found
//! by bisection.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use futures_util::StreamExt as _;
use probe_core::stats::native::NativeHistogram;
use prost::Message as _;
use prost::bytes::Bytes;

use super::handle::Hub;
use crate::message::windows::{MINUTE_NS, Window, WireCounts};
use crate::name::PortName;
use crate::subjects::{MINUTES, QUARTERS, Results, WINDOWS};

const HOUR_NS: u64 = 60 * MINUTE_NS;
/// A range is read in so many parts, the newest first.
const PARTS: u64 = 8;
/// Batches that are read for one range, and their bytes.
const MAX_BATCHES: usize = 4000;
const MAX_BYTES: usize = 64 << 20;
/// Of one part.
const MAX_PART_BYTES: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Batches that are asked for at once.
const FETCH: usize = 200;
/// Windows of one batch and one peer: of its addresses.
const MAX_OF_PEER: usize = 16;
/// Single probes of a window. Agents send a few.
const MAX_PROBES: usize = 64;
/// Windows of one range.
pub const MAX_WINDOWS: usize = 4000;

/// A part of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Since 1970, as `to_ns`. Windows that end after it and until `to_ns` are in the range.
    pub from_ns: u64,
    pub to_ns: u64,
    /// Of windows: the newest are read. At most [`MAX_WINDOWS`].
    pub limit: usize,
}

impl Range {
    /// Windows of an hour, minutes of a day, else quarters of an hour.
    pub fn results(&self) -> Results {
        match self.to_ns.saturating_sub(self.from_ns) {
            ..=HOUR_NS => WINDOWS,
            length if length <= 24 * HOUR_NS => MINUTES,
            _ => QUARTERS,
        }
    }

    /// The bounds of its parts, the newest first.
    fn parts(&self) -> impl Iterator<Item = (u64, u64)> {
        let length_ns = self.to_ns.saturating_sub(self.from_ns).div_ceil(PARTS).max(MINUTE_NS);
        let (first_ns, mut end_ns) = (self.from_ns, self.to_ns);
        std::iter::from_fn(move || {
            let start_ns = end_ns.saturating_sub(length_ns).max(first_ns);
            let part = (start_ns < end_ns).then_some((start_ns, end_ns));
            end_ns = start_ns;
            part
        })
    }
}

/// A window, or a roll-up, of a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    pub start_ns: u64,
    pub end_ns: u64,
    pub window: Window,
}

/// The newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// From which stream.
    pub results: Results,
    pub windows: Vec<Timed>,
    /// Older ones were left out.
    pub is_cut: bool,
}

/// What was measured in a whole range.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sum {
    pub counts: WireCounts,
    /// Of the round trip.
    pub rtt: Option<NativeHistogram>,
}

impl History {
    /// Adds up all windows.
    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for Timed { window, .. } in &self.windows {
            if let Some(counts) = &window.counts {
                sum.counts += *counts;
            }
            let histogram = window.rtt.as_ref().and_then(|rtt| rtt.histogram.as_ref()?.native());
            match (&mut sum.rtt, histogram) {
                (Some(all), Some(histogram)) => all.add(&histogram),
                (all @ None, histogram) => *all = histogram,
                (Some(_), None) => {}
            }
        }
        sum
    }
}

/// What `from` has measured to `to`. If windows of the range are gone, their roll-ups are read.
pub async fn windows(hub: &Hub, from: &PortName, to: &PortName, range: Range) -> Result<History> {
    let finest = range.results();
    let results = [WINDOWS, MINUTES, QUARTERS]
        .into_iter()
        .skip_while(|results| *results != finest);
    let mut history = History {
        results: finest,
        windows: Vec::new(),
        is_cut: false,
    };
    for results in results {
        let stream = hub.jetstream().get_stream(results.stream).await;
        let stream = stream.with_context(|| format!("the stream {} cannot be read", results.stream))?;
        history = of_stream(&stream, results, from, to, range).await?;
        if !history.windows.is_empty() {
            break;
        }
    }
    Ok(history)
}

async fn of_stream(stream: &Stream, results: Results, from: &PortName, to: &PortName, range: Range) -> Result<History> {
    let mut history = History {
        results,
        windows: Vec::new(),
        is_cut: false,
    };
    let reader = Reader {
        stream,
        subject: results.of(from),
    };
    let peer = to.to_string();
    let limit = range.limit.min(MAX_WINDOWS);
    let state = &stream.cached_info().state;
    let (first, mut end) = (state.first_sequence, state.last_sequence + 1);
    if state.messages == 0 {
        return Ok(history);
    }
    let (mut batches, mut bytes) = (0, 0);
    for (start_ns, end_ns) in range.parts() {
        let start = reader.first_after(start_ns, first, end).await?;
        if start == end {
            continue;
        }
        end = start;
        let part = reader.read(start, end_ns, MAX_BATCHES - batches, &peer).await?;
        batches += part.batches;
        bytes += part.bytes;
        let mut windows = part.windows;
        windows.sort_by_key(|timed| timed.end_ns);
        history.windows.extend(windows.into_iter().rev());
        history.is_cut = part.is_cut || bytes >= MAX_BYTES || history.windows.len() > limit;
        if history.is_cut {
            history.windows.truncate(limit);
            break;
        }
    }
    Ok(history)
}

/// A batch whose windows are not read yet. Anybody may have sent it, and windows can take a thousand times the memory of their
/// bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Sealed {
    #[prost(fixed64, tag = "3")]
    start_ns: u64,
    #[prost(fixed64, tag = "4")]
    end_ns: u64,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    windows: Vec<Bytes>,
}

/// The part of a window that says whose it is.
#[derive(Clone, PartialEq, prost::Message)]
struct Addressed {
    #[prost(bytes = "bytes", tag = "2")]
    peer: Bytes,
}

/// The part of a batch that says when it ends.
#[derive(Clone, PartialEq, prost::Message)]
struct Ending {
    #[prost(fixed64, tag = "4")]
    end_ns: u64,
}

impl Sealed {
    fn of_peer(self, peer: &str) -> impl Iterator<Item = Timed> {
        let Self {
            start_ns,
            end_ns,
            windows,
        } = self;
        let is_of_peer =
            move |window: &Bytes| Addressed::decode(window.clone()).is_ok_and(|window| window.peer == peer.as_bytes());
        let windows = windows.into_iter().filter(is_of_peer).take(MAX_OF_PEER);
        let windows = windows
            .filter_map(|window| Window::decode(window).ok())
            .filter(is_plausible);
        windows.map(move |window| Timed {
            start_ns,
            end_ns,
            window,
        })
    }
}

/// Whether it could be that of an agent.
fn is_plausible(window: &Window) -> bool {
    let delays = [&window.rtt, &window.residence, &window.forward, &window.backward];
    let mut histograms = delays
        .into_iter()
        .flatten()
        .filter_map(|delay| delay.histogram.as_ref());
    window.probes.len() <= MAX_PROBES && histograms.all(|histogram| histogram.native().is_some())
}

struct Part {
    windows: Vec<Timed>,
    batches: usize,
    /// Of all windows of the batches.
    bytes: usize,
    /// The newest were left out.
    is_cut: bool,
}

/// Reads the batches of one port.
struct Reader<'a> {
    stream: &'a Stream,
    subject: String,
}

impl Reader<'_> {
    /// The batches from a sequence number on that end until `end_ns`.
    async fn read(&self, start_sequence: u64, end_ns: u64, max_batches: usize, peer: &str) -> Result<Part> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            filter_subject: self.subject.clone(),
            ack_policy: AckPolicy::None,
            memory_storage: true,
            inactive_threshold: TIMEOUT * 2,
            ..pull::Config::default()
        };
        let consumer = self.stream.create_consumer(config).await?;
        let part = read_part(&consumer, end_ns, max_batches, peer).await;
        // The server would delete it soon.
        let _ = self.stream.delete_consumer(&consumer.cached_info().name).await;
        part
    }

    /// Between these sequence numbers, the first one of a batch that ends after `time_ns`; else `end`.
    async fn first_after(&self, time_ns: u64, mut start: u64, mut end: u64) -> Result<u64> {
        // All before `start` end too early, and none from `end` on.
        while start < end {
            let middle = start + (end - start) / 2;
            match self.next(middle).await? {
                Some((sequence, end_ns)) if end_ns <= time_ns => start = sequence + 1,
                _ => end = middle,
            }
        }
        Ok(end)
    }

    /// The first message with this sequence number or a higher one, and when its batch ends.
    async fn next(&self, sequence: u64) -> Result<Option<(u64, u64)>> {
        let message = self
            .stream
            .direct_get_next_for_subject(&self.subject, Some(sequence))
            .await;
        match message {
            Ok(message) => {
                // What cannot be read has no end: it is taken for old.
                let end_ns = Ending::decode(message.payload).map_or(0, |batch| batch.end_ns);
                Ok(Some((message.sequence, end_ns)))
            }
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

async fn read_part(consumer: &Consumer<pull::Config>, end_ns: u64, max_batches: usize, peer: &str) -> Result<Part> {
    let mut part = Part {
        windows: Vec::new(),
        batches: 0,
        bytes: 0,
        is_cut: false,
    };
    loop {
        let fetch = consumer.fetch().max_messages(FETCH).expires(TIMEOUT);
        let mut messages = fetch.messages().await?;
        let mut fetched = 0;
        while let Some(message) = messages.next().await {
            let payload = message.map_err(|error| anyhow!(error))?.payload.clone();
            fetched += 1;
            let bytes = payload.len();
            let Ok(batch) = Sealed::decode(payload) else { continue };
            part.is_cut = part.batches >= max_batches || part.bytes + bytes > MAX_PART_BYTES;
            if batch.end_ns > end_ns || part.is_cut {
                part.is_cut &= batch.end_ns <= end_ns;
                return Ok(part);
            }
            part.bytes += bytes;
            part.batches += 1;
            part.windows.extend(batch.of_peer(peer));
        }
        if fetched < FETCH {
            return Ok(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::windows::{Batch, Delay, Histogram, Probe};

    #[test]
    fn what_no_agent_sends_takes_no_memory() {
        let window = |probes, histogram: Option<Histogram>| Window {
            peer: "h2/p".to_owned(),
            probes: vec![Probe::default(); probes],
            forward: histogram.map(|histogram| Delay {
                histogram: Some(histogram),
                ..Delay::default()
            }),
            ..Window::default()
        };
        let counts = |counts: usize| Histogram {
            positive: vec![1; counts],
            positive_counts: vec![1; counts],
            ..Histogram::default()
        };
        let read = |windows: Vec<Window>| {
            let (start_ns, end_ns) = (1, 2);
            let batch = Batch {
                start_ns,
                end_ns,
                windows,
                ..Batch::default()
            };
            let sealed = Sealed::decode(&batch.encode_to_vec()[..]).unwrap();
            let times = (start_ns, end_ns);
            assert_eq!(Ending::decode(&batch.encode_to_vec()[..]).unwrap().end_ns, end_ns);
            let windows: Vec<_> = sealed.of_peer("h2/p").collect();
            assert!(windows.iter().all(|timed| (timed.start_ns, timed.end_ns) == times));
            windows.len()
        };
        assert_eq!(
            read(vec![window(4, Some(counts(9))), Window::default(), window(0, None)]),
            2
        );
        assert_eq!(read(vec![window(0, None); 100_000]), MAX_OF_PEER);
        assert_eq!(read(vec![window(100_000, None), window(0, Some(counts(100_000)))]), 0);
    }

    #[test]
    fn long_ranges_are_read_from_roll_ups_and_in_parts() {
        let range = |minutes: u64| Range {
            from_ns: 100 * HOUR_NS,
            to_ns: 100 * HOUR_NS + minutes * MINUTE_NS,
            limit: 10,
        };
        for (minutes, results, parts, first) in [
            (0, WINDOWS, 0, None),
            (1, WINDOWS, 1, Some(1)),
            (60, WINDOWS, 8, Some(8)),
            (61, MINUTES, 8, Some(8)),
            (24 * 60, MINUTES, 8, Some(180)),
            (24 * 60 + 1, QUARTERS, 8, Some(181)),
        ] {
            let range = range(minutes);
            assert_eq!(range.results(), results, "{minutes}");
            let bounds: Vec<_> = range.parts().collect();
            assert_eq!(bounds.len(), parts, "{minutes}");
            let length = bounds.first().map(|(start, end)| (end - start).div_ceil(MINUTE_NS));
            assert_eq!(length, first, "{minutes}");
            assert!(bounds.windows(2).all(|pair| pair[0].0 == pair[1].1), "{bounds:?}");
            assert!(
                bounds.last().is_none_or(|(start, _)| *start == range.from_ns),
                "{bounds:?}"
            );
        }
    }
}
