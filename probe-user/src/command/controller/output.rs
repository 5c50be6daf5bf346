//! Results of `kstamp controller` as tables, JSON lines and a drawing.

pub mod drawing;
pub mod jsonl;
mod layout;
pub mod model;
mod text;

use std::path::Path;

use crate::command::controller::output::model::{ControllerEvent, ControllerReport};
use crate::output::sink::{OutputError, Sink};
use crate::output::{Format, terminal};

pub struct ControllerOutput {
    format: Format,
    sink: Sink,
    columns: terminal::Columns,
}

impl ControllerOutput {
    /// Creates or truncates the file; opens standard output without a path.
    pub fn open(format: Format, path: Option<&Path>) -> Result<Self, OutputError> {
        Ok(Self {
            format,
            sink: path.map_or_else(|| Ok(Sink::stdout()), Sink::create)?,
            columns: if path.is_some() { || None } else { terminal::columns },
        })
    }

    pub fn event(&mut self, event: &ControllerEvent) -> Result<(), OutputError> {
        let format = self.format;
        self.sink.write(|out| match format {
            Format::Text => text::event(event, out),
            Format::Jsonl => jsonl::event(event, out),
        })?;
        self.sink.flush()
    }

    /// Writes a report; the last one includes the summary of the run.
    pub fn report(&mut self, report: &ControllerReport, is_last: bool) -> Result<(), OutputError> {
        let (format, columns) = (self.format, (self.columns)());
        self.sink.write(|out| match format {
            Format::Text => text::report(report, is_last, columns, out),
            Format::Jsonl => jsonl::report(report, is_last, out),
        })?;
        self.sink.flush()
    }
}

#[cfg(test)]
pub mod tests;
