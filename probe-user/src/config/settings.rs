//! The values of a command, and the place of each.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use crate::config::schema::Kind;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Line { file: PathBuf, line: usize },
    Variable(String),
    CommandLine,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => write!(f, "{name}"),
            Self::CommandLine => write!(f, "command line"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub kind: Kind,
    /// As on a command line; `true` or `false` of a switch, a number of a count.
    pub values: Vec<OsString>,
    pub place: Place,
}

impl Setting {
    /// Whether the flag would be on a command line.
    pub fn is_given(&self) -> bool {
        match self.kind {
            Kind::Switch => self.is("true"),
            Kind::Count => !self.is("0"),
            Kind::Value | Kind::List => !self.values.is_empty(),
        }
    }

    fn is(&self, value: &str) -> bool {
        self.values.first().is_some_and(|first| first == value)
    }

    /// The flag with its values.
    fn words(&self, key: &str) -> Vec<OsString> {
        let flag = || OsString::from(format!("--{key}"));
        match self.kind {
            Kind::Switch => self.is_given().then(flag).into_iter().collect(),
            Kind::Count => {
                let number = self.values.first().and_then(|number| number.to_str()?.parse().ok());
                vec![flag(); number.unwrap_or(0)]
            }
            Kind::Value | Kind::List => {
                let word = |value| {
                    let mut word = flag();
                    word.push("=");
                    word.push(value);
                    word
                };
                self.values.iter().map(word).collect()
            }
        }
    }
}

/// Parses and validates a command line, without files and environment.
pub type Accept<'a> = &'a dyn Fn(&[OsString]) -> Result<(), String>;

/// Settings by key.
pub type Layer = BTreeMap<String, Setting>;

/// The effective settings of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub command: String,
    /// The action of a command that has some, with its own words.
    pub action: Vec<OsString>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    pub by_key: Layer,
}

impl Settings {
    /// The command line that says the same.
    pub fn words(&self) -> Vec<OsString> {
        let flags = self.by_key.iter().flat_map(|(key, setting)| setting.words(key));
        [OsString::from("kstamp"), OsString::from(&self.command)]
            .into_iter()
            .chain(flags)
            .chain(self.action.iter().cloned())
            .collect()
    }

    /// The same with these keys as in `other`.
    pub fn with(mut self, keys: &[String], other: &Self) -> Self {
        for key in keys {
            match other.by_key.get(key) {
                Some(setting) => drop(self.by_key.insert(key.clone(), setting.clone())),
                None => drop(self.by_key.remove(key)),
            }
        }
        self
    }

    /// The keys whose values differ.
    pub fn changes(&self, other: &Self) -> Vec<String> {
        let values = |settings: &Self, key: &str| {
            let setting = settings.by_key.get(key).filter(|setting| setting.is_given());
            setting.map(|setting| setting.values.clone())
        };
        let keys: BTreeSet<_> = self.by_key.keys().chain(other.by_key.keys()).collect();
        let changed = keys.into_iter().filter(|key| values(self, key) != values(other, key));
        changed.cloned().collect()
    }

    /// Where the value of a key is, unless it is on the command line.
    fn elsewhere(&self, key: &str) -> Option<&Place> {
        let place = &self.by_key.get(key)?.place;
        (*place != Place::CommandLine).then_some(place)
    }

    /// The key that an error message is about: the first one with a value that it names before the remedy, or else the one
    /// without which no message names the same flags. If it names none, the one without which the message is another.
    pub fn blamed(&self, message: &str, accept: Accept<'_>) -> Option<&str> {
        let known = || named_in(message).filter_map(|key| self.by_key.get_key_value(key).map(|(key, _)| key.as_str()));
        let named = known()
            .find(|key| self.elsewhere(key).is_some())
            .or_else(|| known().next());
        named.or_else(|| {
            let is_refusal = accept(&self.words()).is_err();
            let is_needed = |key: &&String| {
                let mut without = self.clone();
                without.by_key.remove(*key);
                let refusal = accept(&without.words()).err().unwrap_or_default();
                match named_in(message).next() {
                    Some(_) => !named_in(message).all(|key| named_in(&refusal).any(|other| other == key)),
                    None => is_refusal && refusal != message,
                }
            };
            self.by_key.keys().find(is_needed).map(String::as_str)
        })
    }

    /// An error message about flags, with the place of the value that it is about.
    pub fn placed(&self, message: &str, accept: Accept<'_>) -> String {
        let Some((key, place)) = self
            .blamed(message, accept)
            .and_then(|key| Some((key, self.elsewhere(key)?)))
        else {
            return message.to_owned();
        };
        let mut line = format!("{place}: ");
        if !named_in(message).any(|named| named == key) {
            line += &format!("{key}: ");
        }
        let mut rest = message;
        while let Some((before, after)) = rest.split_once("--") {
            let key = key_at(after);
            let dashes = if self.elsewhere(key).is_some() { "" } else { "--" };
            line += &format!("{before}{dashes}{key}");
            rest = &after[key.len()..];
        }
        line + rest
    }
}

/// The flags that a message names before its remedy.
fn named_in(message: &str) -> impl Iterator<Item = &str> {
    keys_in(message.split(';').next().unwrap_or_default())
}

/// The flags that a message names, without their dashes.
pub fn keys_in(message: &str) -> impl Iterator<Item = &str> {
    message.split("--").skip(1).map(key_at)
}

fn key_at(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_ascii_lowercase() && c != '-')
        .unwrap_or(text.len());
    &text[..end]
}
