//! Where the tools run: the two ends of the lab's veth pair.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::lab::{AgentNs, Lab, Options, Topology};

/// A veth pair, and the kstamp to run there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) lab: Lab,
    pub(super) near: AgentNs,
    pub(super) far: AgentNs,
    pub(super) kstamp: PathBuf,
    pub(super) scratch: PathBuf,
}

impl Place {
    pub(super) fn up(kstamp: &Path) -> Result<Self> {
        let lab = Lab::up(Topology::Veth, &Options::default())?;
        let [near, far] = lab.agents() else {
            bail!("a veth lab without two ends")
        };
        Ok(Self {
            near: near.clone(),
            far: far.clone(),
            kstamp: kstamp.to_path_buf(),
            scratch: lab.scratch()?,
            lab,
        })
    }

    /// A command at the near end, which sends.
    pub(super) fn at_near<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        self.lab.command(&self.near.namespace, program, arguments)
    }

    /// A command at the far end, which answers.
    pub(super) fn at_far<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        self.lab.command(&self.far.namespace, program, arguments)
    }

    /// The far end's address, as text.
    pub(super) fn target(&self) -> String {
        self.far.v4.to_string()
    }

    /// A file that a tool may write.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Puts the calling thread into the near end's namespace, where it can read `/proc/thread-self/net`.
    pub(super) fn enter_near(&self) -> Result<()> {
        let path = Path::new("/run/netns").join(&self.near.namespace);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", path.display()))
    }
}
