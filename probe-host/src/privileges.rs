//! Giving up what is no longer needed once everything is opened and attached.

use std::fs;

pub use caps::Capability;
use caps::errors::CapsError;
use caps::securebits::set_keepcaps;
use caps::{CapSet, CapsHashSet};
use nix::unistd::{User, geteuid, initgroups, setresgid, setresuid};

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user, or none that can be looked up.
    #[error("there is no user '{0}'; `getent passwd` lists the users")]
    NoUser(String),
    /// The kernel refused.
    #[error("cannot {what}: {source}; without --user this is not needed")]
    Identity {
        /// What was to be done.
        what: String,
        /// What the kernel said.
        #[source]
        source: nix::Error,
    },
    /// The kernel refused.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] CapsError),
    /// The kernel refused.
    #[error("cannot forbid new privileges: {0}")]
    NewPrivileges(#[source] nix::Error),
}

/// What this process may do from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// The user's name, or number where it has none.
    pub user: String,
    /// Capabilities in use, by name, sorted.
    pub capabilities: Vec<String>,
}

/// Refuses a user that does not exist.
///
/// # Errors
/// [`PrivilegeError::NoUser`].
pub fn check_user(name: &str) -> Result<(), PrivilegeError> {
    find(name).map(drop)
}

/// Becomes `user`, if one is given, and keeps only the capabilities in `keep`, and `CAP_NET_BIND_SERVICE` if
/// `test_port` needs it. Children cannot regain any.
///
/// Call it while there is one thread: capabilities are each thread's own, and later threads inherit them.
///
/// # Errors
/// What the kernel refused.
pub fn reduce(user: Option<&str>, keep: &[Capability], test_port: u16) -> Result<Privileges, PrivilegeError> {
    let user = user.map(find).transpose()?;
    let mut wanted: CapsHashSet = keep.iter().copied().collect();
    if test_port < first_unprivileged_port() {
        wanted.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    let kept: CapsHashSet = caps::read(None, CapSet::Permitted)?
        .intersection(&wanted)
        .copied()
        .collect();
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for lost in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *lost)?;
        }
    }
    if let Some(user) = &user {
        become_user(user)?;
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // In this order: what is in effect has to be permitted.
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    nix::sys::prctl::set_no_new_privs().map_err(PrivilegeError::NewPrivileges)?;
    let mut capabilities: Vec<_> = kept.iter().map(ToString::to_string).collect();
    capabilities.sort_unstable();
    Ok(Privileges {
        user: name_of_user(),
        capabilities,
    })
}

fn find(name: &str) -> Result<User, PrivilegeError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        _ => Err(PrivilegeError::NoUser(name.to_owned())),
    }
}

/// Changes groups and user, and keeps what is permitted, though nothing of it in effect.
fn become_user(user: &User) -> Result<(), PrivilegeError> {
    let failed = |what: &str| {
        let what = format!("{what} {}", user.name);
        move |source| PrivilegeError::Identity { what, source }
    };
    set_keepcaps(true)?;
    // A user's name that came out of the user database has no zero byte in it.
    let name = std::ffi::CString::new(user.name.as_str()).unwrap_or_default();
    initgroups(&name, user.gid).map_err(failed("take the groups of"))?;
    setresgid(user.gid, user.gid, user.gid).map_err(failed("take the group of"))?;
    setresuid(user.uid, user.uid, user.uid).map_err(failed("become"))?;
    Ok(set_keepcaps(false)?)
}

fn name_of_user() -> String {
    let uid = geteuid();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// Ports below take a capability (`ip_unprivileged_port_start`).
fn first_unprivileged_port() -> u16 {
    const USUAL: u16 = 1024;
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL)
}
