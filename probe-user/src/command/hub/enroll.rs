//! `kstamp hub enroll` and `kstamp hub revoke`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use probe_host::hostname::hostname;
use probe_hub::enrol::{ACCOUNTS, Address, Servers, StateDirectory, expiry_year};
use probe_hub::name::HostName;

use crate::command::hub::config::{EnrollConfig, FleetConfig};
use crate::output::diagnostics;
use crate::output::file::print;

/// Longest file of certificates.
const MAX_CA_LEN: u64 = 1 << 20;

/// Enrols a host or a reader, and writes its credentials.
pub fn enroll(config: &EnrollConfig) -> Result<()> {
    let state = StateDirectory::open(&config.fleet.state)?;
    let servers = servers(&config.fleet, &state)?;
    // A wrong path must enrol nobody.
    let file = config.output.as_deref().map(create).transpose()?;
    let enrolled = state.enroll(&config.host, &config.prefixes, servers, config.replace);
    let text = match enrolled {
        Ok(credentials) => credentials.write(),
        Err(error) => {
            if let Some(path) = &config.output {
                fs::remove_file(path).ok();
            }
            return Err(error.into());
        }
    };
    match file {
        Some(mut file) => file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .with_context(|| {
                format!(
                    "cannot write the credentials; `kstamp hub enroll {} --replace` with the same options makes others",
                    config.host
                )
            })?,
        None => print(&text)?,
    }
    let year = expiry_year();
    diagnostics::line(&format!(
        "{} is enrolled; its certificate is valid until the end of {year}",
        config.host
    ));
    note_accounts(&config.fleet, &state);
    Ok(())
}

pub fn revoke(fleet: &FleetConfig, host: &HostName) -> Result<()> {
    let state = StateDirectory::open(&fleet.state)?;
    state.revoke(host)?;
    diagnostics::line(&format!("{host} is no longer enrolled"));
    note_accounts(fleet, &state);
    Ok(())
}

/// Says what is left to do where the servers are the user's. A hub that runs has its own server take the change.
fn note_accounts(fleet: &FleetConfig, state: &StateDirectory) {
    if !fleet.nats.is_empty() {
        diagnostics::line(&format!(
            "have your servers take the accounts in {}: include it in their block accounts, and reload them",
            state.path().join(ACCOUNTS).display()
        ));
    }
}

/// The servers that agents connect to.
pub(super) fn servers(fleet: &FleetConfig, state: &StateDirectory) -> Result<Servers> {
    let ca = fleet.nats_ca.as_deref().map(read_ca).transpose()?;
    let urls = match fleet.nats.is_empty() {
        true => addresses(fleet, state)?.iter().map(Address::url).collect(),
        false => fleet.nats.clone(),
    };
    Ok(Servers { urls, ca })
}

/// Where agents connect to the server of this hub.
pub(super) fn addresses(fleet: &FleetConfig, state: &StateDirectory) -> Result<Vec<Address>> {
    let port = fleet.port;
    let nameless = || Address::new(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    let own = Address::parse(&hostname(), port).unwrap_or_else(nameless);
    Ok(state.addresses(&fleet.addresses, own)?)
}

fn read_ca(path: &Path) -> Result<String> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(File::open(path)?, MAX_CA_LEN), &mut text)?;
        Ok(text)
    };
    let text = read().with_context(|| format!("--nats-ca: cannot read {}", path.display()))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        bail!("--nats-ca: {} has no certificate in PEM", path.display());
    }
    Ok(text)
}

/// Makes a file that only its owner may read; fails if it exists.
pub(super) fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match file {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("--output: {} is there already; name a new file", path.display())
        }
        file => file.with_context(|| format!("--output: cannot write {}", path.display())),
    }
}
