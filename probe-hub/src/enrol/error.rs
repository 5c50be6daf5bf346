//! What is wrong with a state directory.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::name::HostName;

#[derive(Debug, Error)]
pub enum EnrolError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the state directory {path} belongs to user {owner}; run kstamp as that user, or give another one by --state"
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error("the state directory {path} is open to other users (mode {mode:04o}); `chmod 700 {path}` closes it")]
    Open { path: PathBuf, mode: u32 },
    #[error("another `kstamp hub` uses {0}; stop it, or give this one a directory of its own by --state")]
    Locked(PathBuf),
    #[error("{0} is enrolled already; --replace gives it new credentials, and those it has no longer work")]
    Enrolled(HostName),
    #[error("{name} is not enrolled; {dir} has those that are")]
    Unknown { name: HostName, dir: PathBuf },
    #[error(
        "{path} is not as kstamp wrote it: {why}; restore it from a copy, or remove the whole state directory and enrol anew"
    )]
    Content { path: PathBuf, why: String },
    #[error("no hub has its state in {0}; name its directory by --state")]
    NoState(PathBuf),
    #[error("the state directory {0} is that of another fleet; name a new one by --state")]
    OtherFleet(PathBuf),
    #[error(
        "an import into the state directory {0} was interrupted; run `kstamp hub import` with the same export again"
    )]
    Unfinished(PathBuf),
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot make a key: {0}")]
    Key(#[from] nkeys::error::Error),
}

pub fn failed(action: &'static str, path: &Path, source: io::Error) -> EnrolError {
    EnrolError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
