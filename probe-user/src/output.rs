//! Output: one result model, and an exporter for each format.

pub mod fields;
#[cfg(test)]
pub mod fixtures;

pub mod controller;
pub mod jsonl;
pub mod model;
pub mod quantity;
pub mod samples;
pub mod sink;
pub mod terminal;
pub mod text;
pub mod time;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::output::jsonl::Jsonl;
use crate::output::model::{Event, Exporter};
use crate::output::sink::{OutputError, Sink};
use crate::output::text::Text;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines and tables
    Text,
    /// One JSON object per line
    Jsonl,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputConfig {
    pub format: Format,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
    /// The file for every single probe.
    pub samples: Option<PathBuf>,
}

/// Writes events in one format to one place.
pub struct Output {
    exporter: Box<dyn Exporter + Send>,
    sink: Sink,
}

impl Output {
    /// Opens the file, or standard output without a path.
    pub fn open(format: Format, path: Option<&Path>) -> Result<Self, OutputError> {
        Ok(Self {
            exporter: match format {
                Format::Text => Box::new(Text::new(terminal::columns_for(path))),
                Format::Jsonl => Box::new(Jsonl),
            },
            sink: Sink::open(path)?,
        })
    }

    /// Writes one event and flushes it, so that the reader of a pipe has it at once.
    pub fn export(&mut self, event: &Event) -> Result<(), OutputError> {
        let Self { exporter, sink } = self;
        sink.write(|out| exporter.export(event, out))?;
        sink.flush()
    }
}
