//! Server-sent events (HTML Living Standard §9.2): the records of a run, for a bounded number of readers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame};

/// Readers at a time: half of the connections.
const MAX_READERS: usize = 32;
/// Of these, from one source: half of its connections.
const MAX_FROM_ONE: usize = 4;
/// Bytes that may wait for a reader, beside one update.
const MAX_WAITING: usize = 4 << 20;
/// A reader has to come again after this time, so that a changed password holds for it.
pub(super) const LIFETIME: Duration = Duration::from_secs(3_600);
/// A browser comes again after this time.
const RETRY: &[u8] = b"retry: 1000\n\n";
/// Nothing happened; the connection is alive.
const COMMENT: &[u8] = b":\n\n";

/// Records that are on their way to the readers.
#[derive(Debug, Default)]
pub struct Records {
    is_wanted: bool,
    bytes: Vec<u8>,
}

impl Records {
    pub(crate) fn wanted() -> Self {
        Self {
            is_wanted: true,
            bytes: Vec::new(),
        }
    }

    /// Adds a record of this type, if there is a reader. `write` writes it as one line, with the newline.
    pub fn add(&mut self, kind: &str, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        if !self.is_wanted {
            return;
        }
        let before = self.bytes.len();
        self.bytes
            .extend_from_slice(format!("event: {kind}\ndata: ").as_bytes());
        match write(&mut self.bytes) {
            Ok(()) => self.bytes.push(b'\n'),
            Err(_) => self.bytes.truncate(before),
        }
    }
}

#[cfg(test)]
impl Records {
    /// The types of all records.
    pub(crate) fn kinds(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let kinds = text.lines().filter_map(|line| line.strip_prefix("event: "));
        kinds.map(str::to_owned).collect()
    }

    /// The lines of the stream.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }
}

/// All readers.
#[derive(Debug, Default)]
pub(super) struct Stream {
    readers: Vec<(IpAddr, Instant, Arc<Mutex<Queue>>)>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// What is sent last.
    end: Option<&'static str>,
    has_ended: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn push(&mut self, message: Bytes) {
        if self.bytes > 0 && self.bytes + message.len() > MAX_WAITING {
            return self.cut("the reader is too slow");
        }
        self.bytes += message.len();
        self.waiting.push_back(message);
        self.wake();
    }

    fn cut(&mut self, why: &'static str) {
        self.waiting.clear();
        self.bytes = 0;
        self.end = Some(why);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Stream {
    /// A new reader, if there is a place for it.
    pub(super) fn subscribe(&mut self, from: IpAddr, greeting: Records, now: Instant) -> Option<Reader> {
        self.remove_ended();
        let own = self.readers.iter().filter(|(source, ..)| *source == from).count();
        if own >= MAX_FROM_ONE || self.readers.len() >= MAX_READERS {
            return None;
        }
        let queue = Arc::<Mutex<Queue>>::default();
        let mut first = RETRY.to_vec();
        first.extend(greeting.bytes);
        lock(&queue).push(first.into());
        self.readers.push((from, now, Arc::clone(&queue)));
        Some(Reader(queue))
    }

    /// For the records of an update.
    pub(super) fn records(&mut self) -> Records {
        self.remove_ended();
        Records {
            is_wanted: !self.readers.is_empty(),
            bytes: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, records: Records) {
        if !records.bytes.is_empty() {
            self.send_all(&records.bytes.into());
        }
    }

    /// Lets a dead connection fail, and those end that are old.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        for (_, since, queue) in &self.readers {
            if now.saturating_duration_since(*since) >= LIFETIME {
                lock(queue).cut("the connection is old");
            }
        }
        self.send_all(&Bytes::from_static(COMMENT));
    }

    fn send_all(&mut self, message: &Bytes) {
        self.remove_ended();
        for (_, _, queue) in &self.readers {
            lock(queue).push(message.clone());
        }
    }

    fn remove_ended(&mut self) {
        // A reader that is gone has dropped its half.
        self.readers
            .retain(|(_, _, queue)| Arc::strong_count(queue) > 1 && lock(queue).end.is_none());
    }
}

/// The body of a reader's reply.
#[derive(Debug)]
pub(super) struct Reader(Arc<Mutex<Queue>>);

impl Body for Reader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut queue = lock(&self.0);
        if let Some(message) = queue.waiting.pop_front() {
            queue.bytes -= message.len();
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        match queue.end {
            Some(why) if !queue.has_ended => {
                queue.has_ended = true;
                let farewell = format!("event: cut\ndata: {{\"type\":\"cut\",\"reason\":\"{why}; come again\"}}\n\n");
                Poll::Ready(Some(Ok(Frame::data(farewell.into()))))
            }
            Some(_) => Poll::Ready(None),
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn line(kind: &str, text: &str) -> Records {
        let mut records = Records::wanted();
        records.add(kind, |out| {
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
            Ok(())
        });
        records
    }

    /// What the reader has to read now, and whether it is over.
    fn read(reader: &mut Reader) -> (String, bool) {
        let mut all = String::new();
        loop {
            match Pin::new(&mut *reader).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => all += std::str::from_utf8(&frame.into_data().unwrap()).unwrap(),
                Poll::Ready(None) => return (all, true),
                Poll::Pending => return (all, false),
            }
        }
    }

    #[test]
    fn each_reader_gets_all_records_after_its_greeting() {
        let now = Instant::now();
        let mut stream = Stream::default();
        assert!(!stream.records().is_wanted);
        let mut first = stream
            .subscribe(source(1), line("start", r#"{"type":"start"}"#), now)
            .unwrap();
        assert!(stream.records().is_wanted);
        stream.send(line("window", "{}"));
        let mut second = stream.subscribe(source(1), Records::wanted(), now).unwrap();
        stream.send(line("peer", "[]"));
        stream.keep_alive(now);
        let greeting = "retry: 1000\n\nevent: start\ndata: {\"type\":\"start\"}\n\nevent: window\ndata: {}\n\n";
        let rest = "event: peer\ndata: []\n\n:\n\n";
        assert_eq!(read(&mut first), (format!("{greeting}{rest}"), false));
        assert_eq!(read(&mut second), (format!("retry: 1000\n\n{rest}"), false));
        drop((first, second));
        assert!(!stream.records().is_wanted);
    }

    #[test]
    fn a_record_that_cannot_be_written_is_left_out_and_so_is_an_unwanted_one() {
        let mut records = line("a", "1");
        let before = records.bytes.clone();
        records.add("b", |out| {
            out.push(b'{');
            Err(io::Error::other("no"))
        });
        assert_eq!(records.bytes, before);
        let mut unwanted = Records::default();
        unwanted.add("a", |_| panic!("nobody reads"));
        assert!(unwanted.bytes.is_empty());
    }

    #[test]
    fn a_slow_or_old_reader_is_cut_off_and_told_so() {
        let now = Instant::now();
        let mut stream = Stream::default();
        let mut slow = stream.subscribe(source(1), Records::wanted(), now).unwrap();
        let mut quick = stream.subscribe(source(2), Records::wanted(), now).unwrap();
        // One update may be as large as it is.
        let large = "x".repeat(MAX_WAITING);
        read(&mut slow);
        for _ in 0..2 {
            read(&mut quick);
            stream.send(line("window", &large));
        }
        let cut = |why: &str| format!("event: cut\ndata: {{\"type\":\"cut\",\"reason\":\"{why}; come again\"}}\n\n");
        assert_eq!(read(&mut slow), (cut("the reader is too slow"), true));
        assert!(read(&mut quick).0.contains(&large));
        stream.keep_alive(now + LIFETIME - Duration::from_secs(1));
        assert_eq!(read(&mut quick), (":\n\n".to_owned(), false));
        stream.keep_alive(now + LIFETIME);
        assert_eq!(read(&mut quick), (cut("the connection is old"), true));
        assert!(stream.readers.is_empty());
    }

    #[test]
    fn readers_are_bounded_in_all_and_by_source() {
        let mut stream = Stream::default();
        let mut subscribe = |number| stream.subscribe(source(number), Records::wanted(), Instant::now());
        let mut readers: Vec<_> = (0..MAX_FROM_ONE).map(|_| subscribe(1).unwrap()).collect();
        assert!(subscribe(1).is_none());
        readers.extend((2..=200).filter_map(&mut subscribe));
        assert_eq!(readers.len(), MAX_READERS);
        readers.remove(0);
        assert!(subscribe(1).is_some());
    }
}
