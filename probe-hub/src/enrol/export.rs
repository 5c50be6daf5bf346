//! A copy of a state directory as one file, for a hub on another machine and as a backup.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

use super::authority::{self, Authority};
use super::error::{EnrolError, failed};
use super::files::{exists, make_directory, read, replace};
use super::{ADDRESSES, CONNECTION, Enrolled, SIGNING, ServerFile, StateDirectory, UNFINISHED, read_toml, write_toml};
use crate::name::HostName;

/// All that another hub of the same fleet needs. Whoever has it controls the fleet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The authority of the certificates, and its key (PEM).
    authority: String,
    authority_key: String,
    /// Seed of the key that signs assignments.
    signing: String,
    /// Seed of the user by which hubs connect to the server.
    connection: String,
    /// Of the server that the hub starts.
    #[serde(default)]
    server: ServerFile,
    #[serde(default)]
    hosts: BTreeMap<HostName, Enrolled>,
}

impl Export {
    /// From the TOML of [`Self::write`]. The error says what is wrong with the file.
    pub fn read(text: &str) -> Result<Self, String> {
        let export: Self = toml_edit::de::from_str(text).map_err(|error| error.message().to_owned())?;
        for seed in [&export.signing, &export.connection] {
            KeyPair::from_seed(seed).map_err(|error| format!("a seed in it is no NKey: {error}"))?;
        }
        Authority::check(&export.authority, &export.authority_key)?;
        Ok(export)
    }

    /// As TOML.
    pub fn write(&self) -> String {
        write_toml(self)
    }

    /// The number of hosts and readers that are enrolled.
    pub fn enrolled(&self) -> usize {
        self.hosts.len()
    }

    fn secrets(&self) -> [(&'static str, &str); 4] {
        // The key of the authority comes last, as in `Authority::make`: without it a directory is not complete.
        [
            (SIGNING, &self.signing),
            (CONNECTION, &self.connection),
            (authority::CERTIFICATE, &self.authority),
            (authority::KEY, &self.authority_key),
        ]
    }
}

impl StateDirectory {
    /// The export of the state directory at `path`. Fails with [`EnrolError::NoState`] if no hub has its state there.
    pub fn export(path: &Path) -> Result<Export, EnrolError> {
        if !exists(&path.join(authority::KEY))? {
            return Err(EnrolError::NoState(path.to_owned()));
        }
        let state = Self::open(path)?;
        let _change = state.change()?;
        let text = |name| read(&path.join(name));
        Ok(Export {
            authority: text(authority::CERTIFICATE)?,
            authority_key: text(authority::KEY)?,
            signing: text(SIGNING)?.trim().to_owned(),
            connection: text(CONNECTION)?.trim().to_owned(),
            server: state.server_file()?,
            hosts: state.enrolled()?,
        })
    }

    /// Makes a state directory from an export. If `path` has one of the same fleet, its enrolments become those of the export, and
    /// its addresses stay. Fails with [`EnrolError::OtherFleet`], and changes nothing, if it is of another fleet.
    pub fn import(path: &Path, export: &Export) -> Result<Self, EnrolError> {
        let state = Self::prepare(path)?;
        {
            let _change = state.change()?;
            let mut missing = Vec::new();
            for (name, content) in export.secrets() {
                match state.existing(name)? {
                    Some(own) if own.trim() == content.trim() => {}
                    Some(_) => return Err(EnrolError::OtherFleet(state.path)),
                    None => missing.push((name, content)),
                }
            }
            if !missing.is_empty() {
                state.write(UNFINISHED, "")?;
            }
            for (name, content) in missing {
                state.write(name, content)?;
            }
            if !exists(&path.join(ADDRESSES))? && !export.server.addresses.is_empty() {
                state.write(ADDRESSES, &write_toml(&export.server))?;
            }
            make_directory(&state.hosts_directory())?;
            let before = state.enrolled()?;
            for (name, host) in &export.hosts {
                if before.get(name) != Some(host) {
                    replace(&state.host_file(name), &write_toml(host))?;
                }
            }
            for name in before.keys().filter(|name| !export.hosts.contains_key(*name)) {
                let path = state.host_file(name);
                fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
            }
            // Also after an import that ended before it replaced them: else a host that is taken out keeps its access.
            state.replace_accounts()?;
            let unfinished = path.join(UNFINISHED);
            if exists(&unfinished)? {
                fs::remove_file(&unfinished).map_err(|source| failed("remove", &unfinished, source))?;
            }
        }
        Ok(state)
    }

    /// The content of a file of the directory; `None` if it is missing.
    pub(super) fn existing(&self, name: &str) -> Result<Option<String>, EnrolError> {
        let path = self.path().join(name);
        exists(&path)?.then(|| read(&path)).transpose()
    }

    /// The addresses of the server that the hub starts; none if they were never given.
    pub(super) fn server_file(&self) -> Result<ServerFile, EnrolError> {
        let path = self.path().join(ADDRESSES);
        if exists(&path)? {
            read_toml(&path)
        } else {
            Ok(ServerFile::default())
        }
    }
}
