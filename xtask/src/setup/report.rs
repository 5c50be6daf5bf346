//! Output and mode of set-up.

/// Whether to install missing programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Install,
    Check,
}

/// Prints one line about one thing to stderr.
pub(super) fn say(what: &str, how: &str) {
    eprintln!("setup: {what}: {how}");
}
