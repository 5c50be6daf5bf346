//! Reads the file with which a host or a reader connects to the fleet.

use std::path::Path;

use probe_hub::connection;
use probe_hub::credentials::Credentials;

use crate::command::shared::values::ConfigError;
use crate::config::guarded::{self, Guard};

/// Several times as large as any file of `kstamp hub enroll`.
const MAX_CREDENTIALS: u64 = 1 << 16;

/// `flag` names it.
pub fn read(flag: &str, path: &Path) -> Result<Credentials, ConfigError> {
    let refused = |why: String| ConfigError::Flag(format!("{flag}: {why}"));
    let content = guarded::read(path, Guard::Secret, MAX_CREDENTIALS).map_err(|error| refused(error.to_string()))?;
    let unusable = |why: String| refused(format!("{} cannot be used: {why}", path.display()));
    let credentials =
        Credentials::read(&String::from_utf8_lossy(&content)).map_err(|error| unusable(error.to_string()))?;
    connection::check(&credentials).map_err(|error| unusable(error.to_string()))?;
    Ok(credentials)
}
