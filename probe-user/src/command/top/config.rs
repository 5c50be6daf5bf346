//! Checks the arguments of `kstamp top`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use hyper::Uri;
use probe_hub::roots::SYSTEM_ROOTS;

use crate::command::agent;
use crate::command::shared::values::{ConfigError, wrong};
use crate::command::top::args::{ConnectArgs, TopArgs};
use crate::config::guarded::{self, Guard};

/// Longest file of a password.
const MAX_PASSWORD_BYTES: usize = 4_096;
const PASSWORD: &str = "KSTAMP_PASSWORD";

#[derive(Debug, Clone)]
pub struct TopConfig {
    pub source: SourceConfig,
    pub look: Look,
}

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceConfig {
    /// An agent of its own, started with these words.
    Agent {
        words: Vec<OsString>,
    },
    Server(ServerConfig),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// As it is shown: without a name.
    pub url: String,
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
    /// Before `/api/v1`.
    pub path: String,
    /// Name and password.
    pub credentials: Option<(String, String)>,
    pub ca_file: PathBuf,
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub colours: Colours,
    /// Blocks and arrows of Unicode.
    pub is_unicode: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    None,
    Sixteen,
    Many,
}

impl Look {
    /// From the variables of the environment.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(set)
            .unwrap_or_default();
        let locale = locale.to_ascii_lowercase().replace('-', "");
        let terminal = set("TERM").unwrap_or_default();
        let colours = match set("NO_COLOR") {
            Some(_) => Colours::None,
            None if terminal.contains("256color") || set("COLORTERM").is_some() => Colours::Many,
            None => Colours::Sixteen,
        };
        Self {
            colours,
            is_unicode: locale.contains("utf8"),
        }
    }
}

pub fn validate(args: TopArgs) -> Result<TopConfig, ConfigError> {
    let source = source(args)?;
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    check_terminal(io::stdout().is_terminal(), variable("TERM").as_deref())?;
    Ok(TopConfig {
        source,
        look: Look::of(variable),
    })
}

fn check_terminal(is_terminal: bool, kind: Option<&str>) -> Result<(), ConfigError> {
    match kind {
        _ if !is_terminal => wrong(
            "standard output is no terminal, and `kstamp top` draws on one; for a pipe or a file use `kstamp agent`, with \
             --format jsonl for programs",
        ),
        None | Some("" | "dumb") => wrong(
            "TERM does not name a terminal that text can be placed on; set it, as to xterm, or use `kstamp agent`",
        ),
        Some(_) => Ok(()),
    }
}

fn source(args: TopArgs) -> Result<SourceConfig, ConfigError> {
    match args {
        TopArgs::Agent { args, words } => {
            agent::config::validate(*args)?;
            Ok(SourceConfig::Agent { words })
        }
        TopArgs::Connect(args) => {
            let password = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty());
            server(args, password).map(SourceConfig::Server)
        }
    }
}

/// `password`: of the environment.
fn server(args: ConnectArgs, password: Option<String>) -> Result<ServerConfig, ConfigError> {
    let given = args.connect.unwrap_or_default();
    let refuse = |why: &str| {
        wrong(format!(
            "--connect: {why}; write the address of an agent's --listen, such as http://127.0.0.1:9862"
        ))
    };
    let Ok(uri) = given.parse::<Uri>() else {
        return refuse("this is no URL");
    };
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse("the URL begins with neither http:// nor https://");
    };
    let is_tls = scheme == "https";
    let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(':')) {
        return wrong(
            "--connect has a password, which everybody on this host can see in the list of processes; put it into a file \
             that only you can read, and name that with --password-file",
        );
    }
    let password = match &args.password_file {
        Some(file) => Some(password_of(file)?),
        None => password,
    };
    let credentials = match (user, password) {
        (Some(user), Some(password)) => Some((user.to_owned(), password)),
        (Some(user), None) => {
            return wrong(format!(
                "--connect has the name '{user}' and no password; give it with --password-file"
            ));
        }
        (None, _) if args.password_file.is_some() => {
            return wrong("--password-file needs a name: write --connect http://NAME@HOST:PORT");
        }
        (None, _) => None,
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority.host().to_owned();
    let path = uri.path().trim_end_matches('/').to_owned();
    let ca_file = args.ca_file.unwrap_or_else(|| SYSTEM_ROOTS.into());
    if is_tls {
        fs::metadata(&ca_file).or_else(|error| wrong(format!("--ca-file {}: {error}", ca_file.display())))?;
    }
    Ok(ServerConfig {
        url: format!("{scheme}://{host}:{port}{path}"),
        host,
        port,
        is_tls,
        path,
        credentials,
        ca_file,
    })
}

/// The first line.
fn password_of(file: &Path) -> Result<String, ConfigError> {
    let refuse = |why: &str| wrong(format!("--password-file {}: {why}", file.display()));
    let content = guarded::read(file, Guard::Secret, MAX_PASSWORD_BYTES as u64 + 1)
        .map_err(|error| ConfigError::Flag(format!("--password-file: {error}")))?;
    if content.len() > MAX_PASSWORD_BYTES {
        return refuse("the file is too long for a password");
    }
    let Ok(text) = String::from_utf8(content) else {
        return refuse("it is not UTF-8");
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => refuse("the first line, which is the password, is empty"),
    }
}

#[cfg(test)]
mod tests;
