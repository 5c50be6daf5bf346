//! Output: one result model, and an exporter for each format.

pub mod bar;
pub mod columns;
pub mod csv;
pub mod diagnostics;
pub mod draft;
pub mod field_lists;
pub mod fields;
pub mod file;
#[cfg(test)]
pub mod fixtures;
pub mod history;
pub mod html;
pub mod jsonl;
pub mod left_out;
pub mod metrics;
pub mod model;
pub mod parquet;
pub mod plot;
pub mod progress;
pub mod quantity;
pub mod records;
pub mod report;
pub mod samples;
pub mod sink;
pub mod terminal;
pub mod text;
pub mod time;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::output::csv::Csv;
use crate::output::file::OutputFile;
use crate::output::jsonl::Jsonl;
use crate::output::left_out::Notice;
use crate::output::model::{End, Event, Exporter};
use crate::output::sink::{Control, OutputError, Sink};
use crate::output::text::Text;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines and tables
    Text,
    /// One JSON object per line
    Jsonl,
}

impl Format {
    /// How an agent reports records that were left out.
    pub fn notice(self, agent: &str) -> Notice {
        match self {
            Self::Text => Box::new(left_out::text),
            Self::Jsonl => left_out::json(agent),
        }
    }
}

/// Of an agent, whose windows are rows, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AgentFormat {
    /// Lines and tables
    Text,
    /// One JSON object per line
    Jsonl,
    /// Windows and summaries as comma-separated values
    Csv,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputConfig {
    /// Who measures.
    pub agent: String,
    pub format: AgentFormat,
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
    pub fn new(format: AgentFormat, agent: &str, file: OutputFile) -> Result<Self, OutputError> {
        let (exporter, notice): (Box<dyn Exporter + Send>, Notice) = match format {
            AgentFormat::Text => (
                Box::new(Text::new(terminal::columns_for(file.path()))),
                Format::Text.notice(agent),
            ),
            AgentFormat::Jsonl => {
                let agent = agent.to_owned();
                (Box::new(Jsonl { agent: agent.clone() }), Format::Jsonl.notice(&agent))
            }
            AgentFormat::Csv => (Box::new(Csv::new(agent)), Box::new(left_out::log)),
        };
        Ok(Self {
            exporter,
            sink: Sink::new(file, notice)?,
        })
    }

    pub fn control(&self) -> Control {
        self.sink.control()
    }

    /// Writes one event, so that the reader of a pipe has it at once.
    pub fn export(&mut self, event: &Event) -> Result<(), OutputError> {
        let Self { exporter, sink } = self;
        let (kind, number) = event.kind();
        sink.write(kind, number, |out| exporter.export(event, out))?;
        sink.flush();
        Ok(())
    }

    /// Writes the end of a run, after what was left out here and elsewhere.
    pub fn end(&mut self, end: End, left_out_elsewhere: &BTreeMap<&'static str, u64>) -> Result<(), OutputError> {
        let Self { exporter, sink } = self;
        sink.also_left_out(left_out_elsewhere);
        sink.write_last(|out| exporter.export(&Event::End(end), out))
    }

    /// Hands over the output, whose reader has yet to take the rest.
    pub fn into_sink(self) -> Sink {
        self.sink
    }
}
