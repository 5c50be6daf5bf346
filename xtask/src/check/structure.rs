//! `cargo xtask structure`: no two modules of a crate import each other, and no crate uses one below it. Each test and
//! each bench is a crate of its own.

mod circles;
mod crates;
mod names;
mod paths;
mod tree;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::check::structure::crates::members;
use crate::check::structure::tree::{Built, Tree};
use crate::{exec, workspace};

/// Prints all violations; an error if there are any.
pub(crate) fn check() -> Result<()> {
    let findings = findings()?;
    findings.iter().for_each(|finding| println!("{finding}"));
    let count = findings.len();
    ensure!(
        count == 0,
        "{count} circles of modules and misplaced dependencies: see CONTRIBUTING.md"
    );
    Ok(())
}

/// Every circle of modules and every dependency in the wrong direction, as text.
fn findings() -> Result<BTreeSet<String>> {
    let metadata = exec::capture(workspace::cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    let mut findings: BTreeSet<_> = crates::misplaced(&metadata)?.into_iter().collect();
    for (root, built) in crate_roots(&metadata) {
        let tree = Tree::read(&root, built, &|path| std::fs::read_to_string(path).ok())?;
        findings.extend(circles::find(&tree, &workspace::root()));
    }
    Ok(findings)
}

/// The root file of every library, program, test and bench.
fn crate_roots(metadata: &Value) -> impl Iterator<Item = (PathBuf, Built)> {
    let targets = members(&metadata["packages"]).flat_map(|package| members(&package["targets"]));
    targets.filter_map(|target| {
        let is_test = members(&target["kind"]).any(|kind| kind == "test" || kind == "bench");
        let built = if is_test { Built::WithTests } else { Built::WithoutTests };
        Some((target["src_path"].as_str()?.into(), built))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tests_and_benches_are_crates_of_their_own() {
        let target = |kind: &str, path: &str| json!({"kind": [kind], "src_path": path});
        let targets = [
            target("lib", "src/lib.rs"),
            target("bin", "src/main.rs"),
            target("test", "tests/t.rs"),
            target("bench", "benches/b.rs"),
        ];
        let roots: Vec<_> = crate_roots(&json!({"packages": [{"targets": targets}]})).collect();
        let want = [
            ("src/lib.rs", Built::WithoutTests),
            ("src/main.rs", Built::WithoutTests),
            ("tests/t.rs", Built::WithTests),
            ("benches/b.rs", Built::WithTests),
        ];
        assert_eq!(roots, want.map(|(path, built)| (path.into(), built)));
    }
}
