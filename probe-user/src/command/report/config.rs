//! Checks the arguments of `kstamp report`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::command::report::args::{ReportArgs, ReportFormat};
use crate::command::shared::values::{self, ConfigError, STANDARD_OUTPUT, wrong};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportConfig {
    pub files: Vec<Input>,
    pub format: ReportFormat,
    /// `None` for no report.
    pub output: Option<Place>,
    pub samples: Option<PathBuf>,
    pub hops: Option<PathBuf>,
    pub parquet: Option<PathBuf>,
}

/// Where a report is written; `None` for standard output.
pub type Place = Option<PathBuf>;

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
    let output = (args.output.is_some() || args.parquet.is_none()).then(|| values::output(args.output));
    let report = output.clone().flatten();
    let samples = values::other_output("--samples", args.samples, report.as_ref())?;
    let hops = values::other_output("--hops", args.hops, report.as_ref())?;
    let parquet = values::other_output("--parquet", args.parquet, report.as_ref())?;
    let others = [("--samples", &samples), ("--hops", &hops), ("--parquet", &parquet)];
    for (place, (flag, path)) in others.iter().enumerate() {
        let is_same = |(_, earlier): &&(&str, &Option<PathBuf>)| path.is_some() && earlier == path;
        if let Some((earlier, _)) = others[..place].iter().find(is_same) {
            return wrong(format!("{flag} and {earlier} name the same file; give each its own"));
        }
    }
    Ok(ReportConfig {
        files,
        format: args.format,
        output,
        samples,
        hops,
        parquet,
    })
}

#[cfg(test)]
mod tests;
