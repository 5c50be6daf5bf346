//! Who belongs to the fleet: the state directory of a hub, with its authority, its keys, and a file for each enrolled name.

mod accounts;
mod address;
mod authority;
mod enrolled;
mod error;
mod export;
mod files;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

pub use self::address::Address;
pub(crate) use self::authority::Authority;
pub use self::enrolled::Enrolled;
pub use self::error::EnrolError;
use self::error::failed;
pub use self::export::Export;
use self::files::{exists, read, replace};
use crate::credentials::Credentials;
use crate::name::HostName;

/// The last year of the certificates that are made today.
pub fn expiry_year() -> i16 {
    authority::expiry_year(jiff::Timestamp::now())
}

/// What an agent needs to know to reach the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// As `tls://HOST:PORT`.
    pub urls: Vec<String>,
    /// Of their certificates (PEM); `None` for the authority of the state directory.
    pub ca: Option<String>,
}

/// What is to be known of the servers that a hub starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerFile {
    addresses: Vec<Address>,
}

/// The keys of a hub.
pub struct HubKeys {
    /// Signs assignments. Another one than that of the connection: with the latter, each server has the hub sign what it likes.
    pub signing: KeyPair,
    pub credentials: Credentials,
}

/// Times of files, and their inodes: two changes may have the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version([Option<(SystemTime, u64)>; 2]);

/// A state directory, which belongs to this user alone.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// Opens it, or makes it with all that is missing.
    pub fn open(path: &Path) -> Result<Self, EnrolError> {
        let state = Self::prepare(path)?;
        let _change = state.change()?;
        if exists(&state.path.join(UNFINISHED))? {
            return Err(EnrolError::Unfinished(state.path));
        }
        files::make_directory(&state.hosts_directory())?;
        state.make_missing(authority::KEY, || Authority::make(&state.path, jiff::Timestamp::now()))?;
        for (name, key) in [(SIGNING, KeyPair::new_account()), (CONNECTION, KeyPair::new_user())] {
            state.make_missing(name, || state.write(name, &key.seed()?))?;
        }
        Ok(state)
    }

    /// Opens the directory, or makes an empty one.
    fn prepare(path: &Path) -> Result<Self, EnrolError> {
        let state = Self { path: path.to_owned() };
        // Others may have directories beside it.
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| failed("make", parent, source))?;
        }
        files::make_directory(path)?;
        let metadata = fs::metadata(path).map_err(|source| failed("read", path, source))?;
        let owner = metadata.uid();
        if owner != files::own_user() {
            return Err(EnrolError::Owner {
                path: state.path,
                owner,
            });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(EnrolError::Open { path: state.path, mode });
        }
        Ok(state)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn make_missing(&self, name: &str, make: impl FnOnce() -> Result<(), EnrolError>) -> Result<(), EnrolError> {
        if exists(&self.path.join(name))? { Ok(()) } else { make() }
    }

    fn hosts_directory(&self) -> PathBuf {
        self.path.join("hosts")
    }

    fn host_file(&self, name: &HostName) -> PathBuf {
        self.hosts_directory().join(format!("{name}.toml"))
    }

    /// For the hub that runs; held until it is dropped.
    pub fn lock(&self) -> Result<File, EnrolError> {
        let path = self.path.join("lock");
        let file = files::open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(EnrolError::Locked(self.path.clone())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path, source)),
        }
    }

    /// For a change, which takes a moment.
    fn change(&self) -> Result<File, EnrolError> {
        let path = self.path.join("change.lock");
        let file = files::open_lock(&path)?;
        file.lock().map_err(|source| failed("lock", &path, source))?;
        Ok(file)
    }

    /// The addresses of the servers that a hub here starts. `given` take the place of those before; without any,
    /// there is `default`.
    pub fn addresses(&self, given: &[Address], default: Address) -> Result<Vec<Address>, EnrolError> {
        let _change = self.change()?;
        let before = self.server_file()?;
        let addresses = match (given, &*before.addresses) {
            ([], []) => vec![default],
            ([], before) => before.to_vec(),
            (given, _) => given.to_vec(),
        };
        if addresses != before.addresses {
            let file = ServerFile {
                addresses: addresses.clone(),
            };
            self.write(ADDRESSES, &write_toml(&file))?;
        }
        Ok(addresses)
    }

    /// Changes whenever somebody is enrolled or revoked, or the addresses change.
    pub fn version(&self) -> Version {
        let version = |name| {
            let file = fs::metadata(self.path.join(name)).ok()?;
            Some((file.modified().ok()?, file.ino()))
        };
        Version([ACCOUNTS, ADDRESSES].map(version))
    }

    /// Writes the accounts for servers.
    pub fn write_accounts(&self) -> Result<(), EnrolError> {
        let _change = self.change()?;
        self.replace_accounts()
    }

    /// Writes the accounts of all that are enrolled, unless they are there.
    fn replace_accounts(&self) -> Result<(), EnrolError> {
        let hub = self.key(CONNECTION)?.public_key();
        let accounts = accounts::text(&hub, &self.enrolled()?);
        match self.existing(ACCOUNTS)? {
            Some(before) if before == accounts => Ok(()),
            _ => self.write(ACCOUNTS, &accounts),
        }
    }

    /// Writes a file, in the place of the one before.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<(), EnrolError> {
        replace(&self.path.join(name), content)
    }

    /// Enrols a host, or a reader, which has no prefixes. Its secrets are in the credentials and nowhere else.
    pub fn enroll(
        &self,
        name: &HostName,
        prefixes: &[IpNet],
        servers: Servers,
        is_replaced: bool,
    ) -> Result<Credentials, EnrolError> {
        let _change = self.change()?;
        let path = self.host_file(name);
        if exists(&path)? && !is_replaced {
            return Err(EnrolError::Enrolled(name.clone()));
        }
        let now = jiff::Timestamp::now();
        let key = KeyPair::new_user();
        let credentials = self.credentials(name, &key, servers, now)?;
        let enrolled = Enrolled {
            key: key.public_key(),
            prefixes: prefixes.to_vec(),
            enrolled: format!("{now:.0}"),
            expires: authority::expiry_year(now),
        };
        replace(&path, &write_toml(&enrolled))?;
        self.replace_accounts()?;
        Ok(credentials)
    }

    /// Ends an enrolment. A revocation that failed half-way can be repeated.
    pub fn revoke(&self, name: &HostName) -> Result<(), EnrolError> {
        let _change = self.change()?;
        let path = self.host_file(name);
        let before = || self.existing(ACCOUNTS);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, source)),
            Err(_) if !before()?.is_some_and(|text| accounts::have(&text, name)) => Err(EnrolError::Unknown {
                name: name.clone(),
                dir: self.hosts_directory(),
            }),
            _ => self.replace_accounts(),
        }
    }

    /// All that are enrolled.
    pub fn enrolled(&self) -> Result<BTreeMap<HostName, Enrolled>, EnrolError> {
        let directory = self.hosts_directory();
        let mut enrolled = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(|source| failed("read", &directory, source))? {
            let path = entry.map_err(|source| failed("read", &directory, source))?.path();
            let name = path.file_stem().and_then(|name| name.to_str()?.parse().ok());
            if let (Some(name), Some("toml")) = (name, path.extension().and_then(|extension| extension.to_str())) {
                enrolled.insert(name, read_toml(&path)?);
            }
        }
        Ok(enrolled)
    }

    /// The keys of the hub, which is called `name`. Its certificate is made anew each time.
    pub fn hub(&self, name: &HostName, servers: Servers) -> Result<HubKeys, EnrolError> {
        Ok(HubKeys {
            signing: self.key(SIGNING)?,
            credentials: self.credentials(name, &self.key(CONNECTION)?, servers, jiff::Timestamp::now())?,
        })
    }

    /// Makes the certificate of the server that a hub starts, and its key: files `server.pem` and `server.key`.
    pub fn make_server_certificate(&self, addresses: &[Address]) -> Result<(), EnrolError> {
        let issued = Authority::read(&self.path)?.issue_server(addresses, jiff::Timestamp::now())?;
        self.write(SERVER_KEY, &issued.key)?;
        self.write(SERVER_CERTIFICATE, &issued.certificate)
    }

    fn key(&self, name: &str) -> Result<KeyPair, EnrolError> {
        let path = self.path.join(name);
        KeyPair::from_seed(read(&path)?.trim()).map_err(|error| EnrolError::Content {
            path,
            why: error.to_string(),
        })
    }

    fn credentials(
        &self,
        name: &HostName,
        key: &KeyPair,
        servers: Servers,
        now: jiff::Timestamp,
    ) -> Result<Credentials, EnrolError> {
        let authority = Authority::read(&self.path)?;
        let issued = authority.issue_client(name, now)?;
        Ok(Credentials {
            name: name.clone(),
            servers: servers.urls,
            seed: key.seed()?,
            hub: self.key(SIGNING)?.public_key(),
            ca: servers.ca.unwrap_or(authority.certificate),
            certificate: issued.certificate,
            key: issued.key,
        })
    }
}

/// The accounts, for the block `accounts` of a server's configuration.
pub const ACCOUNTS: &str = "accounts.conf";
/// Addresses of the server that a hub starts.
const ADDRESSES: &str = "server.toml";
/// Files of the server that a hub starts.
pub const AUTHORITY_CERTIFICATE: &str = authority::CERTIFICATE;
pub const SERVER_CERTIFICATE: &str = "server.pem";
pub const SERVER_KEY: &str = "server.key";

/// A file that exists while an import runs. Keys that are missing then must not be made anew: they would be another fleet's.
const UNFINISHED: &str = "import-unfinished";

/// Seed of the key that signs assignments.
const SIGNING: &str = "signing.seed";
/// Seed of the hubs' user.
const CONNECTION: &str = "hub.seed";

fn read_toml<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, EnrolError> {
    toml_edit::de::from_str(&read(path)?).map_err(|error| EnrolError::Content {
        path: path.to_owned(),
        why: error.message().to_owned(),
    })
}

fn write_toml(value: &impl Serialize) -> String {
    toml_edit::ser::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
