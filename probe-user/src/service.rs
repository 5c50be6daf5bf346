//! Notifies a service manager of readiness, status, reloads and the end, feeds its watchdog, and has it keep descriptors
//! (sd_notify(3)). Nothing happens without `NOTIFY_SOCKET`.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use log::{debug, warn};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use sd_notify::NotifyState;

/// The watchdog is fed so often in each of its intervals: one late round of the main loop is no failure.
const FEEDS: u32 = 4;

/// A manager that is busy may take so long for a message that it must get.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The socket of the service manager that has started this process.
static SOCKET: LazyLock<Option<OsString>> =
    LazyLock::new(|| env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()));

/// The descriptors that the manager has passed, by name, until a [`Service`] takes them.
static INHERITED: Mutex<Vec<(String, OwnedFd)>> = Mutex::new(Vec::new());

pub fn is_managed() -> bool {
    SOCKET.is_some()
}

pub fn begin_reload() {
    notify(reloading);
}

pub fn end_reload() {
    notify(|| Ok([NotifyState::Ready]));
}

/// systemd wants the time, too, to tell this reload from an earlier one.
fn reloading() -> io::Result<[NotifyState<'static>; 2]> {
    Ok([NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

fn notify<'a, const N: usize>(states: impl FnOnce() -> io::Result<[NotifyState<'a>; N]>) {
    if is_managed() {
        let sent = states().and_then(|states| send(&states, &[], Wait::UntilTimeout));
        if let Err(error) = sent {
            debug!("cannot notify the service manager: {error}");
        }
    }
}

/// For room in the socket, whose manager may be busy or stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The main loop is not to wait for a message of which there will be more.
    No,
    UntilTimeout,
}

/// sd-notify would wait without an end.
fn send(states: &[NotifyState<'_>], descriptors: &[BorrowedFd<'_>], wait: Wait) -> io::Result<()> {
    match &*SOCKET {
        Some(path) => send_to(path, states, descriptors, wait),
        None => Ok(()),
    }
}

fn send_to(path: &OsStr, states: &[NotifyState<'_>], descriptors: &[BorrowedFd<'_>], wait: Wait) -> io::Result<()> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        path => UnixAddr::new(path),
    }?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let numbers: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    let rights = (!numbers.is_empty()).then_some(ControlMessage::ScmRights(&numbers));
    let flags = match wait {
        Wait::No => MsgFlags::MSG_DONTWAIT,
        Wait::UntilTimeout => MsgFlags::empty(),
    };
    let text = [IoSlice::new(text.as_bytes())];
    sendmsg(socket.as_raw_fd(), &text, rights.as_slice(), flags, Some(&address))?;
    Ok(())
}

/// The run of one command, as the service manager sees it.
pub struct Service {
    watchdog: Option<Watchdog>,
    status: String,
    inherited: Vec<(String, OwnedFd)>,
    /// Names of the descriptors that the manager has.
    kept: BTreeSet<String>,
}

impl Service {
    /// For the main loop, once in a process: it owns the descriptors that the manager has passed.
    pub fn new() -> Self {
        let watched = sd_notify::watchdog_enabled().filter(|_| is_managed());
        let inherited = std::mem::take(&mut *INHERITED.lock().unwrap_or_else(PoisonError::into_inner));
        Self {
            watchdog: watched.map(Watchdog::new),
            status: String::new(),
            kept: inherited.iter().map(|(name, _)| name.clone()).collect(),
            inherited,
        }
    }

    /// The descriptors that the manager has kept of the process before.
    pub fn take_inherited(&mut self) -> Vec<(String, OwnedFd)> {
        std::mem::take(&mut self.inherited)
    }

    /// Has the manager keep these descriptors, by name, and no others.
    pub fn keep(&mut self, wanted: &[(String, BorrowedFd<'_>)]) {
        if !is_managed() {
            return;
        }
        // The new ones first: whenever this process is killed, the next one gets one set that is complete.
        for (name, descriptor) in wanted {
            if self.kept.contains(name) {
                continue;
            }
            // systemd would drop a descriptor that polls as an error, as that of a map does.
            let states = [
                NotifyState::FdStore,
                NotifyState::Custom("FDPOLL=0"),
                NotifyState::FdName(name),
            ];
            match send(&states, &[*descriptor], Wait::UntilTimeout) {
                Ok(()) => drop(self.kept.insert(name.clone())),
                Err(error) => {
                    warn!("the service manager does not keep {name}: {error}; a restart will have a gap");
                    // Each of the others might wait as long.
                    break;
                }
            }
        }
        let is_wanted = |name: &String| wanted.iter().any(|(wanted, _)| wanted == name);
        for name in self.kept.extract_if(.., |name| !is_wanted(name)) {
            notify(|| Ok([NotifyState::FdStoreRemove, NotifyState::FdName(&name)]));
        }
    }

    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Everything is open and attached; `status` is one short line.
    pub fn ready(&mut self, status: String) {
        if !is_managed() {
            return;
        }
        let sent = send(
            &[NotifyState::Status(&status), NotifyState::Ready],
            &[],
            Wait::UntilTimeout,
        );
        if let Err(error) = sent {
            warn!("cannot notify the service manager that kstamp is ready: {error}; is NOTIFY_SOCKET right?");
        }
        self.status = status;
    }

    /// Passes a status that has changed.
    pub fn status(&mut self, status: String) {
        if status == self.status {
            return;
        }
        match send(&[NotifyState::Status(&status)], &[], Wait::No) {
            Ok(()) => self.status = status,
            Err(error) => debug!("cannot notify the service manager: {error}"),
        }
    }

    /// The main loop runs. Call it in its rounds and nowhere else: a loop that is stuck must not feed the watchdog.
    pub fn beat(&mut self, now_ns: u64) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.is_due(now_ns))
            && let Err(error) = send(&[NotifyState::Watchdog], &[], Wait::No)
        {
            debug!("cannot notify the service manager: {error}");
        }
    }

    /// The main loop has ended.
    pub fn stopping(&self) {
        notify(|| Ok([NotifyState::Stopping]));
    }
}

/// Takes the descriptors that the manager has passed.
///
/// # Safety
///
/// This process has opened nothing yet: the manager's number of descriptors may be wrong, and those of others must not be taken.
pub unsafe fn inherit_descriptors() {
    if !is_managed() {
        return;
    }
    match sd_notify::listen_fds_with_names() {
        Ok(passed) => {
            // SAFETY: each number is that of an open descriptor, or the list would have been an error; this process has opened
            // none (by this function's contract), so nothing else owns them.
            let own = passed.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) }));
            INHERITED.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
        }
        Err(error) => warn!("cannot take the descriptors of the service manager: {error}; starting afresh"),
    }
}

/// When the watchdog is fed.
#[derive(Debug)]
struct Watchdog {
    every_ns: u64,
    due_ns: u64,
}

impl Watchdog {
    /// `interval` is the longest silence that the service manager allows.
    fn new(interval: Duration) -> Self {
        Self {
            every_ns: u64::try_from((interval / FEEDS).as_nanos()).unwrap_or(u64::MAX),
            due_ns: 0,
        }
    }

    fn is_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns >= self.due_ns;
        if is_due {
            self.due_ns = now_ns.saturating_add(self.every_ns);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_watchdog_is_fed_by_rounds_and_not_by_each_of_them() {
        let mut watchdog = Watchdog::new(Duration::from_secs(2));
        const MS: u64 = 1_000_000;
        let rounds = [5_000, 5_001, 5_499, 5_500, 5_900, 9_000, 9_001].map(|ms| watchdog.is_due(ms * MS));
        assert_eq!(rounds, [true, false, false, true, false, true, false]);
        let mut endless = Watchdog::new(Duration::MAX);
        assert_eq!([5, 6].map(|now_ns| endless.is_due(now_ns)), [true, false]);
    }

    #[test]
    fn a_manager_that_reads_nothing_does_not_stop_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let send = |wait| send_to(path.as_os_str(), &[NotifyState::Watchdog], &[], wait);
        let sent = (0..).take_while(|_| send(Wait::No).is_ok()).count();
        assert!(sent > 0);
        let begin = Instant::now();
        assert_eq!(send(Wait::No).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(begin.elapsed() < SEND_TIMEOUT);
        assert_eq!(send(Wait::UntilTimeout).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!((SEND_TIMEOUT..5 * SEND_TIMEOUT).contains(&begin.elapsed()));
        let mut message = [0; 64];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"WATCHDOG=1\n");
        send(Wait::No).unwrap();
    }

    #[test]
    fn a_socket_may_have_an_abstract_name() {
        let name = format!("kstamp-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send_to(format!("@{name}").as_ref(), &[NotifyState::Ready], &[], Wait::No).unwrap();
        let mut message = [0; 64];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1\n");
    }

    #[test]
    fn a_reload_names_its_time() {
        let text = reloading().unwrap().map(|state| state.to_string());
        assert_eq!(text[0], "RELOADING=1");
        let time: u64 = text[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        let now = probe_host::clock::monotonic_ns() / 1_000;
        assert!((now.saturating_sub(1_000_000)..=now).contains(&time), "{time}, {now}");
    }
}
