//! Checks the direction of dependencies between crates.

use anyhow::Result;
use serde_json::Value;

use crate::{exec, workspace};

pub(super) fn members(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}

/// A crate of the workspace.
struct Room {
    name: &'static str,
    /// Crates that must not be among its dependencies, direct or indirect.
    without: &'static [&'static str],
}

/// Each crate uses only those before it.
const ROOMS: [Room; 9] = [
    room("probe-common", &["aya", "libc"]),
    room("probe-ebpf", &[]),
    room("probe-core", &["tokio", "aya", "nix", "libc"]),
    room("probe-host", &["aya"]),
    room("probe-io", &[]),
    room("probe-controller", &["aya"]),
    room("probe-hub", &["aya", "hyper"]),
    room("probe-user", &[]),
    room("xtask", &[]),
];

const fn room(name: &'static str, without: &'static [&'static str]) -> Room {
    Room { name, without }
}

/// Every dependency that the order forbids, as text.
pub(super) fn misplaced(metadata: &Value) -> Result<Vec<String>> {
    let mut findings = upward(metadata);
    for package in members(&metadata["packages"]) {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some(room) = ROOMS.iter().find(|room| room.name == name && !room.without.is_empty()) {
            findings.extend(unwanted(room, &dependencies_of(name)?));
        }
    }
    Ok(findings)
}

/// Dependencies on later crates, as text.
fn upward(metadata: &Value) -> Vec<String> {
    let place = |name: &Value| ROOMS.iter().position(|room| name == room.name);
    let mut findings = Vec::new();
    for package in members(&metadata["packages"]) {
        let name = &package["name"];
        let Some(own) = place(name) else {
            findings.push(format!(
                "{name} has no place in the order of crates: xtask/src/check/structure/crates.rs"
            ));
            continue;
        };
        for dependency in members(&package["dependencies"]) {
            if place(&dependency["name"]).is_some_and(|other| other >= own) {
                findings.push(format!(
                    "{name} depends on {}, which comes after it",
                    dependency["name"]
                ));
            }
        }
    }
    findings
}

fn unwanted(room: &Room, dependencies: &str) -> Vec<String> {
    let names = || dependencies.lines().filter_map(|line| line.split_whitespace().next());
    let found = room
        .without
        .iter()
        .filter(|unwanted| names().any(|name| name == **unwanted));
    found
        .map(|unwanted| {
            format!(
                "{} brings {unwanted} along: cargo tree -p {0} -e no-dev -i {unwanted}",
                room.name
            )
        })
        .collect()
}

/// All crates that `name` alone is built from, one per line.
fn dependencies_of(name: &str) -> Result<String> {
    exec::capture(workspace::cargo().args(["tree", "-p", name, "-e", "no-dev", "--prefix", "none"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crate_depends_on_those_before_it() {
        let found = |name: &str, dependency: &str| {
            upward(&json!({"packages": [{"name": name, "dependencies": [{"name": dependency}]}]})).len()
        };
        let cases = [
            ("probe-core", "probe-common", 0),
            ("probe-user", "probe-controller", 0),
            ("probe-core", "serde", 0),
            ("probe-core", "probe-io", 1),
            ("probe-core", "probe-core", 1),
            ("probe-new", "probe-common", 1),
        ];
        for (name, dependency, want) in cases {
            assert_eq!(found(name, dependency), want, "{name} -> {dependency}");
        }
    }

    #[test]
    fn a_forbidden_dependency_is_named() {
        let room = room("probe-core", &["tokio", "aya"]);
        assert_eq!(
            unwanted(&room, "probe-core v0.1.0 (/x/aya)\ntokio-util v1.0.0\n"),
            [""; 0]
        );
        let found = unwanted(&room, "probe-core v0.1.0\naya v0.14.0\n");
        assert_eq!(
            found,
            ["probe-core brings aya along: cargo tree -p probe-core -e no-dev -i aya"]
        );
    }
}
