//! What packages contain. This is the one description of it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::package::tree::Tree;
use crate::package::{changelog, copyright, program};
use crate::{exec, workspace};

/// Where a file comes from.
enum Source {
    /// The stripped binary.
    Binary,
    /// What `kstamp ARGUMENTS` prints.
    Printed(&'static str),
    /// The pages of `kstamp man`.
    Manual,
    /// A file or directory of this repository.
    Repository(&'static str),
    Changelog,
    Copyright,
}

/// Paths in the package, and where they come from. Files below `etc` are the user's to change.
const CONTENTS: &[(&str, Source)] = &[
    ("usr/bin/kstamp", Source::Binary),
    ("etc/kstamp/agent.toml", Source::Printed("config default agent")),
    ("etc/kstamp/reflect.toml", Source::Printed("config default reflect")),
    (
        "etc/kstamp/controller.toml",
        Source::Printed("config default controller"),
    ),
    ("etc/kstamp/hub.toml", Source::Printed("config default hub")),
    ("usr/lib/systemd/system", Source::Repository("deploy/systemd")),
    ("usr/share/man/man1", Source::Manual),
    (
        "usr/share/bash-completion/completions/kstamp",
        Source::Printed("completions bash"),
    ),
    (
        "usr/share/zsh/vendor-completions/_kstamp",
        Source::Printed("completions zsh"),
    ),
    (
        "usr/share/fish/vendor_completions.d/kstamp.fish",
        Source::Printed("completions fish"),
    ),
    ("usr/share/kstamp/prometheus", Source::Repository("deploy/prometheus")),
    ("usr/share/kstamp/grafana", Source::Repository("deploy/grafana")),
    (
        "usr/share/lintian/overrides/kstamp",
        Source::Repository("deploy/package/lintian-overrides"),
    ),
    ("usr/share/doc/kstamp/changelog", Source::Changelog),
    ("usr/share/doc/kstamp/copyright", Source::Copyright),
];

/// Puts all files of the package below one directory.
pub(super) fn stage(binary: &Path, version: &str) -> Result<Tree> {
    let licences = copyright::collect()?;
    let tree = Tree::new(version, licences.names())?;
    let kstamp = binary.to_string_lossy();
    for (to, source) in CONTENTS {
        match source {
            Source::Binary => {
                let to = tree.make_place(to)?;
                exec::capture(Command::new("strip").arg("-o").args([&to, binary]))?;
            }
            Source::Printed(arguments) => tree.write(to, &exec::run(&kstamp, arguments.split(' '))?)?,
            Source::Manual => {
                let directory = tree.make_place(&format!("{to}/kstamp.1"))?;
                let directory = directory.parent().unwrap_or(tree.root());
                exec::run(&kstamp, ["man".as_ref(), directory])?;
            }
            Source::Repository(from) => {
                let to = tree.make_place(to)?;
                exec::run("cp", ["-r".as_ref(), workspace::root().join(from).as_path(), &to])?;
            }
            Source::Changelog => tree.write(to, &changelog::debian(version, tree.epoch)?)?,
            Source::Copyright => tree.write(to, &licences.debian())?,
        }
    }
    for path in tree.find()? {
        if path.starts_with("usr/share/man") || path.ends_with("/changelog") {
            program::gzip(&tree.root().join(path))?;
        }
    }
    tree.settle()?;
    Ok(tree)
}
