//! Guests that fail on purpose: whoever waits for a guest must notice, say what happened, and not wait for long.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Listener,
    machine::{self, Limits, System},
};

/// One way to fail.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// As people read it.
    name: &'static str,
    /// As the guest's first process takes it.
    arguments: &'static str,
    /// What must be said of it: the end, and what only the console knows.
    said: [&'static str; 2],
    /// The longest time it may live.
    life: Duration,
}

const CASES: [Case; 3] = [
    Case {
        name: "a guest that panics fails, with the console's last words",
        arguments: "guest --fail panic",
        said: ["it ended before its suite did", "Kernel panic"],
        life: Duration::from_secs(60),
    },
    Case {
        name: "a guest that falls silent fails",
        arguments: "guest --fail silence",
        said: ["it said nothing for 12s", "console.log"],
        life: Duration::from_secs(60),
    },
    Case {
        name: "a guest that never ends fails",
        arguments: "guest --fail endless",
        said: ["it was not done after 18s", "console.log"],
        life: Duration::from_secs(18),
    },
];

/// How long each may be silent: to boot, three at the same time, takes less.
const SILENCE: Duration = Duration::from_secs(12);

/// How long after a limit it may take until it is noticed.
const SLACK: Duration = Duration::from_secs(5);

/// The names of all cases.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().map(|case| case.name)
}

/// Boots a guest for each case, all at the same time; what came of each, by name.
pub(super) fn boot_all(kernel: &Path, archive: &Path, directory: &Path) -> Vec<(&'static str, Result<()>)> {
    thread::scope(|scope| {
        let boot = |case: Case| scope.spawn(move || (case.name, case.boot(kernel, archive, directory)));
        let running: Vec<_> = CASES.into_iter().map(boot).collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

impl Case {
    fn boot(self, kernel: &Path, archive: &Path, directory: &Path) -> Result<()> {
        let directory = directory.join(self.arguments.rsplit(' ').next().unwrap_or_default());
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let arguments = self.arguments;
        let system = System {
            kernel,
            archive,
            arguments,
        };
        let mut heard = Heard::default();
        let limits = Limits {
            life: self.life,
            silence: SILENCE,
        };
        let begin = Instant::now();
        let outcome = machine::boot(system, &directory, limits, &mut heard);
        let taken = begin.elapsed();
        ensure!(heard.up, "it was not up within {taken:.1?}: {outcome:?}");
        let error = outcome.err().context("it did not fail")?;
        let text = format!("{error:#}");
        ensure!(
            self.said.iter().all(|words| text.contains(words)),
            "it failed otherwise: {text}"
        );
        ensure!(taken < self.life + SLACK, "noticed after {taken:.1?} only");
        Ok(())
    }
}

/// Whether the guest was up before it failed.
#[derive(Debug, Default)]
struct Heard {
    up: bool,
}

impl Listener for Heard {
    fn line(&mut self, line: &str) {
        self.up |= line.starts_with("guest is up");
    }

    fn part(&mut self, _name: &str, _success: bool) {}

    fn end(&mut self, _outcome: Result<()>) {}
}
