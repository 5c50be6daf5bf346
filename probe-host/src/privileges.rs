//! Drops privileges that are not needed after everything is opened and attached.

use std::fs;

pub use caps::Capability;
use caps::errors::CapsError;
use caps::securebits::set_keepcaps;
use caps::{CapSet, CapsHashSet};
use nix::unistd::{User, geteuid, initgroups, setresgid, setresuid};

/// Privileges could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user, or the lookup failed.
    #[error("there is no user '{0}'; `getent passwd` lists the users")]
    NoUser(String),
    #[error("cannot {what}: {source}; without --user this is not needed")]
    Identity { what: String, source: nix::Error },
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] CapsError),
    #[error("cannot forbid new privileges: {0}")]
    NewPrivileges(#[source] nix::Error),
}

/// The remaining privileges of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// Name of the user, or the number without a name.
    pub user: String,
    /// Effective capabilities by name, sorted.
    pub capabilities: Vec<String>,
}

/// Fails if the user does not exist.
pub fn check_user(name: &str) -> Result<(), PrivilegeError> {
    find(name).map(drop)
}

/// Becomes `user`, if one is given. Keeps only the capabilities in `keep`, and `CAP_NET_BIND_SERVICE` if one of `ports`
/// needs it. Children cannot regain any.
///
/// Call it before there are more threads: capabilities belong to a thread, and new threads inherit them.
pub fn reduce(user: Option<&str>, keep: &[Capability], ports: &[u16]) -> Result<Privileges, PrivilegeError> {
    let user = user.map(find).transpose()?;
    let mut wanted: CapsHashSet = keep.iter().copied().collect();
    let unprivileged = first_unprivileged_port();
    if ports.iter().any(|&port| port < unprivileged) {
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
    // In this order: effective capabilities must be permitted.
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

/// Has the capabilities of this thread survive a change of the process's user by [`reduce`], until [`keep_of_thread`].
pub fn hold_capabilities() -> Result<(), PrivilegeError> {
    Ok(set_keepcaps(true)?)
}

/// Gives up the capabilities of this thread, which was started before [`reduce`], except those in `keep`.
pub fn keep_of_thread(keep: &[Capability]) -> Result<(), PrivilegeError> {
    let wanted: CapsHashSet = keep.iter().copied().collect();
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept = permitted.intersection(&wanted).copied().collect();
    // In this order: effective capabilities must be permitted.
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::clear(None, CapSet::Ambient)?;
    Ok(caps::clear(None, CapSet::Inheritable)?)
}

/// Gives up all capabilities of this thread, which was started before [`reduce`].
pub fn drop_all_of_thread() {
    // To give up one's own cannot fail, but where the kernel does not know the ambient ones.
    let _ = keep_of_thread(&[]);
}

fn find(name: &str) -> Result<User, PrivilegeError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        _ => Err(PrivilegeError::NoUser(name.to_owned())),
    }
}

/// Changes groups and user. Keeps permitted capabilities, but none is effective any more.
fn become_user(user: &User) -> Result<(), PrivilegeError> {
    let failed = |what: &str| {
        let what = format!("{what} {}", user.name);
        move |source| PrivilegeError::Identity { what, source }
    };
    set_keepcaps(true)?;
    // Names in the user database have no zero byte.
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

/// Lower ports need a capability (`ip_unprivileged_port_start`).
fn first_unprivileged_port() -> u16 {
    const USUAL: u16 = 1024;
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Changes the user of this thread alone, as the C library has each thread do.
    fn become_nobody() {
        const NOBODY: libc::uid_t = 65_534;
        // SAFETY: the call has no pointer.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(result, 0);
    }

    #[test]
    fn a_thread_keeps_what_it_needs_and_no_more_when_the_process_changes_its_user() {
        if !geteuid().is_root() {
            return println!("SKIPPED: changing the user needs root");
        }
        for keep in [&[][..], &[Capability::CAP_NET_ADMIN]] {
            let thread = thread::spawn(move || {
                hold_capabilities().unwrap();
                become_nobody();
                keep_of_thread(keep).unwrap();
                [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable].map(|set| caps::read(None, set).unwrap())
            });
            let kept: CapsHashSet = keep.iter().copied().collect();
            assert_eq!(thread.join().unwrap(), [kept.clone(), kept, CapsHashSet::new()]);
        }
    }
}
