//! `cargo xtask release`: checks the source, builds everything that a release consists of, and tags it. Nothing leaves this
//! machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::package::{Format, Package, Section, VERSION, epoch, release_build, scratch, sections, sha256, tarball};
use crate::setup::cargo_tool;
use crate::{docs, exec, workspace};

#[derive(Clone, Debug, Args)]
pub struct ReleaseArguments {
    /// Build everything, name what prevents a release, and make no tag.
    #[arg(long)]
    dry_run: bool,
    /// Directory for the release [default: target/release-VERSION].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Release this kstamp instead of a release build.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl ReleaseArguments {
    /// A dry run also fails if something prevents a release, but builds everything first.
    pub fn run(&self) -> Result<ExitCode> {
        let objections = objections()?;
        objections
            .iter()
            .for_each(|objection| eprintln!("release: {objection}"));
        if !objections.is_empty() && !self.dry_run {
            return Ok(ExitCode::FAILURE);
        }
        let default = || workspace::target_directory().join(format!("release-{VERSION}"));
        let output = self.output.clone().unwrap_or_else(default);
        let binary = self.binary.clone().map_or_else(release_build, Ok)?;
        build(binary, &output)?;
        println!("{}", output.display());
        let tag = tag();
        let commit = git(&["rev-parse", "--short", "HEAD"])?;
        if self.dry_run {
            println!("would tag {commit} as {tag}");
            return Ok(ExitCode::from(u8::from(!objections.is_empty())));
        }
        git(&["tag", "--annotate", "--message", &format!("kstamp {VERSION}"), &tag])?;
        println!("{commit} is tagged {tag}; git push origin {tag} publishes it");
        Ok(ExitCode::SUCCESS)
    }
}

fn tag() -> String {
    format!("v{VERSION}")
}

/// What prevents a release of this source.
fn objections() -> Result<Vec<String>> {
    let mut found = Vec::from_iter(disagreement(&sections()?));
    let changed = git(&["status", "--porcelain"])?;
    if !changed.is_empty() {
        found.push(format!(
            "{} files are not committed: commit them first",
            changed.lines().count()
        ));
    }
    let tag = tag();
    if !git(&["tag", "--list", &tag])?.is_empty() {
        found.push(format!("there is a tag {tag} already: raise the version in Cargo.toml"));
    }
    Ok(found)
}

/// How `CHANGELOG.md` disagrees with the version.
fn disagreement(sections: &[Section]) -> Option<String> {
    match sections.first()? {
        Section { version: None, .. } => Some(format!(
            "CHANGELOG.md begins with changes that are not released: call that section \"{VERSION} - YEAR-MONTH-DAY\""
        )),
        Section {
            version: Some(version), ..
        } if version != VERSION => Some(format!(
            "CHANGELOG.md begins with {version}, and Cargo.toml has {VERSION}"
        )),
        Section { date: None, .. } => Some(format!(
            "CHANGELOG.md has no date for {VERSION}: \"{VERSION} - YEAR-MONTH-DAY\""
        )),
        Section { .. } => None,
    }
}

/// Packages, list of components, book, and the hashes of the files.
fn build(binary: PathBuf, output: &Path) -> Result<()> {
    if output.exists() {
        fs::remove_dir_all(output).with_context(|| format!("cannot remove {}", output.display()))?;
    }
    let mut files = Package::of_this_version(binary, output.to_owned())?.build(&Format::ALL)?;
    files.extend(components(output)?);
    files.push(book(output)?);
    let mut sums = String::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        sums += &format!("{}  {name}\n", sha256(file)?);
    }
    let path = output.join("SHA256SUMS");
    fs::write(&path, sums).with_context(|| format!("cannot write {}", path.display()))
}

/// What the process and the kernel programs are made of: two software bills of materials (CycloneDX).
fn components(output: &Path) -> Result<[PathBuf; 2]> {
    let tool = cargo_tool::CARGO_CYCLONEDX.ensure()?;
    // It writes beside each Cargo.toml, so it gets a copy of the source.
    let work = scratch()?;
    let archive = work.path().join("source.tar");
    git(&["archive", "--output", &archive.to_string_lossy(), "HEAD"])?;
    exec::capture(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(&archive)
            .current_dir(&work),
    )?;
    let mut command = Command::new(tool);
    command
        .args("cyclonedx --quiet --format json --spec-version 1.5 --override-filename components".split(' '))
        .env("SOURCE_DATE_EPOCH", epoch()?.to_string())
        .current_dir(&work);
    exec::capture(&mut command)?;
    let [process, programs] = [("probe-user", "kstamp"), ("probe-ebpf", "kstamp-programs")].map(|(package, name)| {
        let from = work.path().join(package).join("components.json");
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        // Identifiers of this source have the path of the copy.
        let text = text.replace(&*work.path().to_string_lossy(), "/kstamp");
        let to = output.join(format!("{name}-{VERSION}.cdx.json"));
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
        Ok::<_, anyhow::Error>(to)
    });
    Ok([process?, programs?])
}

/// The book, which names the version that it describes.
fn book(output: &Path) -> Result<PathBuf> {
    let work = scratch()?;
    docs::render(&cargo_tool::MDBOOK.ensure()?, &format!("kstamp {VERSION}"), work.path())?;
    tarball(work.path(), epoch()?, &format!("kstamp-{VERSION}-book"), output)
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = exec::capture(Command::new("git").args(arguments).current_dir(workspace::root()))?;
    Ok(output.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::parse_sections;

    #[test]
    fn the_changelog_begins_with_the_version_and_its_date() {
        let dated = format!("# Changelog\n\n## {VERSION} - 2026-11-27\n");
        for (text, want) in [
            ("## Unreleased\n", Some("begins with changes that are not released")),
            (
                "## 99.0.0 - 2026-11-27\n",
                Some("begins with 99.0.0, and Cargo.toml has"),
            ),
            (&dated.replace(" - 2026-11-27", ""), Some("has no date")),
            (&dated, None),
        ] {
            let found = disagreement(&parse_sections(text));
            assert_eq!(found.is_some(), want.is_some(), "{text}: {found:?}");
            assert!(found.unwrap_or_default().contains(want.unwrap_or_default()), "{text}");
        }
    }
}
