//! An RPM, made by `rpmbuild`.

use std::collections::BTreeSet;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::exec;
use crate::package::deb::MAINTAINER;
use crate::package::program::{date, filled, scratch};
use crate::package::tree::Tree;

pub(super) fn build(tree: &Tree, output: &Path) -> Result<PathBuf> {
    let work = scratch()?;
    let values = [
        ("VERSION", tree.version.clone()),
        ("MAINTAINER", MAINTAINER.to_owned()),
        ("DATE", date(&format!("@{}", tree.epoch), "+%a %b %d %Y")?),
        ("LICENCES", tree.licences.join(" AND ")),
        ("TREE", tree.root().display().to_string()),
        ("FILES", files(tree)?),
    ];
    let spec = work.path().join("kstamp.spec");
    fs::write(&spec, filled("kstamp.spec", &values)?).with_context(|| format!("cannot write {}", spec.display()))?;
    let mut command = Command::new("rpmbuild");
    command
        .args(["-bb", "--quiet"])
        .arg(&spec)
        .env("SOURCE_DATE_EPOCH", tree.epoch.to_string());
    for (macro_name, value) in [
        ("_topdir", work.path().display().to_string()),
        ("_rpmdir", output.display().to_string()),
        ("_rpmfilename", "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm".to_owned()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("_binary_payload", "w3.zstdio".to_owned()),
        // The tree is ready: nothing is to be stripped, compressed or split off.
        ("__os_install_post", "%{nil}".to_owned()),
        ("debug_package", "%{nil}".to_owned()),
        ("_build_id_links", "none".to_owned()),
    ] {
        command.arg("--define").arg(format!("{macro_name} {value}"));
    }
    exec::capture(&mut command)?;
    Ok(output.join(format!("kstamp-{}-1.{ARCH}.rpm", tree.version)))
}

/// The section `%files`: all files, and the directories that no other package has.
fn files(tree: &Tree) -> Result<String> {
    let mut paths = tree.find()?;
    paths.retain(|path| !path.starts_with("usr/share/lintian/"));
    let directories = paths.iter().flat_map(|path| Path::new(path).ancestors().skip(1));
    let own = directories.filter(|path| {
        path.components()
            .any(|name| name.as_os_str().to_string_lossy().starts_with("kstamp"))
    });
    let own: BTreeSet<_> = own.map(|path| format!("%dir /{}", path.display())).collect();
    let configuration = tree.configuration()?;
    let files = paths.iter().map(|path| match path {
        path if configuration.contains(path) => format!("%config(noreplace) /{path}"),
        path if path.starts_with("usr/share/doc/") || path.starts_with("usr/share/man/") => format!("%doc /{path}"),
        path => format!("/{}", path.replace("zsh/vendor-completions", "zsh/site-functions")),
    });
    Ok(own.into_iter().chain(files).collect::<Vec<_>>().join("\n"))
}
