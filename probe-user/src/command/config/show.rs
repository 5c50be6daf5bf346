//! `kstamp config show`.

use crate::config::schema::{Kind, Schema, example_of, key_of, kind_of, written};
use crate::config::settings::{Setting, Settings};

/// A line for each key, as in a file: its value, and where that comes from.
pub fn text(schema: Schema<'_>, settings: &Settings) -> String {
    let lines: Vec<(String, String)> = schema
        .args()
        .map(|arg| {
            let key = key_of(arg);
            match settings.by_key.get(key) {
                Some(setting) => (format!("{key} = {}", value(setting)), setting.place.to_string()),
                None if arg.get_default_values().is_empty() && kind_of(arg) != Kind::Switch => {
                    (format!("# {key} = {}", example_of(arg)), "not set".to_owned())
                }
                None => (format!("{key} = {}", example_of(arg)), "default".to_owned()),
            }
        })
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    lines
        .iter()
        .map(|(line, place)| format!("{line:width$}  # {place}\n"))
        .collect()
}

fn value(setting: &Setting) -> String {
    let texts: Vec<_> = setting
        .values
        .iter()
        .map(|value| written(&value.to_string_lossy()))
        .collect();
    match setting.kind {
        Kind::Switch | Kind::Count => setting.values.iter().map(|value| value.to_string_lossy()).collect(),
        Kind::Value => texts.concat(),
        Kind::List => format!("[{}]", texts.join(", ")),
    }
}
