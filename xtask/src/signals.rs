//! Records Ctrl-C, SIGTERM and SIGHUP, so that a lab is removed before the process ends.

use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// From now on SIGINT, SIGTERM and SIGHUP are recorded and do not end this process.
pub fn catch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(record), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else, which is allowed in a handler.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot handle {signal}"))?;
    }
    Ok(())
}

/// Blocks SIGINT and SIGTERM in this thread and those that it starts; wait for them with `SigSet::wait`.
pub fn block() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    Ok(signals)
}

/// The last signal recorded.
pub fn received() -> Option<Signal> {
    Signal::try_from(RECEIVED.load(Ordering::Relaxed)).ok()
}

/// Fails if a signal was received.
pub fn check() -> Result<()> {
    if let Some(signal) = received() {
        bail!("interrupted by {signal}");
    }
    Ok(())
}

extern "C" fn record(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}
