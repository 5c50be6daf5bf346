//! The place of the measurements: the lab's veth pair, on an idle or a busy machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::exec::{self, KillOnDrop};
use crate::lab::{AgentNs, Lab, Options, Topology, end_with_parent};

/// A veth pair, and the kstamp to run there.
#[derive(Debug)]
pub(super) struct Place {
    lab: Lab,
    pub(super) near: AgentNs,
    pub(super) far: AgentNs,
    pub(super) kstamp: PathBuf,
    pub(super) scratch: PathBuf,
}

impl Place {
    pub(super) fn up(kstamp: &Path) -> Result<Self> {
        let lab = Lab::up(Topology::Veth, &Options::default())?;
        let [near, far] = lab.pair().map(Clone::clone);
        Ok(Self {
            near,
            far,
            kstamp: kstamp.to_path_buf(),
            scratch: lab.scratch()?,
            lab,
        })
    }

    /// A command at the near end, which sends.
    pub(super) fn at_near<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        self.lab.command(&self.near.namespace, program, arguments)
    }

    /// A command at the far end, which answers.
    pub(super) fn at_far<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        self.lab.command(&self.far.namespace, program, arguments)
    }

    pub(super) fn target(&self) -> String {
        self.far.v4.to_string()
    }

    /// A file that a tool may write.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Moves the calling thread into the near end's namespace, where it can read `/proc/thread-self/net`.
    pub(super) fn enter_near(&self) -> Result<()> {
        let path = Path::new("/run/netns").join(&self.near.namespace);
        let file = std::fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", path.display()))
    }
}

/// Starts processes that use a core each.
pub(super) fn start_busy_processes(number: usize) -> Result<Vec<KillOnDrop>> {
    let start = |_| {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        end_with_parent(&mut command);
        exec::spawn(&mut command).map(KillOnDrop)
    };
    (0..number).map(start).collect()
}

pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
