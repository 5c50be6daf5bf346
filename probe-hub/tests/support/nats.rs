//! A NATS server on loopback, for the tests of several crates.

use std::path::PathBuf;

use probe_hub::enrol::StateDirectory;
use probe_hub::server;
use tempfile::TempDir;

#[path = "address.rs"]
mod address;

/// A directory with the state of a hub in it, and what starts its server.
pub type Prepared = (TempDir, StateDirectory, server::Config);

/// `None` without a NATS server (`KSTAMP_NATS_SERVER`, or in PATH), which is printed.
pub async fn prepare() -> Option<Prepared> {
    let named = std::env::var_os("KSTAMP_NATS_SERVER").map(PathBuf::from);
    let program = match server::find(named.as_deref()).await {
        Ok(program) => program,
        Err(error) => {
            println!("SKIPPED: needs a NATS server in KSTAMP_NATS_SERVER or PATH: {error}");
            return None;
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(&directory.path().join("hub")).unwrap();
    let config = server::Config {
        program,
        name: "hub".parse().unwrap(),
        listen: address::free_address(),
        store: 1 << 30,
    };
    server::write_certificate(&state, &config, &[]).unwrap();
    Some((directory, state, config))
}
