//! Standard output or a file, opened before measuring starts.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

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
}

impl OutputError {
    pub fn is_reader_left(&self) -> bool {
        matches!(self, Self::ReaderLeft)
    }
}

fn name(path: Option<&Path>) -> String {
    path.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
}

/// The error's text without the number that `io::Error` adds.
fn reason(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}

/// Buffered; flushed when dropped.
pub struct Sink {
    path: Option<PathBuf>,
    out: BufWriter<Box<dyn Write + Send>>,
}

impl Sink {
    pub fn stdout() -> Self {
        Self {
            path: None,
            out: BufWriter::new(Box::new(io::stdout())),
        }
    }

    /// Creates or truncates a file, or opens standard output without a path.
    pub fn open(path: Option<&Path>) -> Result<Self, OutputError> {
        path.map_or_else(|| Ok(Self::stdout()), Self::create)
    }

    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let path = path.to_owned();
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path: Some(path),
                out: BufWriter::new(Box::new(file)),
            }),
            Err(source) => Err(OutputError::Write {
                path: Some(path),
                source,
            }),
        }
    }

    pub fn write(&mut self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
        body(&mut self.out).map_err(|source| self.error(source))
    }

    pub fn flush(&mut self) -> Result<(), OutputError> {
        self.out.flush().map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> OutputError {
        match &self.path {
            None if source.kind() == io::ErrorKind::BrokenPipe => OutputError::ReaderLeft,
            path => OutputError::Write {
                path: path.clone(),
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_reader(path: Option<&str>) -> Sink {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        Sink {
            path: path.map(PathBuf::from),
            out: BufWriter::new(Box::new(writer)),
        }
    }

    fn write(sink: &mut Sink) -> Result<(), OutputError> {
        sink.write(|out| out.write_all(b"a line\n"))?;
        sink.flush()
    }

    #[test]
    fn a_file_is_truncated_and_written_at_each_flush() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        std::fs::write(&path, "of another run").unwrap();
        let mut sink = Sink::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        write(&mut sink).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a line\n");
    }

    #[test]
    fn an_error_names_the_path() {
        let error = Sink::create(Path::new("/nowhere/y")).err().unwrap();
        assert_eq!(error.to_string(), "cannot write /nowhere/y: No such file or directory");
        assert!(!error.is_reader_left());

        let error = write(&mut Sink::create(Path::new("/dev/full")).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full: No space left on device");
    }

    #[test]
    fn a_closed_standard_output_is_not_a_failure() {
        assert!(write(&mut without_reader(None)).unwrap_err().is_reader_left());
    }

    #[test]
    fn a_closed_named_pipe_is_a_failure() {
        let error = write(&mut without_reader(Some("pipe"))).unwrap_err();
        assert_eq!(error.to_string(), "cannot write pipe: Broken pipe");
    }
}
