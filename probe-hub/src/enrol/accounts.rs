//! The accounts of the fleet in the configuration of NATS servers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::enrolled::Enrolled;
use crate::name::HostName;
use crate::subjects::{self, HOSTS_ACCOUNT, HUB_ACCOUNT, Permissions};

/// Time in which a host may reply to a request.
const REPLY: &str = "10s";

/// For the block `accounts` of a server. `hub` is the public key of the hubs.
pub fn text(hub: &str, enrolled: &BTreeMap<HostName, Enrolled>) -> String {
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
    format!(
        "# Written by `kstamp hub`, and again when hosts are enrolled.\n{HUB_ACCOUNT}: {hubs:#}\n{HOSTS_ACCOUNT}: {hosts:#}\n"
    )
}

/// Whether accounts that were written before have a user for this host or reader.
pub fn have(text: &str, name: &HostName) -> bool {
    text.contains(&json!(subjects::inboxes(name)).to_string())
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
