//! An output that is written beside its path and renamed when it is complete: a failure leaves the old file, and no reader sees
//! half a new one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::output::file::{OutputError, OutputFile};

pub struct Draft {
    path: Option<PathBuf>,
    /// `None` of standard output and of devices, which cannot be replaced by a file.
    part: Option<PathBuf>,
    file: Option<BufWriter<File>>,
}

impl Draft {
    /// Where an output is written before it gets its name.
    pub fn part_of(path: &Path) -> PathBuf {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        part.into()
    }

    /// Beside `path`; standard output without one.
    pub fn create(path: Option<&Path>) -> Result<Self, OutputError> {
        let is_replaced = |path: &&Path| fs::metadata(path).map_or(true, |metadata| metadata.is_file());
        let part = path.filter(is_replaced).map(Self::part_of);
        let error = |source| OutputError::write(path, source);
        let file = match &part {
            Some(part) => {
                // It may be of a killed run, or a symlink from somebody else, so it is not written to.
                fs::remove_file(part).ok();
                File::create_new(part).map_err(error)?
            }
            None => OutputFile::open(path)?.into_file(),
        };
        Ok(Self {
            path: path.map(Path::to_owned),
            part,
            file: Some(BufWriter::new(file)),
        })
    }

    pub fn write(&mut self, body: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<(), OutputError> {
        match &mut self.file {
            Some(file) => body(file).map_err(|source| self.error(source)),
            None => Ok(()),
        }
    }

    /// A second handle of the file.
    pub fn file(&self) -> Result<File, OutputError> {
        let missing = || io::Error::other("it is closed");
        let cloned = self
            .file
            .as_ref()
            .ok_or_else(missing)
            .and_then(|file| file.get_ref().try_clone());
        cloned.map_err(|source| self.error(source))
    }

    /// Renames the file to `path`.
    pub fn end(mut self) -> Result<(), OutputError> {
        if let Some(mut file) = self.file.take() {
            file.flush().map_err(|source| self.error(source))?;
        }
        match (&self.part, &self.path) {
            (Some(part), Some(path)) => fs::rename(part, path).map_err(|source| self.error(source))?,
            _ => return Ok(()),
        }
        self.part = None;
        Ok(())
    }

    pub fn error(&self, source: io::Error) -> OutputError {
        OutputError::write(self.path.as_deref(), source)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            fs::remove_file(part).ok();
        }
    }
}
