//! Finds broken links: to a missing file, or to a missing heading of a page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The links and anchors of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    links: BTreeSet<String>,
    anchors: BTreeSet<String>,
}

/// The broken links in `files`, each with its file; `read` reads a page's text.
pub(super) fn broken(files: &[PathBuf], read: impl Fn(&str) -> Page) -> Result<Vec<(PathBuf, String)>> {
    let mut pages = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        pages.insert(file.clone(), read(&text));
    }
    let all = pages
        .iter()
        .flat_map(|(file, page)| page.links.iter().map(move |link| (file, link)));
    let broken = all.filter(|(file, link)| !leads_somewhere(file, link, &pages));
    Ok(broken.map(|(file, link)| (file.clone(), link.clone())).collect())
}

fn leads_somewhere(file: &Path, link: &str, pages: &BTreeMap<PathBuf, Page>) -> bool {
    // External links are not checked.
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => file.to_owned(),
        path => normal(&file.with_file_name(path)),
    };
    match pages.get(&target) {
        Some(page) => anchor.is_empty() || page.anchors.contains(anchor),
        None => target.exists(),
    }
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

/// Reads a rendered page.
pub(super) fn html(text: &str) -> Page {
    let values = |attribute: &str| {
        let parts = text.split(attribute).skip(1);
        parts
            .filter_map(|rest| rest.split('"').next())
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    Page {
        links: &values(" href=\"") | &values(" src=\""),
        anchors: values(" id=\""),
    }
}

/// Reads a Markdown file; code is left out.
pub(super) fn markdown(text: &str) -> Page {
    let mut page = Page::default();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            if line.starts_with('#') {
                page.anchors.insert(anchor(line.trim_start_matches('#')));
            }
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            let links = prose
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split([')', ' ']).next());
            page.links.extend(links.map(str::to_owned));
        }
    }
    page
}

/// Paths below `root` that Markdown names in `code` and that do not exist, also with a function (`path.rs::name`) that is
/// not in the file. `target` comes and goes.
pub(super) fn missing_paths(text: &str, root: &Path) -> BTreeSet<String> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_in_tree = |span: &&str| {
        let first = span.split_once('/').map_or("", |(first, _)| first);
        !["", ".", "..", "target"].contains(&first) && !span.contains([' ', '<', '*', '{']) && root.join(first).is_dir()
    };
    let missing = spans.filter(is_in_tree).filter(|span| !exists(span, root));
    missing.map(str::to_owned).collect()
}

fn exists(span: &str, root: &Path) -> bool {
    match span.split_once("::") {
        None => root.join(span).exists(),
        Some((path, function)) => {
            fs::read_to_string(root.join(path)).is_ok_and(|code| code.contains(&format!("fn {function}(")))
        }
    }
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.flat_map(char::to_lowercase)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(links: &[&str], anchors: &[&str]) -> Page {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Page {
            links: owned(links),
            anchors: owned(anchors),
        }
    }

    #[test]
    fn pages_are_read() {
        let text = r##"<h1 id="top">A</h1><a class="x" href="b.html#c">B</a><img src="d.svg"><p>href="no"</p>"##;
        assert_eq!(html(text), page(&["b.html#c", "d.svg"], &["top"]));
        let text = "# The `kstamp` way, now\nSee [b](b.md#c \"title\") and `[not](this)`.\n```\n[nor](this)\n# no\n```\n[e](#f)";
        assert_eq!(markdown(text), page(&["b.md#c", "#f"], &["the-kstamp-way-now"]));
    }

    #[test]
    fn a_path_in_code_must_exist_if_it_begins_in_the_tree() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("crate/src")).unwrap();
        fs::write(root.path().join("crate/src/a.rs"), "fn known() {}").unwrap();
        let text = "`crate/src/a.rs`, `crate/src`, `crate/src/b.rs`\n`other/c.rs` and crate/d.rs, `crate/<name>.rs`\n\
                    `crate/src/a.rs::known`, `crate/src/a.rs::unknown`, `crate/src/b.rs::known`";
        let missing = ["crate/src/b.rs", "crate/src/a.rs::unknown", "crate/src/b.rs::known"];
        assert_eq!(
            missing_paths(text, root.path()),
            missing.map(str::to_owned).into_iter().collect()
        );
    }

    #[test]
    fn a_link_leads_to_a_file_and_to_a_heading_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["a.md", "sub/b.md"].map(|name| directory.path().join(name));
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("sub/c.txt"), "").unwrap();
        fs::write(&files[1], "# B\n[up](../a.md)").unwrap();
        let cases = [
            ("sub/b.md", true),
            ("sub/b.md#b", true),
            ("./sub/../sub/b.md#b", true),
            ("sub/c.txt", true),
            ("sub", true),
            ("#here", true),
            ("https://example.org/#x", true),
            ("mailto:a@example.org", true),
            ("sub/d.md", false),
            ("sub/b.md#c", false),
            ("#there", false),
        ];
        for (link, want) in cases {
            fs::write(&files[0], format!("# Here\n[x]({link})")).unwrap();
            assert_eq!(broken(&files, markdown).unwrap().is_empty(), want, "{link}");
        }
    }
}
