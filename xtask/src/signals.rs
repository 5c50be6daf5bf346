//! Ctrl-C and its kin as a question (`received`) instead of a sudden end, so that what was made is removed.

use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// From now on SIGINT, SIGTERM and SIGHUP are noted, and do not end this process.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn catch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else, which is allowed in a handler.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot handle {signal}"))?;
    }
    Ok(())
}

/// The last signal that was noted, if any.
pub fn received() -> Option<Signal> {
    Signal::try_from(RECEIVED.load(Ordering::Relaxed)).ok()
}

/// Fails if a signal asked to stop.
///
/// # Errors
/// "interrupted by SIGINT", or what it was.
pub fn check() -> Result<()> {
    if let Some(signal) = received() {
        bail!("interrupted by {signal}");
    }
    Ok(())
}

extern "C" fn note(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}
