//! Values of flags from configuration files, the environment and the command line.
//!
//! The flags of a command are the keys of its files: nothing here knows a flag by name, but `--iface` and `--config`.

pub mod file;
pub mod guarded;
pub mod schema;
pub mod settings;
pub mod sources;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Has the default files.
const DIRECTORY: &str = "/etc/kstamp";

/// What a command finds beside its command line.
#[derive(Debug, Clone, Default)]
pub struct System {
    /// Of the default files; `None`: there are none.
    pub directory: Option<PathBuf>,
    /// The environment.
    pub variables: BTreeMap<OsString, OsString>,
}

impl System {
    pub fn of_process() -> Self {
        Self {
            directory: Some(DIRECTORY.into()),
            variables: env::vars_os().collect(),
        }
    }
}

#[cfg(test)]
mod tests;
