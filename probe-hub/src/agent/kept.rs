//! The newest assignment, on disk: an agent that starts while the hub is away probes its last one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use log::warn;
use nkeys::KeyPair;

use crate::agent::log_lines::Said;
use crate::message::assignment::Assignment;
use crate::name::PortName;

const FILE: &str = "assignment";

#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    hub: KeyPair,
    port: PortName,
    /// Of the newest one.
    generation: u64,
    ignored: Said,
    unwritten: Said,
}

impl Kept {
    pub fn new(directory: &Path, hub: KeyPair, port: PortName) -> Self {
        Self {
            path: directory.join(FILE),
            hub,
            port,
            generation: 0,
            ignored: Said::default(),
            unwritten: Said::default(),
        }
    }

    /// The one that was in force when the process before ended. Its signature is checked again.
    pub fn load(&mut self) -> Option<Assignment> {
        let file = match fs::read(&self.path) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    warn!("cannot read the last assignment from {}: {error}", self.path.display());
                }
                return None;
            }
        };
        let end = file.iter().position(|byte| *byte == b'\n')?;
        let (signature, content) = (std::str::from_utf8(&file[..end]).ok()?, &file[end + 1..]);
        self.newer(content, signature)
    }

    /// Reads an assignment, and keeps it if it is the newest. Others are ignored; the reason is said once.
    pub fn take(&mut self, content: &[u8], signature: &str) -> Option<Assignment> {
        let assignment = self.newer(content, signature)?;
        let unfinished = self.path.with_extension("new");
        let file = [signature.as_bytes(), b"\n", content].concat();
        let written = fs::write(&unfinished, file).and_then(|()| fs::rename(&unfinished, &self.path));
        if let Err(error) = written
            && self.unwritten.is_new(&error.to_string())
        {
            warn!(
                "the assignment cannot be kept in {}: {error}. After a restart, this port probes no peers until the hub is there",
                self.path.display()
            );
        }
        Some(assignment)
    }

    fn newer(&mut self, content: &[u8], signature: &str) -> Option<Assignment> {
        match Assignment::verify(content, signature, &self.hub, &self.port) {
            Ok(assignment) => {
                self.ignored.clear();
                let is_newer = assignment.generation > self.generation;
                is_newer.then(|| {
                    self.generation = assignment.generation;
                    assignment
                })
            }
            Err(error) => {
                let why = error.to_string();
                if self.ignored.is_new(&why) {
                    warn!(
                        "an assignment is ignored: {why}. If the hub has a new key, run `kstamp hub enroll {} --prefix PREFIX --replace`",
                        self.port.host
                    );
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_ones_of_the_hub_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (hub, stranger) = (KeyPair::new_account(), KeyPair::new_account());
        let port: PortName = "h/p".parse().unwrap();
        let kept = || {
            let key = KeyPair::from_public_key(&hub.public_key()).unwrap();
            Kept::new(directory.path(), key, port.clone())
        };
        let signed = |generation, key: &KeyPair| {
            let assignment = Assignment {
                port: port.clone(),
                generation,
                targets: Vec::new(),
                probers: Vec::new(),
            };
            assignment.sign(key).unwrap()
        };
        let generation = |assignment: Option<Assignment>| assignment.map(|assignment| assignment.generation);
        let mut first = kept();
        assert_eq!(generation(first.load()), None);
        for (number, key, want) in [
            (4, &hub, Some(4)),
            (4, &hub, None),
            (3, &hub, None),
            (9, &stranger, None),
            (5, &hub, Some(5)),
        ] {
            let (content, signature) = signed(number, key);
            assert_eq!(generation(first.take(&content, &signature)), want, "{number}");
        }
        assert_eq!(generation(kept().load()), Some(5));
        // A file that somebody else wrote.
        let (content, signature) = signed(6, &stranger);
        fs::write(
            directory.path().join(FILE),
            [signature.as_bytes(), b"\n", &content].concat(),
        )
        .unwrap();
        assert_eq!(generation(kept().load()), None);
        fs::write(directory.path().join(FILE), "").unwrap();
        assert_eq!(generation(kept().load()), None);
    }
}
