//! An ordered queue of messages: a file for each one, in a directory that the next process takes over.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use log::{info, warn};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// Files have this ending, and their place in the queue as a name.
const ENDING: &str = "batch";
const LOCK: &str = "lock";
const CHECKSUM_LEN: usize = 8;
/// A file takes whole blocks on disk.
const BLOCK: u64 = 4_096;
/// Most bytes in memory, while the disk cannot be written.
const MAX_MEMORY: u64 = 8 << 20;
/// After a failure, this many messages are not written to disk.
const PAUSE: u32 = 30;

/// A message to a stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    /// Place in [`Results::ALL`](crate::subjects::Results::ALL).
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

/// Oldest first. Bounded by bytes: the oldest are dropped first, and counted.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    max_bytes: u64,
    /// Held while this process uses the directory.
    lock: Option<File>,
    queue: VecDeque<Entry>,
    bytes: u64,
    memory_bytes: u64,
    next_file: u64,
    next_token: u64,
    dropped: u64,
    is_failing: bool,
    /// Messages until the disk is tried again.
    pause: u32,
}

#[derive(Debug)]
struct Entry {
    token: u64,
    bytes: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(u64),
    Memory(Record),
}

impl Spool {
    /// Takes over what another process has left. If the directory cannot be used, the queue is in memory, and a line says so.
    pub fn open(directory: &Path, max_bytes: u64) -> Self {
        let mut spool = Self {
            directory: directory.to_owned(),
            max_bytes,
            lock: None,
            queue: VecDeque::new(),
            bytes: 0,
            memory_bytes: 0,
            next_file: 0,
            next_token: 0,
            dropped: 0,
            is_failing: false,
            pause: 0,
        };
        if let Err(error) = spool.take_over() {
            spool.failed(&error);
        }
        spool
    }

    /// Whether another process uses the directory.
    pub fn is_taken(directory: &Path) -> bool {
        let lock = File::open(directory.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Makes the directory this process's. What is there goes before what is in memory.
    fn take_over(&mut self) -> io::Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        let lock = File::create(self.directory.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it"),
            TryLockError::Error(error) => error,
        })?;
        let mut found = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            if let Some(number) = number_of(&file.path()) {
                found.push((number, on_disk(file.metadata()?.len())));
            }
        }
        found.sort_unstable();
        self.lock = Some(lock);
        self.next_file = found.last().map_or(0, |(number, _)| number + 1);
        for (number, bytes) in found.into_iter().rev() {
            let entry = self.entry(bytes, Place::File(number));
            self.queue.push_front(entry);
        }
        self.limit();
        Ok(())
    }

    fn entry(&mut self, bytes: u64, place: Place) -> Entry {
        self.bytes += bytes;
        if let Place::Memory(_) = place {
            self.memory_bytes += bytes;
        }
        self.next_token += 1;
        Entry {
            token: self.next_token,
            bytes,
            place,
        }
    }

    pub fn push(&mut self, record: Record) {
        let content = record.encode_to_vec();
        let bytes = on_disk((CHECKSUM_LEN + content.len()) as u64);
        let place = match self.write(&content) {
            Some(number) => Place::File(number),
            None => Place::Memory(record),
        };
        let entry = self.entry(bytes, place);
        self.queue.push_back(entry);
        self.limit();
    }

    /// Returns the number of the new file, if there could be one.
    fn write(&mut self, content: &[u8]) -> Option<u64> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        if let Err(error) = self.take_over().and_then(|()| self.write_file(content)) {
            self.failed(&error);
            return None;
        }
        if std::mem::take(&mut self.is_failing) {
            info!("results wait in {} again", self.directory.display());
        }
        self.next_file += 1;
        Some(self.next_file - 1)
    }

    fn write_file(&self, content: &[u8]) -> io::Result<()> {
        let path = self.path(self.next_file);
        let written = fs::write(&path, [&checksum(content)[..], content].concat());
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written
    }

    /// Logs that the disk cannot be written: once, until it works again.
    fn failed(&mut self, error: &io::Error) {
        self.pause = PAUSE;
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(
                "results cannot wait in {}: {error}. Measuring goes on, and up to {} MiB of results wait in memory; make room \
                 there, or name another directory",
                self.directory.display(),
                MAX_MEMORY.min(self.max_bytes) >> 20
            );
        }
    }

    fn limit(&mut self) {
        while self.bytes > self.max_bytes && !self.queue.is_empty() {
            self.drop_at(0);
        }
        let is_in_memory = |entry: &Entry| matches!(entry.place, Place::Memory(_));
        while self.memory_bytes > MAX_MEMORY
            && let Some(oldest) = self.queue.iter().position(is_in_memory)
        {
            self.drop_at(oldest);
        }
    }

    fn drop_at(&mut self, place: usize) {
        self.remove(place);
        self.dropped += 1;
    }

    fn remove(&mut self, place: usize) {
        let Some(entry) = self.queue.remove(place) else { return };
        self.bytes -= entry.bytes;
        match entry.place {
            Place::Memory(_) => self.memory_bytes -= entry.bytes,
            // One that cannot be deleted is sent again by the next process, with the same identifier.
            Place::File(number) => drop(fs::remove_file(self.path(number))),
        }
    }

    /// The oldest message, and a token for it. Damaged ones are dropped and counted.
    pub fn first(&mut self) -> Option<(u64, Record)> {
        loop {
            let Entry { token, place, .. } = self.queue.front()?;
            let record = match place {
                Place::Memory(record) => Some(record.clone()),
                Place::File(number) => self.read(*number),
            };
            if let Some(record) = record {
                return Some((*token, record));
            }
            self.drop_at(0);
        }
    }

    fn read(&self, number: u64) -> Option<Record> {
        let file = fs::read(self.path(number)).ok()?;
        let (sum, content) = file.split_at_checked(CHECKSUM_LEN)?;
        (sum == checksum(content))
            .then(|| Record::decode(content).ok())
            .flatten()
    }

    /// The message with this token was delivered. It may have been dropped meanwhile.
    pub fn delivered(&mut self, token: u64) {
        if let Some(place) = self.place(token) {
            self.remove(place);
        }
    }

    /// Drops and counts the message with this token: the server does not accept it.
    pub fn give_up(&mut self, token: u64) {
        if let Some(place) = self.place(token) {
            self.drop_at(place);
        }
    }

    /// Near the front.
    fn place(&self, token: u64) -> Option<usize> {
        self.queue.iter().position(|entry| entry.token == token)
    }

    pub fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages dropped since it was opened.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:016x}.{ENDING}"))
    }
}

fn number_of(path: &Path) -> Option<u64> {
    let is_ours = path.extension().is_some_and(|ending| ending == ENDING);
    let name = path.file_stem().filter(|_| is_ours)?.to_str()?;
    u64::from_str_radix(name, 16).ok().filter(|number| *number < u64::MAX)
}

fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(BLOCK)
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = Sha256::digest(content);
    std::array::from_fn(|place| digest[place])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record(id: u64) -> Record {
        Record {
            kind: 0,
            id: id.to_string(),
            payload: vec![7; 5_000],
        }
    }

    /// Takes all out, as when they are delivered.
    fn take_all(spool: &mut Spool) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some((number, record)) = spool.first() {
            ids.push(record.id.parse().unwrap());
            spool.delivered(number);
        }
        assert_eq!((spool.waiting(), spool.bytes(), spool.memory_bytes), (0, 0, 0));
        ids
    }

    fn files(directory: &Path) -> usize {
        let is_batch = |file: &io::Result<fs::DirEntry>| number_of(&file.as_ref().unwrap().path()).is_some();
        fs::read_dir(directory).unwrap().filter(is_batch).count()
    }

    #[test]
    fn another_process_goes_on_with_what_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("h.p");
        let mut spool = Spool::open(&path, 1 << 20);
        (0..5).for_each(|id| spool.push(record(id)));
        let (number, first) = spool.first().unwrap();
        assert_eq!(first, record(0));
        assert_eq!(spool.first().unwrap().0, number, "until it is delivered");
        spool.delivered(number);
        spool.delivered(number);
        assert_eq!((spool.waiting(), spool.bytes()), (4, 4 * 8_192));
        drop(spool);
        let mut spool = Spool::open(&path, 1 << 20);
        (5..7).for_each(|id| spool.push(record(id)));
        assert_eq!(take_all(&mut spool), [1, 2, 3, 4, 5, 6]);
        assert_eq!((files(&path), spool.dropped()), (0, 0));
    }

    #[test]
    fn the_oldest_are_dropped_first_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(directory.path(), 3 * 8_192);
        (0..10).for_each(|id| spool.push(record(id)));
        assert_eq!((spool.waiting(), spool.dropped(), files(directory.path())), (3, 7, 3));
        drop(spool);
        let mut spool = Spool::open(directory.path(), 2 * 8_192);
        assert_eq!((take_all(&mut spool), spool.dropped()), (vec![8, 9], 1));
    }

    #[test]
    fn torn_and_foreign_files_are_no_messages() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut spool = Spool::open(path, 1 << 20);
        (0..4).for_each(|id| spool.push(record(id)));
        let file = spool.path(3);
        drop(spool);
        let content = fs::read(&file).unwrap();
        fs::write(&file, &content[..content.len() - 1]).unwrap();
        fs::write(path.join("0000000000000001.batch"), "").unwrap();
        fs::write(path.join("notes.txt"), "x").unwrap();
        fs::write(path.join("x.batch"), "x").unwrap();
        let mut spool = Spool::open(path, 1 << 20);
        assert_eq!(spool.waiting(), 4);
        assert_eq!((take_all(&mut spool), spool.dropped()), (vec![0, 2], 2));
        assert!(path.join("notes.txt").exists() && path.join("x.batch").exists());
    }

    #[test]
    fn without_a_directory_a_bounded_queue_is_in_memory_and_goes_to_disk_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file/spool");
        fs::write(directory.path().join("file"), "").unwrap();
        let mut spool = Spool::open(&path, 64 << 20);
        (0..3).for_each(|id| spool.push(record(id)));
        assert_eq!((spool.waiting(), spool.memory_bytes), (3, 3 * 8_192));
        fs::remove_file(directory.path().join("file")).unwrap();
        let more = 3 + u64::from(PAUSE);
        (3..more).for_each(|id| spool.push(record(id)));
        assert!((1..10).contains(&files(&path)), "{}", files(&path));
        assert_eq!(take_all(&mut spool), (0..more).collect::<Vec<_>>());
        fs::remove_dir_all(&path).unwrap();
        let many = 2 * MAX_MEMORY / 8_192;
        (0..many).for_each(|id| spool.push(record(id)));
        assert!(spool.memory_bytes <= MAX_MEMORY);
        assert_eq!(spool.dropped(), many - spool.waiting());
        assert_eq!(take_all(&mut spool).last(), Some(&(many - 1)));
    }

    #[test]
    fn two_processes_take_turns() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = Spool::open(directory.path(), 1 << 20);
        (0..3).for_each(|id| before.push(record(id)));
        assert!(Spool::is_taken(directory.path()));
        let mut next = Spool::open(directory.path(), 1 << 20);
        (10..12).for_each(|id| next.push(record(id)));
        assert_eq!(next.memory_bytes, 2 * 8_192);
        before.push(record(3));
        drop(before);
        assert!(!Spool::is_taken(directory.path()));
        (12..12 + u64::from(PAUSE)).for_each(|id| next.push(record(id)));
        let want: Vec<_> = (0..4).chain(10..12 + u64::from(PAUSE)).collect();
        assert_eq!(take_all(&mut next), want);
    }

    #[test]
    fn a_read_only_directory_is_logged_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut spool = Spool::open(path, 1 << 20);
        fs::set_permissions(path, fs::Permissions::from_mode(0o500)).unwrap();
        if File::create(path.join("x")).is_ok() {
            println!("SKIPPED: this user may write to every directory");
            return;
        }
        (0..3).for_each(|id| spool.push(record(id)));
        assert_eq!((spool.waiting(), files(path)), (3, 0));
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}
