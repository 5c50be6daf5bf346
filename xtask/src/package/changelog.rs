//! `CHANGELOG.md`, and the form of it that Debian's tools read.

use std::fs;

use anyhow::{Context as _, Result};

use crate::package::deb::MAINTAINER;
use crate::package::program::date;
use crate::workspace;

/// Debian asks for less than 80 characters.
const COLUMNS: usize = 78;

/// A version in `CHANGELOG.md`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// `None`: not released yet.
    pub(crate) version: Option<String>,
    /// As it is written: `2026-11-27`.
    pub(crate) date: Option<String>,
    /// Headings and list items, each as one line.
    items: Vec<Item>,
}

#[derive(Debug, PartialEq, Eq)]
enum Item {
    Heading(String),
    Change(String),
}

/// The sections of this source, the newest first.
pub(crate) fn sections() -> Result<Vec<Section>> {
    let path = workspace::root().join("CHANGELOG.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse_sections(&text))
}

pub(crate) fn parse_sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let (version, date) = title.split_once(" - ").unwrap_or((title, ""));
            sections.push(Section {
                version: (version != "Unreleased").then(|| version.trim_matches(['[', ']']).to_owned()),
                date: (!date.is_empty()).then(|| date.to_owned()),
                items: Vec::new(),
            });
            continue;
        }
        let Some(section) = sections.last_mut() else { continue };
        if let Some(heading) = line.strip_prefix("### ") {
            section.items.push(Item::Heading(heading.to_owned()));
        } else if let Some(change) = line.strip_prefix("* ") {
            section.items.push(Item::Change(change.to_owned()));
        } else if let (Some(Item::Change(change)), false) = (section.items.last_mut(), line.trim().is_empty()) {
            *change = format!("{change} {}", line.trim());
        }
    }
    sections
}

/// All sections as Debian writes them. What is not released yet belongs to `version`, at the time of the source.
pub(super) fn debian(version: &str, epoch: u64) -> Result<String> {
    let mut text = String::new();
    for section in sections()? {
        let source = format!("@{epoch}");
        let date = date(section.date.as_deref().unwrap_or(&source), "--rfc-email")?;
        text += &entry(&section, section.version.as_deref().unwrap_or(version), &date);
    }
    Ok(text)
}

fn entry(section: &Section, version: &str, date: &str) -> String {
    let items = section.items.iter().map(|item| match item {
        Item::Heading(heading) => format!("\n  [ {heading} ]\n"),
        Item::Change(change) => wrap(change),
    });
    let items: String = items.collect();
    let items = items.trim_start_matches('\n');
    format!("kstamp ({version}) unstable; urgency=medium\n\n{items}\n -- {MAINTAINER}  {date}\n\n")
}

/// A list item of lines that are not too long.
fn wrap(change: &str) -> String {
    let mut lines = vec!["  *".to_owned()];
    for word in change.split_whitespace() {
        if lines
            .last()
            .is_some_and(|line| line.chars().count() + 1 + word.chars().count() > COLUMNS)
        {
            lines.push("   ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            *line += &format!(" {word}");
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_become_entries() {
        let text = "# Changelog\n\nThe format.\n\n## Unreleased\n\n### Added\n\n* One thing,\n  which goes on.\n* Two.\n\n## \
                    [0.1.0] - 2026-11-27\n\n* Three.\n";
        let sections = parse_sections(text);
        assert_eq!(sections[0].version, None);
        assert_eq!(
            (sections[1].version.as_deref(), sections[1].date.as_deref()),
            (Some("0.1.0"), Some("2026-11-27"))
        );
        let want = format!(
            "kstamp (0.2.0) unstable; urgency=medium\n\n  [ Added ]\n  * One thing, which goes on.\n  * Two.\n\n -- \
             {MAINTAINER}  today\n\n"
        );
        assert_eq!(entry(&sections[0], "0.2.0", "today"), want);
    }

    #[test]
    fn long_items_are_wrapped() {
        let text = wrap(&"word ".repeat(40));
        assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert_eq!(
            text.lines().filter(|line| line.starts_with("  * ")).count(),
            1,
            "{text}"
        );
    }
}
