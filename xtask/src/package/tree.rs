//! The files of a package below one directory, with modes and times that depend on nothing but the source.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::package::program::scratch;
use crate::{exec, workspace};

pub(super) struct Tree {
    directory: TempDir,
    pub(super) version: String,
    /// The licences of all that is in it.
    pub(super) licences: Vec<String>,
    /// The time of the source in seconds, which all files get.
    pub(super) epoch: u64,
}

impl Tree {
    pub(super) fn new(version: &str, licences: Vec<String>) -> Result<Self> {
        Ok(Self {
            directory: scratch()?,
            version: version.to_owned(),
            licences,
            epoch: epoch()?,
        })
    }

    /// The directory that becomes `/`.
    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a file in the tree, whose directory is made.
    pub(super) fn make_place(&self, path: &str) -> Result<PathBuf> {
        let path = self.root().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        Ok(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.make_place(path)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The paths of all files, from the root, sorted.
    pub(super) fn find(&self) -> Result<Vec<String>> {
        let found = exec::capture(Command::new("find").args(["-type", "f"]).current_dir(self.root()))?;
        let mut paths: Vec<_> = found
            .lines()
            .map(|line| line.trim_start_matches("./").to_owned())
            .collect();
        paths.sort();
        Ok(paths)
    }

    /// The paths of files that belong to the user after installation.
    pub(super) fn configuration(&self) -> Result<Vec<String>> {
        let mut paths = self.find()?;
        paths.retain(|path| path.starts_with("etc/"));
        Ok(paths)
    }

    /// The space that the files take, as Debian counts it.
    pub(super) fn kibibytes(&self) -> Result<u64> {
        let sizes = self
            .find()?
            .into_iter()
            .map(|path| Ok(self.root().join(path).metadata()?.len().div_ceil(1024)));
        sizes.sum()
    }

    /// Gives all files and directories their modes and times.
    pub(super) fn settle(&self) -> Result<()> {
        let time = UNIX_EPOCH + Duration::from_secs(self.epoch);
        let mut paths: Vec<_> = self.find()?.into_iter().map(|path| self.root().join(path)).collect();
        let directories = paths
            .iter()
            .flat_map(|path| path.ancestors().skip(1))
            .map(Path::to_path_buf);
        let mut directories: Vec<_> = directories.filter(|path| path.starts_with(self.root())).collect();
        // The deepest first.
        directories.sort_by(|one, other| other.cmp(one));
        directories.dedup();
        paths.append(&mut directories);
        for path in paths {
            let is_program = path.is_dir() || path.parent().is_some_and(|parent| parent.ends_with("bin"));
            let mode = if is_program { 0o755 } else { 0o644 };
            let set = || {
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
                File::open(&path)?.set_modified(time)
            };
            set().with_context(|| format!("cannot set mode and time of {}", path.display()))?;
        }
        Ok(())
    }
}

/// `SOURCE_DATE_EPOCH`, else the time of the last commit.
pub(crate) fn epoch() -> Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => exec::capture(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(workspace::root()),
        )?,
    };
    match text.trim().parse() {
        Ok(seconds) => Ok(seconds),
        Err(_) => bail!(
            "SOURCE_DATE_EPOCH is '{}', which is not a number of seconds",
            text.trim()
        ),
    }
}
