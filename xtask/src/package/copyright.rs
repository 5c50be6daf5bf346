//! Copyright and licences of kstamp and of all crates in it, in Debian's machine-readable form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};

use crate::{exec, workspace};

/// Licences under which crates may be used, the most wanted first.
const ACCEPTED: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
];

/// The packages whose normal dependencies are in the binary.
const ROOTS: [&str; 2] = ["probe-user", "probe-ebpf"];

const HEADER: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: \
                      kstamp\nComment: The program contains the crates below, each under the licence that is named here.\n";

pub(super) struct Licences {
    crates: Vec<Crate>,
}

struct Crate {
    /// `NAME-VERSION`, or `*` for kstamp.
    name: String,
    copyright: BTreeSet<String>,
    licences: Vec<String>,
    /// The text of its NOTICE file, which Apache-2.0 wants passed on.
    notice: Option<String>,
}

/// Finds all crates in the binary. Fails if one has a licence that is not accepted.
pub(super) fn collect() -> Result<Licences> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let arguments = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &host,
    ];
    let metadata = exec::capture(workspace::cargo().args(arguments))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    let packages = by_id(&metadata["packages"]);
    let mut crates = vec![own()?, standard_library()];
    for id in linked(&packages, &by_id(&metadata["resolve"]["nodes"])) {
        let package = packages[id];
        if !package["source"].is_null() {
            crates.push(Crate::read(package)?);
        }
    }
    crates[2..].sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Licences { crates })
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| Some((item["id"].as_str()?, item))).collect()
}

/// The identifiers of [`ROOTS`] and of all that they depend on, except for building and testing.
fn linked<'a>(packages: &BTreeMap<&'a str, &Value>, nodes: &BTreeMap<&'a str, &'a Value>) -> BTreeSet<&'a str> {
    let is_root = |id: &&str| packages[id]["name"].as_str().is_some_and(|name| ROOTS.contains(&name));
    let mut waiting: Vec<&str> = packages.keys().copied().filter(is_root).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !found.insert(id) {
            continue;
        }
        let dependencies = nodes
            .get(id)
            .and_then(|node| node["deps"].as_array())
            .into_iter()
            .flatten();
        let is_normal = |dependency: &&Value| {
            let kinds = dependency["dep_kinds"].as_array();
            kinds.into_iter().flatten().any(|kind| kind["kind"].is_null())
        };
        waiting.extend(
            dependencies
                .filter(is_normal)
                .filter_map(|dependency| dependency["pkg"].as_str()),
        );
    }
    found
}

fn own() -> Result<Crate> {
    let path = workspace::root().join("LICENSE-MIT");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Crate {
        name: "*".to_owned(),
        copyright: holders(&text),
        licences: vec!["MIT".to_owned()],
        notice: None,
    })
}

fn standard_library() -> Crate {
    Crate {
        name: "rust-std/*".to_owned(),
        copyright: BTreeSet::from(["The Rust Project contributors".to_owned()]),
        licences: vec!["MIT".to_owned()],
        notice: None,
    }
}

impl Crate {
    fn read(package: &Value) -> Result<Self> {
        let field = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let name = format!("{}-{}", field("name"), field("version"));
        let mut copyright = BTreeSet::new();
        let mut notice = None;
        let manifest = field("manifest_path");
        let directory = Path::new(&manifest).parent().context("a package has no directory")?;
        let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let file = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            let is_notice = file.starts_with("NOTICE");
            if !(is_notice
                || ["LICEN", "COPY", "UNLICENSE"]
                    .iter()
                    .any(|start| file.starts_with(start)))
            {
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            copyright.append(&mut holders(&text));
            if is_notice {
                notice = Some(text);
            }
        }
        if copyright.is_empty() {
            let authors = package["authors"].as_array().into_iter().flatten();
            copyright.extend(authors.filter_map(Value::as_str).map(str::to_owned));
        }
        if copyright.is_empty() {
            copyright.insert(format!("The authors of {}", field("name")));
        }
        let licences = chosen(&field("license")).with_context(|| format!("the licence of {name}"))?;
        let name = format!("{name}/*");
        Ok(Self {
            name,
            copyright,
            licences,
            notice,
        })
    }
}

/// The copyright notices in the text of a licence, without those of its own wording and of templates.
fn holders(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .map(|line| line.trim().trim_start_matches(['/', '*', '#', ' ']));
    let is_notice = |line: &&str| {
        let rest = line
            .strip_prefix("Copyright ")
            .or_else(|| line.strip_prefix("copyright "));
        let rest = rest.map(|rest| {
            rest.trim_start_matches("(c) ")
                .trim_start_matches("(C) ")
                .trim_start_matches("© ")
        });
        rest.is_some_and(|rest| {
            !rest.starts_with(['[', '{', '<']) && rest.starts_with(|first: char| !first.is_lowercase())
        })
    };
    lines.filter(is_notice).map(str::to_owned).collect()
}

/// The licences that apply if the most wanted alternatives are taken.
fn chosen(expression: &str) -> Result<Vec<String>> {
    let parsed = Expression::parse_mode(expression, ParseMode::LAX).map_err(|error| anyhow!("{error}"))?;
    let accepted: Vec<_> = ACCEPTED.iter().filter_map(|name| Licensee::parse(name).ok()).collect();
    let wanted = parsed.minimized_requirements(&accepted).map_err(|error| {
        anyhow!("'{expression}' is not accepted: {error}; see ACCEPTED in xtask/src/package/copyright.rs")
    })?;
    Ok(wanted.iter().map(ToString::to_string).collect())
}

impl Licences {
    /// The names of all licences, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.crates.iter().flat_map(|item| item.licences.iter().cloned());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The file `copyright` of a Debian package.
    pub(super) fn debian(&self) -> String {
        let mut text = HEADER.to_owned();
        for item in &self.crates {
            let copyright: Vec<_> = item.copyright.iter().map(String::as_str).collect();
            let _ = write!(
                text,
                "\nFiles: {}\nCopyright: {}\nLicense: {}\n",
                item.name,
                copyright.join("\n           "),
                item.licences.join(" and ")
            );
            if let Some(notice) = &item.notice {
                let _ = write!(text, "Comment:\n{}", indented(notice));
            }
        }
        for name in self.names() {
            let licence = match (name.as_str(), spdx::license_id(&name)) {
                ("Apache-2.0", _) => {
                    " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0. It is also at\n \
                                      https://www.apache.org/licenses/LICENSE-2.0.\n"
                        .to_owned()
                }
                (_, licence) => indented(licence.map_or("", |licence| licence.text())),
            };
            let _ = write!(text, "\nLicense: {name}\n{licence}");
        }
        text
    }
}

/// Lines of a field: each begins with a space, and an empty one is a dot.
fn indented(text: &str) -> String {
    let line = |line: &str| match line.trim_end() {
        "" => " .\n".to_owned(),
        line => format!(" {line}\n"),
    };
    text.trim().lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_licences_are_chosen() {
        for (expression, want) in [
            ("MIT OR Apache-2.0", &["MIT"][..]),
            ("Apache-2.0/MIT", &["MIT"]),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", &["MIT", "Unicode-3.0"]),
            ("Apache-2.0 WITH LLVM-exception OR MIT", &["MIT"]),
        ] {
            assert_eq!(chosen(expression).unwrap(), want, "{expression}");
        }
        let error = chosen("GPL-3.0-only").unwrap_err().to_string();
        assert!(error.starts_with("'GPL-3.0-only' is not accepted"), "{error}");
    }

    #[test]
    fn holders_are_found_and_templates_are_not() {
        let text = "MIT License\n\nCopyright (c) 2020 A Person\n  Copyright [yyyy] [name of copyright owner]\ncopyright notice \
                    and this permission\nCopyright © B\n// Copyright 2014 C\n";
        let want = ["Copyright (c) 2020 A Person", "Copyright 2014 C", "Copyright © B"];
        assert_eq!(holders(text).into_iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn fields_have_no_empty_lines() {
        assert_eq!(indented("a\n\n  b \n"), " a\n .\n   b\n");
    }

    /// Also: every licence in the binary is accepted and has a text.
    #[test]
    fn each_crate_in_the_binary_is_named() {
        let licences = collect().unwrap();
        let text = licences.debian();
        for name in ["Files: *\n", "Files: tokio-", "Files: aya-ebpf-", "Files: rust-std/*"] {
            assert!(text.contains(name), "{name}");
        }
        assert!(!text.contains("Files: proptest-"), "tests are not in the binary");
        for name in licences.names() {
            assert!(text.contains(&format!("\n\nLicense: {name}\n ")), "{name} has no text");
        }
    }
}
