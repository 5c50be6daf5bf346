//! `cargo xtask docs`: writes the reference pages, renders the book and checks the links.

mod links;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::setup::cargo_tool;
use crate::{exec, workspace};

/// Pages that are generated from the code, in the book's source.
const REFERENCE: &str = "docs/src/reference";

/// Whether to write.
#[derive(Clone, Debug, Args)]
pub struct DocsArguments {
    /// Do not write the reference pages; fail if they are stale.
    #[arg(long)]
    check: bool,
}

impl DocsArguments {
    /// Writes or compares, renders into `target/book`, checks links.
    ///
    /// # Errors
    /// If pages are stale, the book cannot be rendered, or a link or path leads nowhere.
    pub fn run(&self) -> Result<()> {
        reference(self.check)?;
        let book = render_here(&cargo_tool::MDBOOK.ensure()?)?;
        check_links(&book)?;
        println!("the book: {}", book.join("index.html").display());
        Ok(())
    }
}

/// Renders the book and checks links. A test of `probe-user` compares the reference pages.
pub(crate) fn check(mdbook: &Path) -> Result<()> {
    check_links(&render_here(mdbook)?)
}

/// Writes the generated pages, or compares them.
fn reference(check: bool) -> Result<()> {
    let mut command = workspace::cargo();
    command
        .args("run --quiet --package probe-user --example reference --".split(' '))
        .arg(REFERENCE);
    command.args(check.then_some("--check"));
    let success = command.status().context("cannot start cargo")?.success();
    ensure!(success, "the reference pages are stale: cargo xtask docs writes them");
    Ok(())
}

/// Renders the book of the working tree. Returns where it is.
fn render_here(mdbook: &Path) -> Result<PathBuf> {
    let book = workspace::target_directory().join("book");
    render(mdbook, "kstamp", &book)?;
    Ok(book)
}

/// Renders the book into a directory, under a title.
pub(crate) fn render(mdbook: &Path, title: &str, book: &Path) -> Result<()> {
    let mut command = Command::new(mdbook);
    command
        .current_dir(workspace::root())
        .env("MDBOOK_BOOK__TITLE", title)
        .args(["build", "docs", "--dest-dir"])
        .arg(book);
    exec::capture(&mut command).map(drop)
}

/// Checks the book and the Markdown files outside of it: links, and paths of this tree.
fn check_links(book: &Path) -> Result<()> {
    let root = workspace::root();
    let mut broken = links::broken(&files(book, "html")?, links::html)?;
    let outside: Vec<_> = ["", "examples"]
        .iter()
        .map(|directory| root.join(directory))
        .filter(|directory| directory.is_dir())
        .map(|directory| files_in(&directory, "md"))
        .collect::<Result<Vec<_>>>()?
        .concat();
    broken.extend(links::broken(&outside, links::markdown)?);
    for file in [outside, files(&root.join("docs/src"), "md")?].concat() {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let missing = links::missing_paths(&text, &root);
        broken.extend(missing.into_iter().map(|path| (file.clone(), path)));
    }
    for (file, link) in &broken {
        println!(
            "{}: broken link or path: {link}",
            file.strip_prefix(&root).unwrap_or(file).display()
        );
    }
    match broken.len() {
        0 => Ok(()),
        count => bail!("{count} broken links or paths"),
    }
}

fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = files_in(directory, extension)?;
    for path in entries(directory)?.into_iter().filter(|path| path.is_dir()) {
        found.extend(files(&path, extension)?);
    }
    Ok(found)
}

fn files_in(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let has_extension = |path: &PathBuf| path.is_file() && path.extension().is_some_and(|found| found == extension);
    Ok(entries(directory)?.into_iter().filter(has_extension).collect())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
