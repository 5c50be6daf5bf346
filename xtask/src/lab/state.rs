//! What a lab has made, kept in a file while it stands, so that it can be removed after a crash too.
//!
//! Every step is recorded before it is done, and undone in reverse order.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{namespace, switch};

/// Everything a lab keeps besides namespaces. Short, since socket paths are limited, and gone after a reboot, as namespaces are.
pub(crate) const DIRECTORY: &str = "/run/kstamp-lab";

/// One thing that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "made", rename_all = "lowercase")]
pub(crate) enum Step {
    /// A directory and all in it.
    Directory { path: PathBuf },
    /// A network namespace, with its interfaces and processes.
    Namespace { name: String },
    /// An Open vSwitch instance.
    Switch { namespace: String, directory: PathBuf },
}

/// The record of one lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Tells this lab from one built later.
    pub(crate) id: String,
    /// The process that built it.
    pub(crate) owner: u32,
    /// The topology's name.
    pub(crate) topology: String,
    /// Where packets are switched, in words.
    pub(crate) datapath: String,
    /// Whether it stays when its owner ends.
    pub(crate) kept: bool,
    /// What was made, in order.
    pub(crate) steps: Vec<Step>,
}

impl State {
    /// The record of a lab of which nothing is made yet.
    pub(crate) fn new(topology: &str, datapath: &str) -> Result<Self> {
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let state = Self {
            id: format!("{}-{}", process::id(), since.as_nanos()),
            owner: process::id(),
            topology: topology.to_owned(),
            datapath: datapath.to_owned(),
            kept: false,
            steps: vec![Step::Directory { path: scratch() }],
        };
        state.save()?;
        Ok(state)
    }

    /// The record of the lab that stands, if one does.
    pub(crate) fn load() -> Result<Option<Self>> {
        let path = file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: remove it, and the namespaces by hand", path.display()))
            .map(Some)
    }

    /// Notes that `step` is about to be made.
    pub(crate) fn record(&mut self, step: Step) -> Result<()> {
        self.steps.push(step);
        self.save()
    }

    /// Takes the last record back: the step turned out not to be ours.
    pub(crate) fn withdraw(&mut self) -> Result<()> {
        self.steps.pop();
        self.save()
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn save(&self) -> Result<()> {
        let (path, draft) = (file(), Path::new(DIRECTORY).join("state.json.new"));
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&draft, text).with_context(|| format!("cannot write {}", draft.display()))?;
        fs::rename(&draft, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes all that was made, last first, and then the record. What cannot be removed stays recorded.
    pub(crate) fn undo(&mut self) -> Result<()> {
        let mut left = Vec::new();
        let mut problems = Vec::new();
        while let Some(step) = self.steps.pop() {
            if let Err(error) = step.undo() {
                problems.push(format!("{error:#}"));
                left.push(step);
            }
        }
        if problems.is_empty() {
            fs::remove_file(file()).context("cannot remove the lab's record")?;
            // Not empty if somebody put something there: it is theirs.
            let _ = fs::remove_dir(DIRECTORY);
            return Ok(());
        }
        left.reverse();
        self.steps = left;
        self.save()?;
        bail!(
            "could not remove all of the lab (cargo xtask lab down tries again): {}",
            problems.join("; ")
        );
    }
}

impl Step {
    fn undo(&self) -> Result<()> {
        match self {
            Self::Directory { path } => match fs::remove_dir_all(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", path.display()))
                }
                _ => Ok(()),
            },
            Self::Namespace { name } => namespace::delete(name),
            Self::Switch { namespace, directory } => switch::stop(namespace, directory),
        }
    }
}

/// A directory for files that are to go with the lab.
pub(crate) fn scratch() -> PathBuf {
    Path::new(DIRECTORY).join("scratch")
}

fn file() -> PathBuf {
    Path::new(DIRECTORY).join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_being_written_and_read() {
        let step = Step::Switch {
            namespace: "switch1".into(),
            directory: "/run/kstamp-lab/switch1".into(),
        };
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(
            text,
            r#"{"made":"switch","namespace":"switch1","directory":"/run/kstamp-lab/switch1"}"#
        );
        assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), step);
    }
}
