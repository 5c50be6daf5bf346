//! Reads files that other users must not change, or not even read.

use std::collections::BTreeMap;
use std::fs::{FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::unistd::geteuid;
use thiserror::Error;

/// What the group and others must not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Any access.
    Secret,
    /// Write access.
    Unchanged,
}

impl Guard {
    fn forbidden(self) -> u32 {
        match self {
            Self::Secret => 0o077,
            Self::Unchanged => 0o022,
        }
    }
}

#[derive(Debug, Error)]
pub enum GuardError {
    #[error("cannot read the file {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the file {path} is {kind}; give a regular file, or a symlink to one")]
    Kind { path: PathBuf, kind: &'static str },
    #[error("the file {path} belongs to user {owner}, who can change it; `chown {own} {path}` makes it yours")]
    Owner { path: PathBuf, owner: u32, own: u32 },
    #[error("the file {path} is open to other users (mode {mode:04o}); `chmod 600 {path}` closes it")]
    Open { path: PathBuf, mode: u32 },
    #[error("other users can change the file {path} (mode {mode:04o}); `chmod go-w {path}` prevents it")]
    Writable { path: PathBuf, mode: u32 },
}

/// Secrets that were read. A process that has given up its privileges can read them no more when it checks its
/// configuration again.
static SECRETS: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// Reads at most `limit` bytes of a file of root or this user. Returns a secret that may no longer be read as it was before.
pub fn read(path: &Path, guard: Guard, limit: u64) -> Result<Vec<u8>, GuardError> {
    if guard != Guard::Secret {
        return read_now(path, guard, limit);
    }
    let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    match (read_now(path, guard, limit), secrets.get(path)) {
        (Err(GuardError::Read { source, .. }), Some(before)) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(before.clone())
        }
        (Ok(content), _) => {
            secrets.insert(path.to_owned(), content.clone());
            Ok(content)
        }
        (Err(error), _) => Err(error),
    }
}

fn read_now(path: &Path, guard: Guard, limit: u64) -> Result<Vec<u8>, GuardError> {
    let failed = |source| GuardError::Read {
        path: path.to_owned(),
        source,
    };
    // A FIFO would wait for a writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = file.map_err(failed)?;
    // Of the open file: the path may lead to another one by now.
    let metadata = file.metadata().map_err(failed)?;
    check(path, &metadata, guard, geteuid().as_raw())?;
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

/// Fails unless it is a regular file of root or this user, `own`, whose mode obeys the guard.
pub fn check(path: &Path, metadata: &Metadata, guard: Guard, own: u32) -> Result<(), GuardError> {
    let path = path.to_owned();
    if !metadata.is_file() {
        let kind = kind(metadata.file_type());
        return Err(GuardError::Kind { path, kind });
    }
    let owner = metadata.uid();
    if owner != 0 && owner != own {
        return Err(GuardError::Owner { path, owner, own });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    match guard {
        _ if mode & guard.forbidden() == 0 => Ok(()),
        Guard::Secret => Err(GuardError::Open { path, mode }),
        Guard::Unchanged => Err(GuardError::Writable { path, mode }),
    }
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else {
        "a device"
    }
}
