//! The reference pages of the book, generated from the code.

mod api;
mod fleet;
mod markdown;

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _, Id};
use probe_common::abi::{COUNTER_MEANINGS, COUNTER_NAMES};
use probe_core::mismatch::Mismatch;
use probe_core::reflector::Count;

use crate::command::Cli;
use crate::output::field_lists::{DISTRIBUTION, Field};
use crate::output::records::RECORDS;
use crate::output::text::counters::{HOPS, PROCESS};
use crate::reference::markdown::{GENERATED, table};

/// File names and contents.
pub fn pages() -> [(&'static str, String); 5] {
    [
        ("api.md", api::page()),
        ("commands.md", commands()),
        ("json.md", json()),
        ("counters.md", counters()),
        ("fleet.md", fleet::page()),
    ]
}

fn commands() -> String {
    let mut page =
        format!("{GENERATED}\n\n# Commands and flags\n\nDurations are a number and a unit: `500ms`, `2s`, `1m 30s`.\n");
    let mut cli = Cli::command();
    cli.build();
    section("kstamp COMMAND", &cli, &[], &mut page);
    sections("kstamp", &cli, &mut page);
    page
}

/// The subcommands, and theirs. Flags that a command shares with its subcommands are shown once.
fn sections(of: &str, command: &Command, page: &mut String) {
    let shared: Vec<_> = command
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .map(Arg::get_id)
        .collect();
    let is_shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for command in command.get_subcommands().filter(is_shown) {
        let name = format!("{of} {}", command.get_name());
        if !command.is_subcommand_required_set() {
            section(&name, command, &shared, page);
        }
        sections(&name, command, page);
    }
}

fn section(name: &str, command: &Command, shared: &[&Id], page: &mut String) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let rows = command
        .get_arguments()
        .filter(|arg| {
            let id = arg.get_id();
            !shared.contains(&id) && !arg.is_hide_set() && !["help", "version"].contains(&id.as_str())
        })
        .map(|arg| [flag(arg), values(arg), default(arg), meaning(arg)]);
    *page += &format!("\n## {name}\n\n{about}.\n\n");
    table(["Flag", "Value", "Default", "Meaning"], rows, page);
}

fn flag(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    let long = arg.get_long().map(|long| format!("`--{long}`"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    match names.is_empty() {
        true => format!("`{}`", arg.get_value_names().unwrap_or_default().join(" ")),
        false => names.join(", "),
    }
}

fn values(arg: &Arg) -> String {
    if !arg.get_action().takes_values() || arg.is_positional() {
        return String::new();
    }
    let possible = arg.get_possible_values();
    let names: Vec<_> = match possible.is_empty() {
        true => arg
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect(),
        false => possible.iter().map(|value| format!("`{}`", value.get_name())).collect(),
    };
    names.join(", ")
}

fn default(arg: &Arg) -> String {
    let values = arg
        .get_default_values()
        .iter()
        .filter(|_| arg.get_action().takes_values());
    values.map(|value| format!("`{}`", value.display())).collect()
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    for alias in arg.get_all_aliases().unwrap_or_default() {
        let _ = write!(text, "; `--{alias}` is its old name");
    }
    text + "."
}

fn json() -> String {
    let mut page = format!(
        "{GENERATED}\n\n# JSON fields\n\nWith `--format jsonl`, each line is one object. `type` says which record it is, and `agent` who \
         measured: an agent, reflector or hub has its own name (`--name`), `compare` and `volley` host and interface, `ping`, \
         `calibrate` and `controller` the host. Each record also has the fields listed here. \
         Names are stable: fields may be added, but none is renamed. A value that is not known is null, never zero.\n"
    );
    for record in RECORDS {
        let rows = record.fields.iter().flat_map(|fields| fields.iter()).map(row);
        page += &format!("\n## {} ({})\n\n{}\n\n", record.kind, record.commands, record.meaning);
        table(["Field", "Type", "Unit", "Meaning"], rows, &mut page);
    }
    page += "\n## Distributions\n\nAn object with these fields, in the unit of the field that contains it:\n\n";
    table(
        ["Field", "Type", "Unit", "Meaning"],
        DISTRIBUTION.iter().map(row),
        &mut page,
    );
    page
}

fn row(&(name, kind, meaning): &Field) -> [String; 4] {
    let (base, null) = match kind.strip_suffix('?') {
        Some(base) => (base, " or null"),
        None => (kind, ""),
    };
    let (base, unit) = match base {
        "ns" | "s" | "ppb" | "1/s" => ("integer", base),
        "time" => ("string (RFC 3339)", ""),
        "distribution" => ("distribution", if name.ends_with("_ns") { "ns" } else { "" }),
        other => (other, ""),
    };
    [
        format!("`{name}`"),
        format!("{base}{null}"),
        unit.to_owned(),
        meaning.to_owned(),
    ]
}

fn counters() -> String {
    let mut page = format!(
        "{GENERATED}\n\n# Counters\n\nThe `counters` record has a field for each counter. They count packets since the start.\n\n\
         ## Kernel programs\n\nEach packet counts once among those that begin with egress, probe or reply.\n\n"
    );
    let kernel = COUNTER_NAMES
        .iter()
        .zip(COUNTER_MEANINGS)
        .map(|(&name, meaning)| (name, meaning));
    let userspace = Count::ALL.iter().map(|count| (count.name(), count.meaning()));
    counter_table(kernel, &mut page);
    page += "\n## Userspace reflector\n\n";
    counter_table(userspace, &mut page);
    page += "\n## Process\n\n";
    counter_table(PROCESS.into_iter(), &mut page);
    page += "\n## Hop stamps\n\nWith `--hops`.\n\n";
    counter_table(HOPS.iter().map(|lost| (lost.name, lost.meaning)), &mut page);
    page +=
        "\n## Packets that answer no probe\n\n`unmatched` by reason, of those that came up to a sending socket.\n\n";
    counter_table(Mismatch::ALL.iter().map(|why| (why.name(), why.meaning())), &mut page);
    page
}

fn counter_table<'a>(counters: impl Iterator<Item = (&'a str, &'a str)>, page: &mut String) {
    let rows = counters.map(|(name, meaning)| [format!("`{name}`"), meaning.trim().to_owned()]);
    table(["Counter", "Meaning"], rows, page);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_pages_of_the_book_are_current() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/reference");
        for (name, expected) in pages() {
            let found = std::fs::read_to_string(directory.join(name)).unwrap();
            assert!(found == expected, "{name} is stale; `cargo xtask docs` writes it");
        }
    }
}
