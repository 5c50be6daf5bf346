//! Guests that fail on purpose: each failure must be noticed in time, and reported with what the console shows.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::vm::machine::{self, Limits, Listener, System};

/// One way to fail.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// The arguments of the guest's first process.
    arguments: &'static str,
    /// Text in the error: how the guest ended, and a part of the console.
    error: [&'static str; 2],
    /// The limit of its life, from its first line.
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
        error: ["it printed nothing for 4s", "console.log"],
        life: Duration::from_secs(60),
    },
    Case {
        name: "a guest that never ends fails",
        arguments: "guest --fail endless",
        error: ["it was not done after 6s", "console.log"],
        life: Duration::from_secs(6),
    },
];

const SILENCE: Duration = Duration::from_secs(4);

/// How long after a limit a failure may be noticed.
const SLACK: Duration = Duration::from_secs(5);

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().map(|case| case.name)
}

/// Boots a guest for each case. Logs go below `directory`. Returns the outcomes by name.
pub(super) fn boot_all(system: System, directory: &Path) -> Vec<(&'static str, Result<()>)> {
    CASES.map(|case| (case.name, case.boot(system, directory))).into()
}

impl Case {
    fn boot(self, system: System, directory: &Path) -> Result<()> {
        let directory = directory.join(self.arguments.rsplit(' ').next().unwrap_or_default());
        let arguments = self.arguments;
        let system = System { arguments, ..system };
        let mut watch = Watch::default();
        let limits = Limits {
            boot: machine::BOOT_TIMEOUT,
            life: self.life,
            silence: SILENCE,
        };
        let outcome = machine::boot(system, &directory, limits, &mut watch);
        let Some(up) = watch.up else {
            bail!("it was not up: {outcome:?}");
        };
        let taken = up.elapsed();
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

/// Notes when the guest was up.
#[derive(Debug, Default)]
struct Watch {
    up: Option<Instant>,
}

impl Listener for Watch {
    fn line(&mut self, line: &str) {
        if line.starts_with("guest is up") {
            self.up = Some(Instant::now());
        }
    }

    fn part(&mut self, _name: &str, _success: bool) {}

    fn end(&mut self, _outcome: Result<()>) {}
}
