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

impl ReportConfig {
    /// The files with tables beside the report, by flag.
    pub fn tables(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [
            ("--samples", &self.samples),
            ("--hops", &self.hops),
            ("--parquet", &self.parquet),
        ];
        all.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)))
    }
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
    let other = |flag, path| values::other_output(flag, path, report.as_ref());
    let config = ReportConfig {
        files,
        format: args.format,
        output,
        samples: other("--samples", args.samples)?,
        hops: other("--hops", args.hops)?,
        parquet: other("--parquet", args.parquet)?,
    };
    for (place, (flag, path)) in config.tables().enumerate() {
        if let Some((earlier, _)) = config.tables().take(place).find(|(_, earlier)| *earlier == path) {
            return wrong(format!("{flag} and {earlier} name the same file; give each its own"));
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
