//! Flags of `kstamp top`: its own, or those of `kstamp agent`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::Error;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::command::agent::args::AgentArgs;

/// Report interval of the agent that `top` starts. The agent's default of 10 s is too slow for a live view.
const REPORT: &str = "2s";

/// Flags of an agent that `top` sets itself.
const SET: [&str; 3] = ["config", "format", "output"];

#[derive(Debug, Clone)]
pub enum TopArgs {
    /// Start an agent with these flags.
    Agent { args: Box<AgentArgs>, words: Vec<OsString> },
    /// Look at a running one.
    Connect(ConnectArgs),
}

#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// Show a running agent, by the address of its --listen, such as http://127.0.0.1:9862; with a name before an @, if it
    /// has passwords
    #[arg(long, value_name = "URL")]
    pub connect: Option<String>,

    /// The password for --connect, in this file [default: that of the environment variable KSTAMP_PASSWORD]
    #[arg(long, value_name = "FILE", requires = "connect", conflicts_with = "iface")]
    pub password_file: Option<PathBuf>,

    /// Certificates that the server of --connect may have been signed by, as PEM [default: those of this host]
    #[arg(long, value_name = "FILE", requires = "connect", conflicts_with = "iface")]
    pub ca_file: Option<PathBuf>,
}

impl Args for TopArgs {
    fn augment_args(command: Command) -> Command {
        let of_agent = flags_of_agent();
        let ids: Vec<_> = of_agent.iter().map(|arg| arg.get_id().clone()).collect();
        ConnectArgs::augment_args(command.args(of_agent))
            .mut_arg("iface", |arg| arg.required(false).required_unless_present("connect"))
            .mut_arg("report", |arg| {
                arg.help("Time between two reports").default_value(REPORT)
            })
            .mut_arg("connect", |arg| arg.conflicts_with_all(ids))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TopArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        if matches.contains_id("connect") {
            return Ok(Self::Connect(ConnectArgs::from_arg_matches(matches)?));
        }
        let words = words(matches);
        let agent = AgentArgs::augment_args(Command::new("agent")).try_get_matches_from(&words)?;
        Ok(Self::Agent {
            args: Box::new(AgentArgs::from_arg_matches(&agent)?),
            words,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Those that `top` takes.
fn flags_of_agent() -> Vec<Arg> {
    let agent = AgentArgs::augment_args(Command::new("agent"));
    let taken = agent
        .get_arguments()
        .filter(|arg| !SET.contains(&arg.get_id().as_str()));
    taken.cloned().collect()
}

/// The command line of the agent: the flags that were given, and those that `top` sets.
fn words(matches: &ArgMatches) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["agent".into()];
    for arg in flags_of_agent() {
        let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else {
            continue;
        };
        let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
        if !(is_given || id == "report") {
            continue;
        }
        if !arg.get_action().takes_values() {
            words.push(format!("--{long}").into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            words.push(word);
        }
    }
    words.extend(["--config=none", "--format=jsonl", "--output=-"].map(OsString::from));
    words
}
