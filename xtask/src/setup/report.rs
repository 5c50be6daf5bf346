//! What set-up prints, and whether it only prints.

/// What to do about a thing that is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Install,
    Check,
}

/// Prints one line about one thing to stderr.
pub(super) fn say(what: &str, how: &str) {
    eprintln!("setup: {what}: {how}");
}
