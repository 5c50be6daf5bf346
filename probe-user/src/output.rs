//! What the user gets: one result model, and an exporter for each form in which it is written.

mod fields;
#[cfg(test)]
mod fixtures;

pub mod compare;
pub mod controller;
pub mod jsonl;
pub mod model;
pub mod ping;
pub mod quantity;
pub mod results;
pub mod samples;
pub mod sink;
pub mod terminal;
pub mod text;
pub mod time;

use std::io::{self, Write};
use std::path::Path;

use model::Event;
use sink::{OutputError, Sink};

/// Writes events in one form.
pub trait Exporter {
    /// Writes one event; nothing, if this form has nothing to say of it.
    ///
    /// # Errors
    /// Those of `out`.
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()>;
}

/// The forms there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: lines and tables.
    Text,
    /// For programs: one JSON object per line.
    Jsonl,
}

impl Format {
    fn exporter(self, columns: text::Columns) -> Box<dyn Exporter + Send> {
        match self {
            Self::Text => Box::new(text::Text::new(columns)),
            Self::Jsonl => Box::new(jsonl::Jsonl),
        }
    }
}

/// Where events go.
pub struct Output {
    exporter: Box<dyn Exporter + Send>,
    sink: Sink,
}

impl Output {
    /// Opens the file, which is made or emptied, or standard output if there is none: before measuring, so that a bad
    /// path fails at once.
    ///
    /// # Errors
    /// [`OutputError::Write`] naming the path.
    pub fn open(format: Format, path: Option<&Path>) -> Result<Self, OutputError> {
        let sink = path.map_or_else(|| Ok(Sink::stdout()), Sink::create)?;
        // What is in a file is not for this terminal.
        let columns = if path.is_some() { || None } else { terminal::columns };
        Ok(Self {
            exporter: format.exporter(columns),
            sink,
        })
    }

    /// Writes one event and flushes it, so that a reader at the other end of a pipe has it now.
    ///
    /// # Errors
    /// [`OutputError::ReaderLeft`] if standard output was closed by its reader, which is a good end of the run;
    /// [`OutputError::Write`] otherwise.
    pub fn export(&mut self, event: &Event) -> Result<(), OutputError> {
        let Self { exporter, sink } = self;
        sink.write(|out| exporter.export(event, out))?;
        sink.flush()
    }
}
