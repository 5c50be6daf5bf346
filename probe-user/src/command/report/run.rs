//! Reads all files, then gives the outputs their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use serde_json::Value;

use crate::command::report::args::ReportFormat;
use crate::command::report::config::{Input, ReportConfig};
use crate::command::report::read::read;
use crate::output::columns::{of_hops, of_results, of_samples, rows_of_hops};
use crate::output::csv::Rows;
use crate::output::draft::Draft;
use crate::output::file::{OutputError, OutputFile, is_same};
use crate::output::parquet::Table;
use crate::output::report::model::Model;
use crate::output::report::page::{self, File};
use crate::output::report::record::Record;

/// Rows of one kind of record in a file.
struct Csv {
    draft: Draft,
    rows: Rows,
}

impl Csv {
    fn add(&mut self, record: &Value) -> Result<(), OutputError> {
        let Self { draft, rows } = self;
        draft.write(|out| rows.add(record, out))
    }

    fn end(mut self) -> Result<(), OutputError> {
        let rows = &mut self.rows;
        self.draft.write(|out| rows.headings(out))?;
        self.draft.end()
    }
}

/// The outputs to which each record is written as it is read.
struct Outputs {
    results: Option<Csv>,
    samples: Option<Csv>,
    hops: Option<Csv>,
    parquet: Option<(Draft, Table)>,
}

/// No output gets its name unless every line could be read.
pub fn run(config: &ReportConfig) -> Result<()> {
    check_files(config)?;
    let report = config
        .output
        .as_ref()
        .map(|place| Draft::create(place.as_deref()))
        .transpose()?;
    let (page, results) = match config.format {
        ReportFormat::Html => (report, None),
        ReportFormat::Csv => (None, report.map(|draft| csv(draft, of_results()))),
    };
    let draft = |path: &Option<PathBuf>| path.as_deref().map(|path| Draft::create(Some(path))).transpose();
    let mut outputs = Outputs {
        results,
        samples: draft(&config.samples)?.map(|draft| csv(draft, of_samples())),
        hops: draft(&config.hops)?.map(|draft| csv(draft, of_hops())),
        parquet: config.parquet.as_deref().map(table).transpose()?,
    };
    let mut model = page.is_some().then(Model::default);
    let mut files = Vec::new();
    for input in &config.files {
        let records = read(input, |agent, line, record| {
            outputs.add(agent, line, &record)?;
            Ok(model.as_mut().map_or(Ok(()), |model| model.add(agent, record))?)
        })?;
        let name = input.name();
        files.push(File { name, records });
    }
    if let Some((mut draft, model)) = page.zip(model) {
        draft.write(|out| page::write(&model, &files, out))?;
        draft.end()?;
    }
    outputs.end()
}

fn csv(draft: Draft, columns: Vec<crate::output::columns::Column>) -> Csv {
    let rows = Rows::new(columns, "");
    Csv { draft, rows }
}

fn table(path: &Path) -> Result<(Draft, Table)> {
    let draft = Draft::create(Some(path))?;
    let table = Table::new(draft.file()?).map_err(|error| draft.error(io::Error::other(error)))?;
    Ok((draft, table))
}

impl Outputs {
    fn add(&mut self, agent: &str, line: &[u8], record: &Record) -> Result<()> {
        let csv = match record {
            Record::Window(_) | Record::Summary(_) => &mut self.results,
            Record::Sample(_) => &mut self.samples,
            Record::Hops(_) => &mut self.hops,
            _ => return Ok(()),
        };
        if csv.is_none() && self.parquet.is_none() {
            return Ok(());
        }
        let mut row: Value = serde_json::from_slice(line)?;
        row["agent"] = agent.into();
        let mut add = |row: &Value| -> Result<()> {
            if let Some(csv) = csv {
                csv.add(row)?;
            }
            match &mut self.parquet {
                Some((_, table)) => table.add(row).map_err(|error| anyhow!("{error}")),
                None => Ok(()),
            }
        };
        match record {
            Record::Hops(_) => rows_of_hops(row).try_for_each(|row| add(&row)),
            _ => add(&row),
        }
    }

    fn end(self) -> Result<()> {
        for csv in self.results.into_iter().chain(self.samples).chain(self.hops) {
            csv.end()?;
        }
        if let Some((draft, table)) = self.parquet {
            table.end().map_err(|error| draft.error(io::Error::other(error)))?;
            draft.end()?;
        }
        Ok(())
    }
}

/// A file that is read twice by two names would count twice, and one that is written, too, would be lost.
fn check_files(config: &ReportConfig) -> Result<(), OutputError> {
    let paths = config.files.iter().filter_map(|input: &Input| input.path.as_ref());
    let inputs = paths.map(|path| ("FILE", path));
    let report = config.output.iter().flatten().map(|path| ("--output", path));
    let mut known = Vec::new();
    for (flag, path) in inputs.chain(report).chain(config.tables()) {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let name = format!("{flag} {}", path.display());
        if let Some((_, other)) = known.iter().find(|(other, _)| is_same(other, &metadata)) {
            let (first, second) = (String::clone(other), name);
            return Err(OutputError::SameFile { first, second });
        }
        known.push((metadata, name));
    }
    // Standard output that is one of the files, too.
    if config.output == Some(None) {
        let output = OutputFile::open(None)?;
        for path in config.files.iter().filter_map(|input| input.path.as_ref()) {
            output.check_other("FILE", path, fs::metadata(path))?;
        }
    }
    Ok(())
}
