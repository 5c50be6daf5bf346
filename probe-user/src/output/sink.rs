//! A bounded queue and the thread that writes it, so that a slow reader never delays measuring.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::warn;
use tokio::sync::Notify;

pub use crate::output::file::OutputError;
use crate::output::file::OutputFile;
use crate::output::left_out::{LeftOut, Notice};
use crate::output::progress;

/// Bytes that may wait for the reader, beside what a pipe takes.
const MAX_WAITING: usize = 4 << 20;
/// The writer is woken for as many bytes, even without a flush.
const DUE: usize = 64 << 10;
/// For what is left when a run fails.
const LAST_WRITE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    /// Whole records that the writer has not taken yet.
    waiting: Vec<u8>,
    /// Bytes that it is writing.
    writing: usize,
    is_due: bool,
    reopen: bool,
    /// Nothing will be added.
    is_closed: bool,
    /// The writer has written everything, or will not write.
    has_ended: bool,
    /// Nothing can be written, until it is opened again.
    has_failed: bool,
    /// The failure, until it is reported.
    error: Option<OutputError>,
}

struct Shared {
    state: Mutex<State>,
    /// There is work for the writer, or it has ended.
    changed: Condvar,
    /// The writer has failed or ended.
    notify: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Controls an open output from elsewhere.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    is_regular: bool,
}

impl Control {
    /// Has the writer open its file again. Returns false if it is not a file.
    pub fn reopen(&self) -> bool {
        if self.is_regular {
            self.shared.lock().reopen = true;
            self.shared.changed.notify_all();
        }
        self.is_regular
    }

    /// Returns when nothing more can be written. Cancel safe.
    pub async fn failed(&self) {
        while !self.shared.lock().has_failed {
            self.shared.notify.notified().await;
        }
    }
}

/// Takes whole records and never waits for the reader.
pub struct Sink {
    path: Option<PathBuf>,
    is_regular: bool,
    notice: Notice,
    shared: Arc<Shared>,
    /// Until the writer starts. Before the first record there is none: privileges belong to a thread, and a new one
    /// inherits those that are left.
    file: Option<OutputFile>,
    record: Vec<u8>,
    left_out: BTreeMap<&'static str, u64>,
    /// Records were left out since the last report of them.
    is_owed: bool,
}

impl Sink {
    /// Truncates the file. `notice` reports what has to be left out.
    pub fn new(file: OutputFile, notice: Notice) -> Result<Self, OutputError> {
        file.truncate()?;
        Ok(Self {
            path: file.path().map(ToOwned::to_owned),
            is_regular: file.is_regular(),
            notice,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                notify: Notify::new(),
            }),
            file: Some(file),
            record: Vec::new(),
            left_out: BTreeMap::new(),
            is_owed: false,
        })
    }

    pub fn control(&self) -> Control {
        Control {
            shared: Arc::clone(&self.shared),
            is_regular: self.is_regular,
        }
    }

    /// Adds `number` records of this kind, or counts them as left out if there is no room. Fails if earlier ones could not
    /// be written.
    pub fn write(
        &mut self,
        kind: &'static str,
        number: u64,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        self.add(kind, number, MAX_WAITING, body)
    }

    /// Adds the last records of a run, whether there is room or not, after the number of those that were left out.
    pub fn write_last(&mut self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
        self.is_owed = !self.left_out.is_empty();
        self.add("last", 0, usize::MAX, body)?;
        self.flush();
        Ok(())
    }

    fn add(
        &mut self,
        kind: &'static str,
        number: u64,
        room: usize,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        self.start_writer()?;
        let mut state = self.shared.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let has_failed = state.has_failed;
        drop(state);
        if has_failed {
            self.leave_out(kind, number);
            return Ok(());
        }
        self.record.clear();
        let notice = self.is_owed.then(|| LeftOut::now(self.left_out.clone()));
        let written = notice.map_or(Ok(()), |left_out| (self.notice)(&left_out, &mut self.record));
        if let Err(source) = written.and_then(|()| body(&mut self.record)) {
            let path = self.path.clone();
            return Err(OutputError::Write { path, source });
        }
        let mut state = self.shared.lock();
        if state.waiting.len() + state.writing + self.record.len() > room {
            drop(state);
            self.leave_out(kind, number);
            return Ok(());
        }
        state.waiting.extend_from_slice(&self.record);
        let is_due = state.waiting.len() >= DUE;
        state.is_due |= is_due;
        drop(state);
        self.is_owed = false;
        if is_due {
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    fn leave_out(&mut self, kind: &'static str, number: u64) {
        *self.left_out.entry(kind).or_default() += number;
        self.is_owed = true;
    }

    /// Adds the records that another sink has left out, so that the last notice has them too.
    pub fn also_left_out(&mut self, others: &BTreeMap<&'static str, u64>) {
        for (kind, number) in others {
            self.leave_out(kind, *number);
        }
    }

    pub fn left_out(&self) -> &BTreeMap<&'static str, u64> {
        &self.left_out
    }

    /// Has the writer write what was added.
    pub fn flush(&mut self) {
        self.shared.lock().is_due = true;
        self.shared.changed.notify_all();
    }

    /// Returns when everything is written. Nothing can be added afterwards. Cancel safe.
    pub async fn delivered(&mut self) -> Result<(), OutputError> {
        self.close();
        while !self.shared.lock().has_ended {
            self.shared.notify.notified().await;
        }
        self.shared.lock().error.take().map_or(Ok(()), Err)
    }

    /// Gives up waiting for the reader. Fails if the reader has not taken everything.
    pub fn abandon(&mut self) -> Result<(), OutputError> {
        let mut state = self.shared.lock();
        let bytes = state.waiting.len() + state.writing;
        if mem::replace(&mut state.has_ended, true) || bytes == 0 {
            return state.error.take().map_or(Ok(()), Err);
        }
        Err(OutputError::NotTaken {
            path: self.path.clone(),
            bytes,
        })
    }

    fn close(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        // Without a writer there is nothing to write.
        state.has_ended |= self.file.is_some();
        self.shared.changed.notify_all();
    }

    fn start_writer(&mut self) -> Result<(), OutputError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name("kstamp-output".to_owned())
            .spawn(move || write_all(&shared, file));
        started.map(drop).map_err(|source| OutputError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// Waits a bounded time, so that the reason of a failure comes after the results before it.
impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
        let state = self.shared.lock();
        let waits = |state: &mut State| !state.has_ended;
        drop(self.shared.changed.wait_timeout_while(state, LAST_WRITE, waits));
    }
}

/// The writer.
fn write_all(shared: &Shared, mut file: OutputFile) {
    let mut chunk = Vec::new();
    // Another output must not wait for a terminal that takes nothing.
    let is_terminal = file.is_terminal();
    loop {
        let idle = |state: &mut State| {
            let has_work = (state.is_due && !state.waiting.is_empty()) || state.reopen || state.is_closed;
            !has_work
        };
        let mut state = shared
            .changed
            .wait_while(shared.lock(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() && !state.reopen {
            // Closed, and all is written.
            state.has_ended = true;
            break;
        }
        mem::swap(&mut state.waiting, &mut chunk);
        state.writing = chunk.len();
        state.is_due = false;
        let reopen = mem::take(&mut state.reopen);
        let mut has_failed = state.has_failed;
        drop(state);
        let mut error = None;
        if !has_failed {
            let mut write = || file.write_all(&chunk);
            let written = if is_terminal { progress::aside(write) } else { write() };
            error = written.err();
            has_failed = error.is_some();
        }
        chunk.clear();
        if reopen {
            match file.reopen() {
                Ok(()) => has_failed = false,
                Err(error) => warn!("{error}; kstamp goes on with the file that was open"),
            }
        }
        let mut state = shared.lock();
        state.writing = 0;
        state.has_failed = has_failed;
        if error.is_some() {
            state.error = error;
            shared.notify.notify_one();
        }
    }
    shared.changed.notify_all();
    shared.notify.notify_one();
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::output::left_out;

    /// Standard output's place is taken by a pipe, which is returned with the sink.
    fn piped() -> (io::PipeReader, Sink) {
        let (reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let file = OutputFile::open(Some(path.as_ref())).unwrap();
        (reader, Sink::new(file, left_out::json("h1:p1")).unwrap())
    }

    fn read(mut reader: io::PipeReader) -> Vec<String> {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn records_that_do_not_fit_are_left_out_counted_and_reported() {
        let (reader, mut sink) = piped();
        let line = "x".repeat(1 << 20);
        let mut write = |kind| sink.write(kind, 2, |out| writeln!(out, "{line}")).unwrap();
        (0..3).for_each(|_| write("window"));
        // Before the writer has all four in its hands, there is no room for these.
        (0..3).for_each(|_| write("peer"));
        sink.also_left_out(&BTreeMap::from([("sample", 7)]));
        sink.write_last(|out| writeln!(out, "end")).unwrap();
        assert_eq!(sink.left_out(), &BTreeMap::from([("peer", 6), ("sample", 7)]));
        let reading = thread::spawn(move || read(reader));
        drop(sink);
        let lines = reading.join().unwrap();
        assert_eq!(lines.len(), 5);
        assert!(lines[..3].iter().all(|written| *written == line));
        assert!(
            lines[3].starts_with(r#"{"type":"output","agent":"h1:p1","left_out":{"peer":6,"sample":7},"#),
            "{}",
            lines[3]
        );
        assert_eq!(lines[4], "end");
    }

    #[tokio::test]
    async fn a_failure_is_reported_once_and_ends_the_waiting() {
        let file = OutputFile::open(Some("/dev/full".as_ref())).unwrap();
        let mut sink = Sink::new(file, Box::new(left_out::text)).unwrap();
        let write = |sink: &mut Sink| sink.write("window", 1, |out| out.write_all(b"a line\n"));
        write(&mut sink).unwrap();
        sink.flush();
        sink.control().failed().await;
        let error = write(&mut sink).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full: No space left on device");
        write(&mut sink).unwrap();
        assert_eq!(sink.left_out()["window"], 1, "after the failure");
        sink.delivered().await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_an_error() {
        let (_reader, mut sink) = piped();
        sink.write_last(|out| out.write_all(&vec![b'x'; 1 << 20])).unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(10), sink.delivered())
                .await
                .is_err()
        );
        let error = sink.abandon().unwrap_err().to_string();
        assert!(error.contains("the last 1048576 bytes"), "{error}");
    }

    #[test]
    fn a_file_is_opened_again_on_request_even_after_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut sink = Sink::new(OutputFile::open(Some(&path)).unwrap(), left_out::json("h1:p1")).unwrap();
        let mut line = |text: &str| {
            sink.write("window", 1, |out| writeln!(out, "{text}")).unwrap();
            sink.flush();
            let is_there = || std::fs::read_to_string(&path).is_ok_and(|written| written.contains(text));
            while !is_there() {
                thread::yield_now();
            }
        };
        line("first");
        std::fs::rename(&path, directory.path().join("out.1")).unwrap();
        let control = sink.control();
        assert!(control.reopen());
        while File::open(&path).is_err() {
            thread::yield_now();
        }
        let mut line = |text: &str| {
            sink.write("window", 1, |out| writeln!(out, "{text}")).unwrap();
            sink.flush();
        };
        line("second");
        drop(sink);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second\n");
    }
}
