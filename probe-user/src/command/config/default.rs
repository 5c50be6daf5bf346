//! `kstamp config default`: a file with all keys, commented out.

use clap::{Arg, Command};

use crate::config::schema::{INTERFACE, Schema, example_of, key_of};
use crate::output::text::wrap;

const COLUMNS: usize = 98;

/// A line with a key begins with `#`, a line with a comment with `#` and a blank. `cli` is built.
pub fn text(cli: &Command, command: &str) -> String {
    let Some(schema) = Schema::of(cli, command) else {
        return String::new();
    };
    let mut text = String::new();
    comment(
        &format!(
            "Configuration of `kstamp {command}`. The keys are the flags, and each line shows the default or the form of a \
             value. Flags outweigh the environment (KSTAMP_REPORT for report), which outweighs this file. Files *.toml in \
             the directory {command}.d outweigh this one, later names earlier ones."
        ),
        &mut text,
    );
    comment(
        &format!(
            "`kstamp config check {command}` checks all of them, `kstamp config show {command}` shows the result."
        ),
        &mut text,
    );
    for arg in schema.args() {
        text.push('\n');
        comment(&meaning(arg), &mut text);
        text += &format!("#{} = {}\n", key_of(arg), example_of(arg));
    }
    if schema.has_interfaces() {
        text.push('\n');
        comment(
            "Keys for one interface outweigh those above. Any key can be here, except iface.",
            &mut text,
        );
        text += "#[interface.port1]\n#report = \"1s\"\n";
    }
    text
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible = arg.get_possible_values();
    let names: Vec<_> = possible.iter().map(|value| value.get_name()).collect();
    match (key_of(arg), arg.get_action().takes_values() && !names.is_empty()) {
        (INTERFACE, _) => format!("{help}; not needed if there is one table of an interface"),
        (_, true) => format!("{help}: {}", names.join(", ")),
        (_, false) => help,
    }
}

fn comment(text: &str, out: &mut String) {
    let mut wrapped = Vec::new();
    // A vector takes everything.
    wrap::write("", text, 0, Some(COLUMNS), &mut wrapped).ok();
    for line in String::from_utf8_lossy(&wrapped).lines() {
        *out += &format!("# {line}\n");
    }
}
