//! The keys of a command: its flags.

use clap::builder::Resettable;
use clap::{Arg, ArgAction, Command, Id};

/// The flag that names the configuration file. Commands that have it are configurable.
pub const CONFIG: &str = "config";
/// The flag that names the interface.
pub const INTERFACE: &str = "iface";

/// Names that are at least this similar are suggested, as clap does.
const SIMILAR: f64 = 0.7;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// How often the flag is given.
    Count,
    Value,
    List,
}

impl Kind {
    /// For error messages.
    pub fn description(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Count => "a number from 0 to 255",
            Self::Value => "a string or a number",
            Self::List => "a list of strings",
        }
    }
}

/// The flags of a command.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a>(&'a Command);

impl<'a> Schema<'a> {
    /// Of a subcommand of `cli`, which is built, if files configure it.
    pub fn of(cli: &'a Command, name: &str) -> Option<Self> {
        let command = cli.find_subcommand(name)?;
        let mut arguments = command.get_arguments();
        arguments.any(|arg| arg.get_id() == CONFIG).then_some(Self(command))
    }

    pub fn command(&self) -> &'a str {
        self.0.get_name()
    }

    pub fn args(self) -> impl Iterator<Item = &'a Arg> {
        let is_key =
            |arg: &&Arg| arg.get_long().is_some() && ![CONFIG, "help", "version"].contains(&arg.get_id().as_str());
        self.0.get_arguments().filter(is_key)
    }

    /// The arguments that an action has of its own.
    pub fn args_of_action(self, name: &str) -> impl Iterator<Item = &'a Arg> {
        let arguments = self
            .0
            .find_subcommand(name)
            .into_iter()
            .flat_map(Command::get_arguments);
        arguments.filter(|arg| !arg.is_global_set() && arg.get_id() != "help")
    }

    /// The flag of this name, which may be an old one.
    pub fn find(self, key: &str) -> Option<&'a Arg> {
        self.args().find(|arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(key) || aliases.contains(&key)
        })
    }

    /// The most similar key.
    pub fn suggestion(self, wrong: &str) -> Option<&'a str> {
        let similarity = |key: &str| strsim::jaro(wrong, key);
        let keys = self.args().map(key_of).filter(|key| similarity(key) > SIMILAR);
        keys.max_by(|one, other| similarity(one).total_cmp(&similarity(other)))
    }

    /// Whether tables of interfaces have values of their own.
    pub fn has_interfaces(self) -> bool {
        self.find(INTERFACE).is_some()
    }

    /// The pairs of keys that exclude each other.
    pub fn conflicts(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let of_one = move |arg: &'a Arg| {
            let others = self.0.get_arg_conflicts_with(arg);
            others.into_iter().map(move |other| (key_of(arg), key_of(other)))
        };
        self.args().flat_map(of_one)
    }
}

pub fn key_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

pub fn kind_of(arg: &Arg) -> Kind {
    match arg.get_action() {
        ArgAction::SetTrue => Kind::Switch,
        ArgAction::Count => Kind::Count,
        ArgAction::Append => Kind::List,
        _ => Kind::Value,
    }
}

/// The environment variable of a key.
pub fn variable_of(key: &str) -> String {
    format!("KSTAMP_{}", key.to_uppercase().replace('-', "_"))
}

/// A value as it is written in a file: the default, or what the flag's help calls it.
pub fn example_of(arg: &Arg) -> String {
    let default = arg.get_default_values().first();
    let possible = arg.get_possible_values();
    let text = match (default, possible.first(), arg.get_value_names()) {
        (Some(default), ..) => default.to_string_lossy().into_owned(),
        (None, Some(possible), _) => possible.get_name().to_owned(),
        (None, None, Some([name, ..])) => name.to_string(),
        _ => String::new(),
    };
    match kind_of(arg) {
        Kind::Switch => "false".to_owned(),
        Kind::Count => "0".to_owned(),
        Kind::Value => written(&text),
        Kind::List => format!("[{}]", written(&text)),
    }
}

/// A text as TOML writes it, without quotes if it is a number.
pub fn written(text: &str) -> String {
    match text.parse::<i64>() {
        Ok(number) => number.to_string(),
        Err(_) => toml_edit::Value::from(text).to_string(),
    }
}

/// The same commands, which accept any combination of their flags.
pub fn loosened(cli: Command) -> Command {
    cli.mut_subcommands(|command| {
        command.mut_args(|arg| {
            arg.required(false)
                .requires(Resettable::<Id>::Reset)
                .conflicts_with(Resettable::<Id>::Reset)
        })
    })
}
