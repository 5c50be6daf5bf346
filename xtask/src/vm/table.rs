//! The attach matrix: the results of tests in guests, as the tables of the documentation.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::vm::kernel::Kernel;
use crate::workspace;

const DOCUMENT: &str = "docs/src/reference/kernels.md";

/// Start of a line with a cell in the output of tests.
const MARK: &str = "attach matrix: ";

/// The columns, as `kstamp agent --attach` has them.
pub const MODES: [&str; 4] = ["xdp-native", "xdp-generic", "tc", "auto"];

/// The outcome of one mode on one kind of device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub device: String,
    /// The value of `--attach`.
    pub mode: String,
    /// `works`, or another outcome.
    pub outcome: String,
}

impl Cell {
    /// The line that a test prints.
    pub fn line(&self) -> String {
        // Three strings: this cannot fail.
        format!("{MARK}{}", serde_json::to_string(self).unwrap_or_default())
    }

    /// Parses a line that a test printed.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix(MARK)?).ok()
    }
}

/// One row for each kind of device, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Table {
    devices: Vec<String>,
    cells: BTreeMap<(String, String), String>,
}

impl Table {
    /// Adds the cell in a line, if there is one.
    pub fn read_line(&mut self, line: &str) {
        if let Some(cell) = Cell::parse(line) {
            if !self.devices.contains(&cell.device) {
                self.devices.push(cell.device.clone());
            }
            self.cells.insert((cell.device, cell.mode), cell.outcome);
        }
    }

    /// Whether there is no cell, because the matrix was not among the tests.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn markdown(&self) -> String {
        let row = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut text = row(["device"].into_iter().chain(MODES).collect());
        text += &row(vec!["---"; 1 + MODES.len()]);
        for device in &self.devices {
            let outcome = |mode: &str| self.cells.get(&(device.clone(), mode.to_owned()));
            let outcomes = MODES.map(|mode| outcome(mode).map_or("", String::as_str));
            text += &row([device.as_str()].into_iter().chain(outcomes).collect());
        }
        text
    }

    /// Compares it with the table of `kernel` in the documentation. If they differ, the error names the command that
    /// updates the documentation.
    pub fn check(&self, kernel: Kernel) -> Result<()> {
        let text = read()?;
        if place(&text, kernel)?.1 == self.markdown() {
            return Ok(());
        }
        bail!(
            "{} has another table for Linux {series}; cargo xtask test --vm {series} --filter attach_matrix \
             --write-table writes the one that was found:\n{}",
            document().display(),
            self.markdown(),
            series = kernel.series()
        );
    }

    /// Writes it into the documentation.
    pub fn write(&self, kernel: Kernel) -> Result<()> {
        let text = read()?;
        let (before, _, after) = place(&text, kernel)?;
        let path = document();
        fs::write(&path, [before, &self.markdown(), after].concat())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn document() -> PathBuf {
    workspace::root().join(DOCUMENT)
}

fn read() -> Result<String> {
    let path = document();
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The text before the table of `kernel`, the table, and the text after it.
fn place(text: &str, kernel: Kernel) -> Result<(&str, &str, &str)> {
    let begin = format!("<!-- Linux {}: found by the attach_matrix test -->\n", kernel.series());
    let end = "<!-- end -->\n";
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (table, _) = rest.split_once(end)?;
        let start = before.len() + begin.len();
        Some((&text[..start], table, &text[start + table.len()..]))
    });
    parts.with_context(|| {
        format!(
            "{} has no table between `{}` and `{}`",
            document().display(),
            begin.trim(),
            end.trim()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(device: &str, mode: &str, outcome: &str) -> Cell {
        let [device, mode, outcome] = [device, mode, outcome].map(str::to_owned);
        Cell { device, mode, outcome }
    }

    #[test]
    fn a_table_is_collected_from_the_output_of_tests() {
        let mut table = Table::default();
        assert!(table.is_empty());
        for cell in [
            cell("veth", "tc", "works"),
            cell("bridge", "auto", "works"),
            cell("veth", "auto", "xdp-generic"),
        ] {
            table.read_line(&cell.line());
        }
        table.read_line("test something ... ok");
        table.read_line("attach matrix: no JSON");
        let expected = "| device | xdp-native | xdp-generic | tc | auto |\n| --- | --- | --- | --- | --- |\n\
                        | veth |  |  | works | xdp-generic |\n| bridge |  |  |  | works |\n";
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn each_kernel_has_a_place_in_the_documentation() {
        let text = read().unwrap();
        for kernel in [Kernel::V6_1, Kernel::V6_12] {
            let (before, table, after) = place(&text, kernel).unwrap();
            assert_eq!([before, table, after].concat(), text);
            assert!(table.starts_with("| device |"), "{table}");
        }
    }
}
