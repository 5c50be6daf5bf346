//! What `kstamp controller` reports: links, switches, paths, and the summary; as tables, as JSON, and as a drawing.

pub mod drawing;
pub mod jsonl;
mod layout;
pub mod model;
mod text;

use std::path::Path;

use model::{Event, Report};

use crate::output::sink::{OutputError, Sink};
use crate::output::{Format, terminal};

/// Where the controller's results go.
pub struct ControllerOutput {
    format: Format,
    sink: Sink,
    columns: crate::output::terminal::Columns,
}

impl ControllerOutput {
    /// Opens the file, which is made or emptied, or standard output if there is none.
    ///
    /// # Errors
    /// [`OutputError::Write`] naming the path.
    pub fn open(format: Format, path: Option<&Path>) -> Result<Self, OutputError> {
        Ok(Self {
            format,
            sink: path.map_or_else(|| Ok(Sink::stdout()), Sink::create)?,
            columns: if path.is_some() { || None } else { terminal::columns },
        })
    }

    /// Writes what happened.
    ///
    /// # Errors
    /// As [`crate::output::Output::export`].
    pub fn event(&mut self, event: &Event) -> Result<(), OutputError> {
        let format = self.format;
        self.sink.write(|out| match format {
            Format::Text => text::event(event, out),
            Format::Jsonl => jsonl::event(event, out),
        })?;
        self.sink.flush()
    }

    /// Writes a report; `is_last` has it say that it is the summary of the run.
    ///
    /// # Errors
    /// As [`crate::output::Output::export`].
    pub fn report(&mut self, report: &Report, is_last: bool) -> Result<(), OutputError> {
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
