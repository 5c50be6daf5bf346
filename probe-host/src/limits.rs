//! Limits on the descriptors and the memory of this process.

use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Descriptors of an agent with programs, all sockets and responders, and some to spare.
const OPEN_FILES: u64 = 96;
/// An agent takes most memory while it loads the programs. A test starts one with this limit.
pub const LOADING_MEMORY: u64 = 104 << 20;

const CGROUP: &str = "/proc/self/cgroup";
const CGROUPS: &str = "/sys/fs/cgroup";

#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error(
        "this process may open {limit} files, and kstamp needs {OPEN_FILES}; raise the limit with `ulimit -n {OPEN_FILES}`, \
         or with LimitNOFILE= of its service"
    )]
    OpenFiles { limit: u64 },
    #[error("cannot read the limit on open files: {0}")]
    Unknown(#[source] nix::Error),
}

/// Raises the limit on open files as far as this process may. Fails if that is too little.
pub fn raise_open_files() -> Result<(), LimitError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(LimitError::Unknown)?;
    let is_raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    match if is_raised { hard } else { soft } {
        limit if limit < OPEN_FILES => Err(LimitError::OpenFiles { limit }),
        _ => Ok(()),
    }
}

/// A limit on the memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryLimit {
    pub bytes: u64,
    /// Where it is set.
    pub set_by: &'static str,
}

/// The smallest limit, if there is one.
pub fn memory() -> Option<MemoryLimit> {
    let resources = [
        (Resource::RLIMIT_AS, "`ulimit -v`"),
        (Resource::RLIMIT_DATA, "`ulimit -d`"),
    ];
    let of_process = resources.into_iter().filter_map(|(resource, set_by)| {
        let (bytes, _) = getrlimit(resource).ok()?;
        (bytes != RLIM_INFINITY).then_some(MemoryLimit { bytes, set_by })
    });
    let of_cgroup = fs::read_to_string(CGROUP)
        .ok()
        .and_then(|line| cgroup_limit(&line, fs::read_to_string))
        .map(|bytes| MemoryLimit {
            bytes,
            set_by: "memory.max of its cgroup (MemoryMax= of a service, --memory of a container)",
        });
    of_process.chain(of_cgroup).min()
}

/// The smallest `memory.max` of this process's cgroup and of those above it.
fn cgroup_limit(of_process: &str, read: impl Fn(PathBuf) -> io::Result<String>) -> Option<u64> {
    let path = of_process.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let groups = Path::new(path).ancestors();
    let limits = groups.filter_map(|group| {
        let text = read(Path::new(CGROUPS).join(group).join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_cgroups_counts() {
        let read = |path: PathBuf| match path.to_str().unwrap() {
            "/sys/fs/cgroup/a/b/memory.max" => Ok("max\n".to_owned()),
            "/sys/fs/cgroup/a/memory.max" => Ok("33554432\n".to_owned()),
            "/sys/fs/cgroup/a/c/memory.max" => Ok("1048576\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        for (of_process, limit) in [
            ("0::/a/b\n", Some(32 << 20)),
            ("1:cpu:/x\n0::/a/c\n", Some(1 << 20)),
            ("0::/\n", None),
            ("4:memory:/a\n", None),
        ] {
            assert_eq!(cgroup_limit(of_process, read), limit, "{of_process}");
        }
    }

    #[test]
    fn the_message_has_both_figures() {
        let line = LimitError::OpenFiles { limit: 20 }.to_string();
        assert!(
            line.contains("may open 20 files") && line.contains("needs 96"),
            "{line}"
        );
    }
}
