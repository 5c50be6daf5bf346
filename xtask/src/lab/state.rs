//! Makes the parts of a lab, and records each in a file before it is made, so that a crashed lab can be removed too:
//! in reverse order.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, process};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::lab::namespace;
use crate::lab::switch::{self, Datapath, Switch};
use crate::lab::topology::{Families, Topology};
use crate::signals;

/// The files of a lab. The path is short because socket paths are limited, and a reboot removes it like the namespaces.
const DIRECTORY: &str = "/run/kstamp-lab";

/// Makes IPv6 addresses usable at once, and the only ones.
const SYSCTLS: [(&str, &str); 6] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
];

/// One part of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "made", rename_all = "lowercase")]
pub(crate) enum Step {
    /// With all files in it.
    Directory { path: PathBuf },
    /// With its interfaces and processes.
    Namespace { name: String },
    /// An Open vSwitch instance.
    Switch { namespace: String, directory: PathBuf },
}

/// The record of one lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Differs from that of any later lab.
    pub(crate) id: String,
    /// The process that built it.
    pub(crate) owner: u32,
    pub(crate) topology: Topology,
    #[serde(default)]
    pub(crate) families: Families,
    /// In words.
    pub(crate) datapath: String,
    /// Whether it stays when its owner ends.
    pub(crate) kept: bool,
    /// In the order in which they were made.
    pub(crate) steps: Vec<Step>,
}

impl State {
    /// The record of a lab that has no parts yet.
    pub(crate) fn new(topology: Topology, families: Families, datapath: &str) -> Result<Self> {
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let state = Self {
            id: format!("{}-{}", process::id(), since.as_nanos()),
            owner: process::id(),
            topology,
            families,
            datapath: datapath.to_owned(),
            kept: false,
            steps: vec![Step::Directory { path: scratch() }],
        };
        state.save()?;
        Ok(state)
    }

    /// The record of the lab that is up, if one is.
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

    pub(crate) fn create_namespace(&mut self, name: &str) -> Result<()> {
        signals::check()?;
        self.record(Step::Namespace { name: name.to_owned() })?;
        if let Err(error) = namespace::create(name) {
            if format!("{error:#}").contains("File exists") {
                // Another program owns it.
                self.steps.pop();
                self.save()?;
                return Err(namespace::taken(name));
            }
            return Err(error);
        }
        namespace::set_sysctls(name, &SYSCTLS)
    }

    /// Makes a directory for the files of the processes in `namespace`.
    pub(crate) fn make_directory(&mut self, namespace: &str) -> Result<PathBuf> {
        let path = directory(namespace);
        self.record(Step::Directory { path: path.clone() })?;
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Starts an Open vSwitch instance in `namespace`.
    pub(crate) fn start_switch(&mut self, namespace: &str, datapath: Datapath) -> Result<Switch> {
        signals::check()?;
        let directory = self.make_directory(namespace)?;
        self.record(Step::Switch {
            namespace: namespace.to_owned(),
            directory: directory.clone(),
        })?;
        Switch::start(namespace, &directory, datapath)
    }

    fn record(&mut self, step: Step) -> Result<()> {
        self.steps.push(step);
        self.save()
    }

    /// Writes the record atomically.
    pub(crate) fn save(&self) -> Result<()> {
        let (path, draft) = (file(), Path::new(DIRECTORY).join("state.json.new"));
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&draft, text).with_context(|| format!("cannot write {}", draft.display()))?;
        fs::rename(&draft, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes all parts, the last one first, and then the record. A part that cannot be removed stays recorded.
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
            // Fails, as it should, if another program has put a file there.
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

/// The directory for the files of the processes in `namespace`.
pub(crate) fn directory(namespace: &str) -> PathBuf {
    Path::new(DIRECTORY).join(namespace)
}

/// A directory for files that are removed with the lab.
pub(crate) fn scratch() -> PathBuf {
    directory("scratch")
}

fn file() -> PathBuf {
    Path::new(DIRECTORY).join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_step_is_read_back() {
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
