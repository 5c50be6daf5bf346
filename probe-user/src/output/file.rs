//! Standard output or a file, opened before measuring starts.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::major;

/// Major number of memory devices such as /dev/null, which several outputs may share.
const MEMORY_DEVICES: u64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader of standard output has seen enough (`kstamp … | head`): the run ends as a success.
    #[error("the reader of standard output has gone")]
    ReaderLeft,
    #[error("cannot write {}: {}", name(path.as_deref()), reason(source))]
    Write {
        /// `None` for standard output.
        path: Option<PathBuf>,
        source: io::Error,
    },
    #[error("{first} and {second} are one file; give each its own")]
    SameFile { first: String, second: String },
    /// The run has ended, but its last records have no reader.
    #[error("{} did not take the last {bytes} bytes in time: the results are incomplete", name(path.as_deref()))]
    NotTaken { path: Option<PathBuf>, bytes: usize },
}

impl OutputError {
    /// Without a path, of standard output.
    pub fn write(path: Option<&Path>, source: io::Error) -> Self {
        match path {
            None if source.kind() == io::ErrorKind::BrokenPipe => Self::ReaderLeft,
            path => Self::Write {
                path: path.map(Path::to_owned),
                source,
            },
        }
    }

    pub fn is_reader_left(&self) -> bool {
        matches!(self, Self::ReaderLeft)
    }

    /// Whether the command line is to blame.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::SameFile { .. })
    }
}

pub(super) fn name(path: Option<&Path>) -> String {
    path.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
}

/// The error's text without the number that `io::Error` adds.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        // Of a FIFO, a socket, or a terminal.
        Some(Errno::ENXIO) => "no process reads it".to_owned(),
        Some(errno) => errno.desc().to_owned(),
        None => error.to_string(),
    }
}

/// Not buffered. Files are written at their end, so that another process may truncate them.
pub struct OutputFile {
    /// `None` for standard output.
    path: Option<PathBuf>,
    file: File,
    keeps: bool,
    /// Opening a FIFO waits for its reader.
    waits: bool,
}

impl OutputFile {
    /// Opens or creates a file, or opens standard output without a path. Its contents stay until [`OutputFile::truncate`].
    /// Waits for the reader of a FIFO.
    pub fn open(path: Option<&Path>) -> Result<Self, OutputError> {
        Self::open_by(path, true)
    }

    /// The same for a process that is measuring: fails if a FIFO has no reader.
    pub fn open_at_once(path: Option<&Path>) -> Result<Self, OutputError> {
        Self::open_by(path, false)
    }

    fn open_by(path: Option<&Path>, waits: bool) -> Result<Self, OutputError> {
        let opened = match path {
            Some(path) => append(path, waits),
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        };
        let path = path.map(Path::to_owned);
        match opened {
            Ok(file) => Ok(Self {
                path,
                file,
                keeps: false,
                waits,
            }),
            Err(source) => Err(OutputError::Write { path, source }),
        }
    }

    /// Keeps its contents.
    pub fn kept(self) -> Self {
        Self { keeps: true, ..self }
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Fails if `other`, which `flag` names, is the same file.
    pub fn check_other(&self, flag: &str, other: &Path, metadata: io::Result<Metadata>) -> Result<(), OutputError> {
        match (self.file.metadata(), metadata) {
            (Ok(own), Ok(other)) if !is_same(&own, &other) => Ok(()),
            (Ok(_), Ok(_)) => Err(OutputError::SameFile {
                first: format!("{flag} {}", other.display()),
                second: match &self.path {
                    Some(path) => format!("--output {}", path.display()),
                    None => "standard output".to_owned(),
                },
            }),
            // A missing file cannot be the same file.
            _ => Ok(()),
        }
    }

    /// Opens a second file in the same way, which must be another one.
    pub fn open_other(&self, flag: &str, path: &Path) -> Result<Self, OutputError> {
        let other = Self::open_by(Some(path), self.waits)?;
        self.check_other(flag, path, other.file.metadata())?;
        Ok(other)
    }

    /// The open file, without its name.
    pub fn into_file(self) -> File {
        self.file
    }

    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    pub fn is_terminal(&self) -> bool {
        self.file.is_terminal()
    }

    /// Whether it can be opened again by its path.
    pub fn is_regular(&self) -> bool {
        self.path.is_some() && self.file.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    /// Removes what another run has written, unless it is kept.
    pub fn truncate(&self) -> Result<(), OutputError> {
        match self.is_regular() && !self.keeps {
            true => self.file.set_len(0).map_err(|source| self.error(source)),
            false => Ok(()),
        }
    }

    /// Opens the path again, whose file may have been renamed, and keeps what is in there.
    pub fn reopen(&mut self) -> Result<(), OutputError> {
        if let Some(path) = &self.path {
            self.file = append(path, self.waits).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    pub fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), OutputError> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(self.error(io::ErrorKind::WriteZero.into())),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process has set O_NONBLOCK on the same pipe or terminal.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_writable(&self.file, None);
                }
                Err(source) => return Err(self.error(source)),
            }
        }
        Ok(())
    }

    pub fn error(&self, source: io::Error) -> OutputError {
        OutputError::write(self.path.as_deref(), source)
    }
}

/// Writes a text that is not a result to standard output.
pub fn print(text: &str) -> Result<(), OutputError> {
    OutputFile::open(None)?.write_all(text.as_bytes())
}

fn append(path: &Path, waits: bool) -> io::Result<File> {
    let flags = if waits { 0 } else { libc::O_NONBLOCK };
    let mut options = OpenOptions::new();
    options.append(true).create(true).custom_flags(flags).open(path)
}

/// Whether two paths lead to one file; devices such as /dev/null do not count.
pub fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let is_memory = one.file_type().is_char_device() && major(one.rdev()) == MEMORY_DEVICES;
    (one.dev(), one.ino()) == (other.dev(), other.ino()) && !is_memory
}

/// Whether a write would not wait, after at most this time.
pub fn is_writable(file: &impl std::os::fd::AsFd, within: Option<Duration>) -> bool {
    let within = match within {
        Some(within) => PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut polled, within), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use std::io::Read as _;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn without_reader(path: Option<&str>) -> OutputFile {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        OutputFile {
            path: path.map(PathBuf::from),
            file: std::os::fd::OwnedFd::from(writer).into(),
            keeps: false,
            waits: true,
        }
    }

    #[test]
    fn a_file_is_truncated_once_and_then_written_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, "of another run").unwrap();
        let mut file = OutputFile::open(Some(&path)).unwrap();
        file.truncate().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        file.write_all(b"a line\n").unwrap();
        fs::File::create(&path).unwrap();
        file.write_all(b"another line\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "another line\n", "no NULs");

        OutputFile::open(Some(&path)).unwrap().kept().truncate().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "another line\n");

        fs::rename(&path, directory.path().join("out.1")).unwrap();
        fs::write(&path, "kept\n").unwrap();
        file.reopen().unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept\nnew\n");
    }

    #[test]
    fn a_fifo_without_a_reader_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let open = || OutputFile::open_at_once(Some(&fifo));
        let error = open().err().unwrap().to_string();
        assert_eq!(error, format!("cannot write {}: no process reads it", fifo.display()));
        let mut options = OpenOptions::new();
        let mut reader = options.read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        open().unwrap().write_all(b"a line\n").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a line\n");
    }

    #[test]
    fn an_error_names_the_path() {
        let open = |path: &str| OutputFile::open(Some(Path::new(path)));
        let error = open("/nowhere/y").err().unwrap();
        assert_eq!(error.to_string(), "cannot write /nowhere/y: No such file or directory");
        assert!(!error.is_reader_left());

        let error = open("/dev/full").unwrap().write_all(b"a line\n").unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full: No space left on device");
    }

    #[test]
    fn a_closed_standard_output_is_not_a_failure_but_a_named_pipe_is() {
        assert!(without_reader(None).write_all(b"a").unwrap_err().is_reader_left());
        let error = without_reader(Some("pipe")).write_all(b"a").unwrap_err();
        assert_eq!(error.to_string(), "cannot write pipe: Broken pipe");
    }

    #[test]
    fn one_file_by_two_paths_is_recognised() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let output = OutputFile::open(Some(&path("out"))).unwrap();
        fs::write(path("out"), "kept").unwrap();
        symlink(path("out"), path("symlink")).unwrap();
        fs::hard_link(path("out"), path("link")).unwrap();
        for (name, is_refused) in [("out", true), ("symlink", true), ("link", true), ("other", false)] {
            let opened = output.open_other("--samples", &path(name));
            assert_eq!(opened.err().is_some_and(|error| error.is_usage()), is_refused, "{name}");
        }
        assert_eq!(fs::read_to_string(path("out")).unwrap(), "kept");
        let null = Path::new("/dev/null");
        assert!(
            OutputFile::open(Some(null))
                .unwrap()
                .open_other("--samples", null)
                .is_ok()
        );
    }
}
