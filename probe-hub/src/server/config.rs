//! The configuration of a NATS server: accounts for any server, and all of one that a hub starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::enrol::{AUTHORITY_CERTIFICATE, Enrolled, SERVER_CERTIFICATE, SERVER_KEY};
use crate::name::HostName;
use crate::subjects::{self, HOSTS_ACCOUNT, HUB_ACCOUNT, Permissions};

/// The accounts, for the block `accounts` of a server's configuration.
pub const ACCOUNTS: &str = "accounts.conf";
pub const SERVER: &str = "nats.conf";
pub const STORE: &str = "jetstream";

/// Seconds for the handshakes of a connection: all agents may come at once.
const HANDSHAKE_S: u64 = 10;
/// A host may reply to a request for so long.
const REPLY: &str = "10s";

/// The file [`ACCOUNTS`]. `hub` is the public key of the hubs.
pub fn accounts(hub: &str, enrolled: &BTreeMap<HostName, Enrolled>) -> String {
    let crossings = subjects::crossings();
    let export = |kind: &str, subjects: &[String], to: &str| -> Vec<Value> {
        let export = |subject: &String| json!({ kind: subject, "accounts": [to] });
        subjects.iter().map(export).collect()
    };
    let import = |kind: &str, subjects: &[String], from: &str| -> Vec<Value> {
        let import = |subject: &String| json!({ kind: { "account": from, "subject": subject } });
        subjects.iter().map(import).collect()
    };
    let users: Vec<_> = enrolled.iter().map(|(name, enrolled)| user(name, enrolled)).collect();
    let exports = [
        export("service", &crossings.to_hub, HOSTS_ACCOUNT),
        export("stream", &crossings.from_hub, HOSTS_ACCOUNT),
    ];
    let imports = [
        import("service", &crossings.to_hub, HUB_ACCOUNT),
        import("stream", &crossings.from_hub, HUB_ACCOUNT),
    ];
    let hubs = json!({
        "jetstream": "enabled",
        "users": [{ "nkey": hub }],
        "exports": exports.concat(),
        "imports": import("service", &crossings.to_hosts, HOSTS_ACCOUNT),
    });
    let hosts = json!({
        "users": users,
        "exports": export("service", &crossings.to_hosts, HUB_ACCOUNT),
        "imports": imports.concat(),
    });
    format!("# Written by `kstamp hub`, and again when hosts are enrolled.\n{HUB_ACCOUNT}: {hubs:#}\n{HOSTS_ACCOUNT}: {hosts:#}\n")
}

fn user(name: &HostName, enrolled: &Enrolled) -> Value {
    let Permissions {
        publish,
        subscribe,
        replies,
    } = match enrolled.is_reader() {
        true => subjects::reader_permissions(name),
        false => subjects::permissions(name),
    };
    let mut permissions = json!({ "publish": publish, "subscribe": subscribe });
    if replies {
        permissions["allow_responses"] = json!({ "max": 1, "expires": REPLY });
    }
    json!({ "nkey": enrolled.key, "permissions": permissions })
}

/// The file [`SERVER`], for a server with this state directory.
pub fn server(name: &HostName, directory: &Path, listen: SocketAddr, store: u64) -> String {
    let file = |name: &str| Value::from(directory.join(name).to_string_lossy());
    let tls = json!({
        "cert_file": file(SERVER_CERTIFICATE),
        "key_file": file(SERVER_KEY),
        "ca_file": file(AUTHORITY_CERTIFICATE),
        "verify": true,
        "timeout": HANDSHAKE_S,
    });
    let jetstream = json!({ "store_dir": file(STORE), "max_memory_store": 0, "max_file_store": store });
    format!(
        "# Written by each start of `kstamp hub`.\n\
         server_name: {}\nlisten: {}\ntls: {tls:#}\njetstream: {jetstream:#}\n\
         authorization: {{ timeout: {HANDSHAKE_S} }}\naccounts: {{ include {ACCOUNTS} }}\n",
        Value::from(name.as_str()),
        Value::from(listen.to_string()),
    )
}
