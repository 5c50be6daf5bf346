//! Reads configuration files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use clap::Arg;
use toml_edit::{Document, Item, Key, TableLike, Value};

use crate::config::guarded::{self, Guard};
use crate::config::schema::{INTERFACE, Kind, Schema, example_of, key_of, kind_of};
use crate::config::settings::{Layer, Place, Setting};

/// Bytes of a file.
const MAX_FILE: u64 = 1 << 20;
/// Has a table for each interface.
const INTERFACES: &str = "interface";

/// What a file says.
#[derive(Debug, Default)]
pub struct Content {
    pub common: Layer,
    /// The tables of interfaces, and where they begin.
    pub interfaces: BTreeMap<String, (Place, Layer)>,
}

/// Reads a file. What is wrong with it goes to `problems`, a line each.
pub fn read(path: &Path, schema: Schema<'_>, problems: &mut Vec<String>) -> Content {
    let content = match guarded::read(path, Guard::Unchanged, MAX_FILE + 1) {
        Ok(content) => content,
        Err(error) => {
            problems.push(error.to_string());
            return Content::default();
        }
    };
    if content.len() as u64 > MAX_FILE {
        problems.push(format!(
            "{}: it is longer than {MAX_FILE} bytes; is it the right file?",
            path.display()
        ));
        return Content::default();
    }
    match String::from_utf8(content) {
        Ok(text) => parse(path, &text, schema, problems),
        Err(error) => {
            let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
            problems.push(format!("{}:{line}: it is not UTF-8", path.display()));
            Content::default()
        }
    }
}

/// Parses the text of a file.
pub fn parse(path: &Path, text: &str, schema: Schema<'_>, problems: &mut Vec<String>) -> Content {
    let mut reader = Reader {
        path,
        text,
        schema,
        problems,
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let why = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            reader.wrong(
                error.span(),
                &format!("this is not TOML ({why}); strings are in quotes"),
            );
            return Content::default();
        }
    };
    let mut content = Content::default();
    for (key, item) in entries(document.as_table()) {
        match (key.get(), item.as_table_like()) {
            (INTERFACES, Some(tables)) if schema.has_interfaces() => reader.interfaces(tables, &mut content),
            (INTERFACES, None) if schema.has_interfaces() => reader.wrong(
                key.span(),
                "interface has a table for each interface, such as [interface.port1]; one alone is iface = \"port1\"",
            ),
            _ => reader.entry(key, item, &mut content.common),
        }
    }
    content
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    schema: Schema<'a>,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn interfaces(&mut self, tables: &dyn TableLike, content: &mut Content) {
        for (key, item) in entries(tables) {
            let name = key.get();
            let Some(table) = item.as_table_like() else {
                self.wrong(
                    key.span(),
                    &format!("interface.{name} is not a table; write [interface.{name}]"),
                );
                continue;
            };
            let mut layer = Layer::new();
            for (key, item) in entries(table) {
                match key.get() {
                    INTERFACE => self.wrong(key.span(), "iface is the name of the table; leave it out"),
                    _ => self.entry(key, item, &mut layer),
                }
            }
            content
                .interfaces
                .insert(name.to_owned(), (self.place(key.span()), layer));
        }
    }

    fn entry(&mut self, key: &Key, item: &Item, layer: &mut Layer) {
        let name = key.get();
        let Some(arg) = self.schema.find(name) else {
            let command = self.schema.command();
            let remedy = match self.schema.suggestion(name) {
                Some(similar) => format!("did you mean {similar}?"),
                None => format!("`kstamp config default {command}` prints all keys"),
            };
            return self.wrong(
                key.span(),
                &format!("{name} is not a key of `kstamp {command}`; {remedy}"),
            );
        };
        let name = key_of(arg);
        match values(arg, item) {
            Ok(values) => {
                let kind = kind_of(arg);
                let place = self.place(key.span());
                layer.insert(name.to_owned(), Setting { kind, values, place });
            }
            Err(found) => {
                let (wanted, example) = (kind_of(arg).description(), example_of(arg));
                let problem = format!("{name} takes {wanted}, found {found}; write {name} = {example}");
                self.wrong(item.span().or(key.span()), &problem);
            }
        }
    }

    fn place(&self, span: Option<Range<usize>>) -> Place {
        Place::Line {
            file: self.path.to_owned(),
            line: line_at(self.text.as_bytes(), span.map_or(0, |span| span.start)),
        }
    }

    fn wrong(&mut self, span: Option<Range<usize>>, problem: &str) {
        let place = self.place(span);
        self.problems.push(format!("{place}: {problem}"));
    }
}

fn entries(table: &dyn TableLike) -> impl Iterator<Item = (&Key, &Item)> {
    table.iter().filter_map(|(name, _)| table.get_key_value(name))
}

fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// As on a command line; or what was found instead.
fn values(arg: &Arg, item: &Item) -> Result<Vec<OsString>, &'static str> {
    let value = item.as_value().ok_or(item.type_name())?;
    match (kind_of(arg), value) {
        (Kind::Switch, Value::Boolean(value)) => Ok(vec![value.value().to_string().into()]),
        (Kind::Count, Value::Integer(value)) => match u8::try_from(*value.value()) {
            Ok(number) => Ok(vec![number.to_string().into()]),
            Err(_) => Err("another number"),
        },
        (Kind::List, Value::Array(array)) => array.iter().map(scalar).collect(),
        (Kind::Value | Kind::List, value) => Ok(vec![scalar(value)?]),
        (_, value) => Err(value.type_name()),
    }
}

fn scalar(value: &Value) -> Result<OsString, &'static str> {
    match value {
        Value::String(text) => Ok(text.value().into()),
        Value::Integer(number) => Ok(number.value().to_string().into()),
        Value::Float(number) => Ok(number.value().to_string().into()),
        other => Err(other.type_name()),
    }
}
