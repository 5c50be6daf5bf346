//! The end of a run, by a signal or by an output that cannot be written. SIGHUP opens files again, and has the configuration
//! read again. SIGUSR2 ends a run that another process follows.

use std::io;
use std::time::Duration;

use log::{info, warn};
use nix::sys::signal::{self, SigHandler};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::output::sink::{Control, OutputError, Sink};
use crate::service;

/// How long the reader may take for the last records after a signal.
const LAST_RECORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Read the configuration again, by a [`Reloader`](super::reload::Reloader). Files are opened again already.
    Reload,
    End,
}

/// Catches SIGINT, SIGTERM, SIGUSR2 and SIGHUP.
pub struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
    /// `RestartKillSignal=` of the units.
    replace: Signal,
    is_followed: bool,
    hangup: Signal,
    /// SIGHUP was ignored from the start, as by nohup: it opens files and reads the configuration again, and never ends the run.
    survives_hangup: bool,
    /// SIGHUP also has the configuration read again.
    reloads: bool,
    /// A signal has ended the run.
    is_signalled: bool,
    results: Control,
    samples: Option<Control>,
}

impl Shutdown {
    pub fn new(results: Control, samples: Option<Control>) -> io::Result<Self> {
        // SAFETY: no handler runs, and SIGHUP has none of this process yet.
        let former = unsafe { signal::signal(signal::Signal::SIGHUP, SigHandler::SigIgn) }?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            replace: signal(SignalKind::user_defined2())?,
            is_followed: false,
            hangup: signal(SignalKind::hangup())?,
            survives_hangup: matches!(former, SigHandler::SigIgn),
            reloads: false,
            is_signalled: false,
            results,
            samples,
        })
    }

    /// From now on, SIGHUP asks for a reload, too.
    pub fn set_reloads(&mut self, reloads: bool) {
        self.reloads = reloads;
    }

    /// Other outputs have taken the place of those before.
    pub fn set_outputs(&mut self, (results, samples): (Control, Option<Control>)) {
        (self.results, self.samples) = (results, samples);
    }

    /// Returns when the run is to end. Cancel safe.
    pub async fn requested(&mut self) {
        while self.request().await == Request::Reload {}
    }

    /// Returns when the run is to end or to change. Cancel safe.
    pub async fn request(&mut self) -> Request {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.replace.recv() => {
                    self.is_followed = true;
                    break;
                }
                _ = self.hangup.recv() => {
                    service::begin_reload();
                    let is_reopened = reopen(&self.results, self.samples.as_ref());
                    if self.reloads {
                        return Request::Reload;
                    }
                    service::end_reload();
                    if !is_reopened && !self.survives_hangup {
                        break;
                    }
                }
                // The next record, or the last one, returns the error.
                () = self.results.failed() => return Request::End,
            }
        }
        self.is_signalled = true;
        Request::End
    }

    /// Whether the run ends because another process follows.
    pub fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// Waits until the readers have taken what is left. After a signal this time is bounded, and another signal ends it.
    /// SIGHUP does so only if it also ends a run.
    pub async fn deliver(&mut self, mut results: Sink, mut samples: Option<Sink>) -> Result<(), OutputError> {
        let limit = match self.is_signalled {
            true => LAST_RECORDS_TIMEOUT,
            false => Duration::MAX,
        };
        let goes_on = self.reloads || self.survives_hangup;
        let both = async {
            let samples = match &mut samples {
                Some(samples) => samples.delivered().await,
                None => Ok(()),
            };
            (samples, results.delivered().await)
        };
        let delivered = tokio::select! {
            biased;
            delivered = timeout(limit, both) => delivered.ok(),
            _ = self.interrupt.recv() => None,
            _ = self.terminate.recv() => None,
            () = left(&mut self.hangup, || goes_on | reopen(&self.results, self.samples.as_ref())) => None,
        };
        let (samples, results) = delivered.unwrap_or_else(|| {
            let samples = samples.as_mut().map_or(Ok(()), Sink::abandon);
            (samples, results.abandon())
        });
        if let Err(error) = samples {
            warn!("{error}; samples are missing");
        }
        results
    }
}

/// Has files opened again. Returns false if there are none: then the terminal is gone, unless a service manager has sent the
/// signal.
fn reopen(results: &Control, samples: Option<&Control>) -> bool {
    let samples = samples.is_some_and(Control::reopen);
    let is_reopened = results.reopen() | samples;
    if is_reopened {
        info!("SIGHUP: files are opened again");
    }
    is_reopened || service::is_managed()
}

/// Returns at a SIGHUP for which `goes_on` is false.
async fn left(hangup: &mut Signal, goes_on: impl Fn() -> bool) {
    loop {
        hangup.recv().await;
        if !goes_on() {
            return;
        }
    }
}
