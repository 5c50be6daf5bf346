//! Reads all files, then writes the report.

use std::fs;

use anyhow::Result;

use crate::command::report::config::{Input, ReportConfig};
use crate::command::report::read::read;
use crate::output::file::{OutputError, OutputFile, is_same};
use crate::output::report::model::Model;
use crate::output::report::page::{self, File};

/// Nothing is written unless every line could be read.
pub fn run(config: &ReportConfig) -> Result<()> {
    check_files(&config.files)?;
    let mut model = Model::default();
    let mut files = Vec::new();
    for input in &config.files {
        let records = read(input, |agent, _, record| Ok(model.add(agent, record)?))?;
        let name = input.name();
        files.push(File { name, records });
    }
    let output = OutputFile::open(config.output.as_deref())?;
    for input in &config.files {
        if let Some(path) = &input.path {
            output.check_other("FILE", path, fs::metadata(path))?;
        }
    }
    write(output, |out| page::write(&model, &files, out))
}

fn write(mut output: OutputFile, body: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Result<()> {
    let mut page = Vec::new();
    body(&mut page).map_err(|source| output.error(source))?;
    output.truncate()?;
    Ok(output.write_all(&page)?)
}

/// A file that is read twice by two names would count twice.
fn check_files(files: &[Input]) -> Result<(), OutputError> {
    let mut known = Vec::new();
    for path in files.iter().filter_map(|input| input.path.as_ref()) {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let same = known.iter().find(|(other, _)| is_same(other, &metadata));
        if let Some((_, other)) = same {
            let [first, second] = [other, &path].map(|path| format!("FILE {}", path.display()));
            return Err(OutputError::SameFile { first, second });
        }
        known.push((metadata, path));
    }
    Ok(())
}
