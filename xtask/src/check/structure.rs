//! `cargo xtask structure`: no two modules of a crate import each other, and no crate uses one below it.

mod circles;
mod crates;
mod names;
mod paths;
mod tree;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{exec, workspace};
use crates::members;
use tree::Tree;

/// Prints what breaks the rules; an error if anything does, or if the sources cannot be read.
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
    for root in crate_roots(&metadata) {
        let tree = Tree::read(&root, &|path| std::fs::read_to_string(path).ok())?;
        findings.extend(circles::find(&tree, &workspace::root()));
    }
    Ok(findings)
}

/// `lib.rs`, `main.rs` and the like, of every package.
fn crate_roots(metadata: &Value) -> Vec<PathBuf> {
    let targets = members(&metadata["packages"]).flat_map(|package| members(&package["targets"]));
    let is_code = |target: &&Value| members(&target["kind"]).any(|kind| kind == "lib" || kind == "bin");
    targets
        .filter(is_code)
        .filter_map(|target| target["src_path"].as_str())
        .map(PathBuf::from)
        .collect()
}
