//! Notifies a service manager of readiness, status, reloads and the end, feeds its watchdog, and has it keep descriptors
//! (sd_notify(3)). Nothing happens without `NOTIFY_SOCKET`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::LazyLock;
use std::time::Duration;

use log::{debug, warn};
use sd_notify::NotifyState;

/// The watchdog is fed so often in each of its intervals: one late round of the main loop is no failure.
const FEEDS: u32 = 4;

/// Whether a service manager has started this process.
static IS_MANAGED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("NOTIFY_SOCKET").is_some());

pub fn is_managed() -> bool {
    *IS_MANAGED
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

fn notify<const N: usize>(states: impl FnOnce() -> io::Result<[NotifyState<'static>; N]>) {
    if is_managed() {
        let sent = states().and_then(|states| sd_notify::notify(&states));
        if let Err(error) = sent {
            debug!("cannot notify the service manager: {error}");
        }
    }
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
        let inherited = inherited();
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
            if self.kept.insert(name.clone()) {
                // systemd would drop a descriptor that polls as an error, as that of a map does.
                let states = [
                    NotifyState::FdStore,
                    NotifyState::Custom("FDPOLL=0"),
                    NotifyState::FdName(name),
                ];
                if let Err(error) = sd_notify::notify_with_fds(&states, &[*descriptor]) {
                    warn!("the service manager does not keep {name}: {error}; a restart will have a gap");
                }
            }
        }
        let is_wanted = |name: &String| wanted.iter().any(|(wanted, _)| wanted == name);
        for name in self.kept.extract_if(.., |name| !is_wanted(name)) {
            if let Err(error) = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name)]) {
                debug!("cannot notify the service manager: {error}");
            }
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
        let sent = sd_notify::notify(&[NotifyState::Status(&status), NotifyState::Ready]);
        if let Err(error) = sent {
            warn!("cannot notify the service manager that kstamp is ready: {error}; is NOTIFY_SOCKET right?");
        }
        self.status = status;
    }

    /// Passes a status that has changed.
    pub fn status(&mut self, status: String) {
        if is_managed() && status != self.status {
            if let Err(error) = sd_notify::notify(&[NotifyState::Status(&status)]) {
                debug!("cannot notify the service manager: {error}");
            }
            self.status = status;
        }
    }

    /// The main loop runs. Call it in its rounds and nowhere else: a loop that is stuck must not feed the watchdog.
    pub fn beat(&mut self, now_ns: u64) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.is_due(now_ns)) {
            notify(|| Ok([NotifyState::Watchdog]));
        }
    }

    /// The main loop has ended.
    pub fn stopping(&self) {
        notify(|| Ok([NotifyState::Stopping]));
    }
}

/// The descriptors that the manager has passed, by name.
fn inherited() -> Vec<(String, OwnedFd)> {
    if !is_managed() {
        return Vec::new();
    }
    match sd_notify::listen_fds_with_names() {
        Ok(passed) => {
            // SAFETY: the manager has opened them for this process, and only this takes them.
            let own = passed.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) }));
            own.collect()
        }
        Err(error) => {
            warn!("cannot take the descriptors of the service manager: {error}; starting afresh");
            Vec::new()
        }
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
            every_ns: (interval / FEEDS).as_nanos() as u64,
            due_ns: 0,
        }
    }

    fn is_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns >= self.due_ns;
        if is_due {
            self.due_ns = now_ns + self.every_ns;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_by_rounds_and_not_by_each_of_them() {
        let mut watchdog = Watchdog::new(Duration::from_secs(2));
        const MS: u64 = 1_000_000;
        let rounds = [5_000, 5_001, 5_499, 5_500, 5_900, 9_000, 9_001].map(|ms| watchdog.is_due(ms * MS));
        assert_eq!(rounds, [true, false, false, true, false, true, false]);
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
