//! Files of the state directory: whole or not at all, and readable by their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::{EnrolError, failed};

const OWNER_ONLY: u32 = 0o600;

/// The effective user of this process.
pub fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

pub fn make_directory(path: &Path) -> Result<(), EnrolError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| failed("make", path, source))
}

pub fn exists(path: &Path) -> Result<bool, EnrolError> {
    fs::exists(path).map_err(|source| failed("read", path, source))
}

pub fn read(path: &Path) -> Result<String, EnrolError> {
    fs::read_to_string(path).map_err(|source| failed("read", path, source))
}

pub fn open_lock(path: &Path) -> Result<File, EnrolError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(OWNER_ONLY)
        .open(path);
    file.map_err(|source| failed("open", path, source))
}

/// Puts a new file in the place of the one before.
pub fn replace(path: &Path, content: &str) -> Result<(), EnrolError> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::remove_file(&part).ok();
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_ONLY)
            .open(&part)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|source| failed("write", path, source))
}
