//! Checks the arguments of `kstamp report`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::command::report::args::ReportArgs;
use crate::command::shared::values::{self, ConfigError, STANDARD_OUTPUT, wrong};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportConfig {
    pub files: Vec<Input>,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// `None` for standard input.
    pub path: Option<PathBuf>,
    /// The agent of records that do not name theirs.
    pub agent: Option<String>,
}

impl Input {
    pub fn name(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => STANDARD_OUTPUT.to_owned(),
        }
    }
}

pub fn validate(args: ReportArgs) -> Result<ReportConfig, ConfigError> {
    let mut agents: BTreeMap<PathBuf, String> = BTreeMap::new();
    for given in &args.agent {
        let Some((file, name)) = given.rsplit_once('=') else {
            return wrong(format!("--agent '{given}' has no '='; write FILE=NAME"));
        };
        let file = PathBuf::from(file);
        if !args.files.contains(&file) {
            return wrong(format!(
                "--agent '{given}': {} is not among the files to read",
                file.display()
            ));
        }
        agents.insert(file, values::name_of("--agent", name.to_owned())?);
    }
    let mut files: Vec<Input> = Vec::new();
    for path in args.files {
        if files
            .iter()
            .any(|file| file.path.as_deref().unwrap_or(Path::new(STANDARD_OUTPUT)) == path)
        {
            return wrong(format!("FILE {} is given twice; give it once", path.display()));
        }
        let agent = agents.get(&path).cloned();
        files.push(Input {
            path: values::output(Some(path)),
            agent,
        });
    }
    Ok(ReportConfig {
        files,
        output: values::output(args.output),
    })
}

#[cfg(test)]
mod tests;
