//! Guests that fail on purpose: each failure must be noticed in time, and reported with what the console shows.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::machine::{self, Limits, Listener, System};

/// One way to fail.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// The arguments of the guest's first process.
    arguments: &'static str,
    /// Text in the error: how the guest ended, and a part of the console.
    error: [&'static str; 2],
    /// Longest run time.
    life: Duration,
}

const CASES: [Case; 3] = [
    Case {
        name: "a guest that panics fails, with the console's last words",
        arguments: "guest --fail panic",
        error: ["it ended before its suite did", "Kernel panic"],
        life: Duration::from_secs(60),
    },
    Case {
        name: "a guest that falls silent fails",
        arguments: "guest --fail silence",
        error: ["it said nothing for 12s", "console.log"],
        life: Duration::from_secs(60),
    },
    Case {
        name: "a guest that never ends fails",
        arguments: "guest --fail endless",
        error: ["it was not done after 18s", "console.log"],
        life: Duration::from_secs(18),
    },
];

/// The limit of silence, longer than three guests take to boot at the same time.
const SILENCE: Duration = Duration::from_secs(12);

/// How long after a limit a failure may be noticed.
const SLACK: Duration = Duration::from_secs(5);

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().map(|case| case.name)
}

/// Boots a guest for each case, all at the same time. Logs go below `directory`. Returns the outcomes by name.
pub(super) fn boot_all(system: System, directory: &Path) -> Vec<(&'static str, Result<()>)> {
    thread::scope(|scope| {
        let boot = |case: Case| scope.spawn(move || (case.name, case.boot(system, directory)));
        let running: Vec<_> = CASES.into_iter().map(boot).collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

impl Case {
    fn boot(self, system: System, directory: &Path) -> Result<()> {
        let directory = directory.join(self.arguments.rsplit(' ').next().unwrap_or_default());
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let arguments = self.arguments;
        let system = System { arguments, ..system };
        let mut watch = Watch::default();
        let limits = Limits {
            life: self.life,
            silence: SILENCE,
        };
        let begin = Instant::now();
        let outcome = machine::boot(system, &directory, limits, &mut watch);
        let taken = begin.elapsed();
        ensure!(watch.up, "it was not up within {taken:.1?}: {outcome:?}");
        let error = outcome.err().context("it did not fail")?;
        let text = format!("{error:#}");
        ensure!(
            self.error.iter().all(|part| text.contains(part)),
            "it failed otherwise: {text}"
        );
        ensure!(taken < self.life + SLACK, "noticed after {taken:.1?} only");
        Ok(())
    }
}

/// Notes whether the guest was up before it failed.
#[derive(Debug, Default)]
struct Watch {
    up: bool,
}

impl Listener for Watch {
    fn line(&mut self, line: &str) {
        self.up |= line.starts_with("guest is up");
    }

    fn part(&mut self, _name: &str, _success: bool) {}

    fn end(&mut self, _outcome: Result<()>) {}
}
