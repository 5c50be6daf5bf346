//! Finds all sources of a command's values, and merges them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::config::System;
use crate::config::file::{self, Content};
use crate::config::schema::{CONFIG, INTERFACE, Kind, Schema, key_of, kind_of, loosened, variable_of};
use crate::config::settings::{Layer, Place, Setting, Settings};

/// The value of `--config` for reading no file.
const NO_FILE: &str = "none";

/// All values of a command, by source.
#[derive(Debug)]
pub struct Sources<'a> {
    pub schema: Schema<'a>,
    /// The files that were read, by rising weight.
    pub files: Vec<PathBuf>,
    /// What is wrong with the files and variables, a line each.
    pub problems: Vec<String>,
    /// Of each file.
    common: Vec<Layer>,
    interfaces: BTreeMap<String, (Place, Layer)>,
    variables: Layer,
    line: Layer,
    action: Vec<OsString>,
}

impl<'a> Sources<'a> {
    /// Reads what a command line and `system` say. `None` if the command has no configuration, or if its command line is
    /// wrong. `cli` is built.
    pub fn read(cli: &'a Command, arguments: &[OsString], system: &System) -> Option<Self> {
        let matches = loosened(cli.clone()).try_get_matches_from(arguments).ok()?;
        let (name, matches) = matches.subcommand()?;
        let schema = Schema::of(cli, name)?;
        let mut sources = Self {
            schema,
            files: Vec::new(),
            problems: Vec::new(),
            common: Vec::new(),
            interfaces: BTreeMap::new(),
            variables: Layer::new(),
            line: of_line(schema, matches),
            action: action(schema, matches),
        };
        let variable = |key: &str| {
            let name = variable_of(key);
            let value = system.variables.get(OsStr::new(&name))?;
            (!value.is_empty()).then_some((name, value))
        };
        for arg in schema.args() {
            let Some((name, value)) = variable(key_of(arg)) else {
                continue;
            };
            match of_variable(arg, value) {
                Some(values) => drop(sources.variables.insert(
                    key_of(arg).to_owned(),
                    Setting {
                        kind: kind_of(arg),
                        values,
                        place: Place::Variable(name),
                    },
                )),
                None => sources.problems.push(format!(
                    "{name}: '{}' is not {}",
                    value.display(),
                    kind_of(arg).description()
                )),
            }
        }
        let chosen = matches.get_raw(CONFIG).and_then(|mut values| values.next());
        let chosen = chosen.or_else(|| variable(CONFIG).map(|(_, value)| value.as_os_str()));
        match files(chosen, system.directory.as_deref(), name) {
            Ok(files) => files.into_iter().for_each(|path| sources.add(path)),
            Err(problem) => sources.problems.push(problem),
        }
        Some(sources)
    }

    fn add(&mut self, path: PathBuf) {
        let Content { common, interfaces } = file::read(&path, self.schema, &mut self.problems);
        self.common.push(common);
        for (name, (place, layer)) in interfaces {
            match self.interfaces.get(&name) {
                Some((other, _)) => self.problems.push(format!(
                    "{place}: the interface {name} is configured at {other} already; keep one of the two tables"
                )),
                None => drop(self.interfaces.insert(name, (place, layer))),
            }
        }
        self.files.push(path);
    }

    /// The interface on the command line, or else all that are configured.
    pub fn all_interfaces(&self) -> Vec<String> {
        let named = self.common(INTERFACE);
        let names = named
            .and_then(|setting| setting.values.first())
            .map(|name| name.to_string_lossy().into_owned());
        let is_chosen = named.is_some_and(|setting| setting.place == Place::CommandLine);
        let tables = self.interfaces.keys().filter(|_| !is_chosen).cloned();
        tables.chain(names).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The value of a common key.
    fn common(&self, key: &str) -> Option<&Setting> {
        let files = self.common.iter().rev().filter_map(|layer| layer.get(key));
        [&self.line, &self.variables]
            .into_iter()
            .filter_map(|layer| layer.get(key))
            .chain(files)
            .next()
    }

    /// The interface, unless its choice is open.
    fn interface(&self) -> Option<String> {
        let named = self.common(INTERFACE).and_then(|setting| setting.values.first());
        let named = named.map(|name| name.to_string_lossy().into_owned());
        named.or_else(|| {
            self.interfaces
                .keys()
                .next()
                .filter(|_| self.interfaces.len() == 1)
                .cloned()
        })
    }

    /// The effective settings. Fails if several interfaces are configured, and none is named.
    pub fn settings(&self) -> Result<Settings, String> {
        let interface = self.interface();
        if interface.is_none() && !self.interfaces.is_empty() {
            let names: Vec<_> = self
                .interfaces
                .iter()
                .map(|(name, (place, _))| format!("{name} ({place})"))
                .collect();
            return Err(format!(
                "several interfaces are configured: {}; name one by --iface",
                names.join(", ")
            ));
        }
        Ok(self.settings_of(interface.as_deref()))
    }

    /// The effective settings on an interface.
    pub fn settings_of(&self, interface: Option<&str>) -> Settings {
        let table = interface.and_then(|name| self.interfaces.get(name));
        let layers = self.common.iter().chain(table.map(|(_, layer)| layer));
        let layers = layers.chain([&self.variables, &self.line]);
        let mut weighed = BTreeMap::new();
        for (weight, layer) in layers.enumerate() {
            weighed.extend(
                layer
                    .iter()
                    .map(|(key, setting)| (key.clone(), (weight, setting.clone()))),
            );
        }
        if let Some(name) = interface.filter(|name| self.common(INTERFACE).is_none_or(|named| named.values != [*name]))
        {
            let setting = Setting {
                kind: Kind::Value,
                values: vec![name.into()],
                place: table.map_or(Place::CommandLine, |(place, _)| place.clone()),
            };
            weighed.insert(INTERFACE.to_owned(), (usize::MAX, setting));
        }
        for (one, other) in self.schema.conflicts() {
            let given = |key| {
                weighed
                    .get(key)
                    .filter(|(_, setting)| setting.is_given())
                    .map(|(weight, _)| *weight)
            };
            if let (Some(of_one), Some(of_other)) = (given(one), given(other))
                && of_one != of_other
            {
                weighed.remove(if of_one < of_other { one } else { other });
            }
        }
        Settings {
            command: self.schema.command().to_owned(),
            action: self.action.clone(),
            files: self.files.clone(),
            by_key: weighed.into_iter().map(|(key, (_, setting))| (key, setting)).collect(),
        }
    }
}

/// The values on a command line.
fn of_line(schema: Schema<'_>, matches: &ArgMatches) -> Layer {
    let setting = |arg: &Arg| {
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            return None;
        }
        let kind = kind_of(arg);
        let values = match kind {
            Kind::Switch => vec![matches.get_flag(id).to_string().into()],
            Kind::Count => vec![matches.get_count(id).to_string().into()],
            Kind::Value | Kind::List => matches.get_raw(id)?.map(ToOwned::to_owned).collect(),
        };
        let place = Place::CommandLine;
        Some((key_of(arg).to_owned(), Setting { kind, values, place }))
    };
    schema.args().filter_map(setting).collect()
}

/// The action on a command line, with its words. Flags that it shares with the command are among the command's.
fn action(schema: Schema<'_>, matches: &ArgMatches) -> Vec<OsString> {
    let Some((name, matches)) = matches.subcommand() else {
        return Vec::new();
    };
    let mut words = vec![name.into()];
    for arg in schema.args_of_action(name) {
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let flag = || OsString::from(format!("--{}", key_of(arg)));
        match (arg.is_positional(), kind_of(arg)) {
            (true, _) => words.extend(matches.get_raw(id).into_iter().flatten().map(ToOwned::to_owned)),
            (false, Kind::Switch | Kind::Count) => words.push(flag()),
            (false, Kind::Value | Kind::List) => {
                let values = matches.get_raw(id).into_iter().flatten();
                words.extend(values.flat_map(|value| [flag(), value.to_owned()]));
            }
        }
    }
    words
}

/// The value of an environment variable, as on a command line.
fn of_variable(arg: &Arg, value: &OsStr) -> Option<Vec<OsString>> {
    let text = value.to_string_lossy();
    match kind_of(arg) {
        Kind::Switch => match &*text {
            "true" | "1" => Some(vec!["true".into()]),
            "false" | "0" => Some(vec!["false".into()]),
            _ => None,
        },
        Kind::Count => text.parse::<u8>().ok().map(|number| vec![number.to_string().into()]),
        Kind::Value => Some(vec![value.to_owned()]),
        Kind::List => {
            let values = text.split([',', ' ']).filter(|value| !value.is_empty());
            Some(values.map(OsString::from).collect())
        }
    }
}

/// The files to read, by rising weight: the chosen or the default one, and those in the directory beside it.
fn files(chosen: Option<&OsStr>, directory: Option<&Path>, command: &str) -> Result<Vec<PathBuf>, String> {
    let main = match (chosen, directory) {
        (Some(name), _) if name == NO_FILE => return Ok(vec![]),
        (Some(path), _) => PathBuf::from(path),
        (None, Some(directory)) => directory.join(command).with_extension("toml"),
        (None, None) => return Ok(vec![]),
    };
    let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let drop_ins = main.with_extension("d");
    let mut files: Vec<PathBuf> = match fs::read_dir(&drop_ins) {
        Ok(entries) => entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_drop_in(path))
            .collect(),
        Err(error) if is_absent(&error) => vec![],
        Err(error) => return Err(format!("cannot read the directory {}: {error}", drop_ins.display())),
    };
    files.sort_unstable();
    if chosen.is_some() || !fs::metadata(&main).is_err_and(|error| is_absent(&error)) {
        files.insert(0, main);
    }
    Ok(files)
}

/// `*.toml`, without what editors leave.
fn is_drop_in(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    path.extension().is_some_and(|extension| extension == "toml") && !is_hidden
}
