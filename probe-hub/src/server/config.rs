//! The configuration of a NATS server that a hub starts.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::enrol::{ACCOUNTS, AUTHORITY_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY};
use crate::name::HostName;

/// The file.
pub const SERVER: &str = "nats.conf";

/// Seconds for the handshakes of a connection: all agents may come at once.
const HANDSHAKE_S: u64 = 10;

/// The file [`SERVER`], for a server with this state directory. `store` is in bytes.
pub fn text(name: &HostName, directory: &Path, listen: SocketAddr, store: u64) -> String {
    let file = |name: &str| Value::from(directory.join(name).to_string_lossy());
    let tls = json!({
        "cert_file": file(SERVER_CERTIFICATE),
        "key_file": file(SERVER_KEY),
        "ca_file": file(AUTHORITY_CERTIFICATE),
        "verify": true,
        "timeout": HANDSHAKE_S,
    });
    // It is the directory `jetstream` in there.
    let jetstream = json!({ "store_dir": directory.to_string_lossy(), "max_memory_store": 0, "max_file_store": store });
    format!(
        "# Written by each start of `kstamp hub`.\n\
         server_name: {}\nlisten: {}\ntls: {tls:#}\njetstream: {jetstream:#}\n\
         authorization: {{ timeout: {HANDSHAKE_S} }}\naccounts: {{ include {ACCOUNTS} }}\n",
        Value::from(name.as_str()),
        Value::from(listen.to_string()),
    )
}
