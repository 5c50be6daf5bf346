//! Results of `kstamp controller` as tables, JSON lines and a drawing.

pub mod drawing;
pub mod jsonl;
mod layout;
pub mod model;
mod text;

use std::io::Write;

use crate::command::controller::output::model::{ControllerEvent, ControllerReport};
use crate::output::file::OutputFile;
use crate::output::sink::{Control, OutputError, Sink};
use crate::output::{Format, terminal};

pub struct ControllerOutput {
    agent: String,
    format: Format,
    sink: Sink,
    columns: terminal::Columns,
}

impl ControllerOutput {
    /// `agent` measures.
    pub fn new(format: Format, agent: String, file: OutputFile) -> Result<Self, OutputError> {
        Ok(Self {
            format,
            columns: terminal::columns_for(file.path()),
            sink: Sink::new(file, format.notice(&agent))?,
            agent,
        })
    }

    pub fn control(&self) -> Control {
        self.sink.control()
    }

    pub fn event(&mut self, event: &ControllerEvent) -> Result<(), OutputError> {
        let (format, agent) = (self.format, &self.agent);
        self.sink.write("event", 1, |out| match format {
            Format::Text => text::event(event, out),
            Format::Jsonl => jsonl::event(agent, event, out),
        })?;
        self.sink.flush();
        Ok(())
    }

    /// Writes a report; the last one includes the summary of the run.
    pub fn report(&mut self, report: &ControllerReport, is_last: bool) -> Result<(), OutputError> {
        let (format, agent, columns) = (self.format, &self.agent, (self.columns)());
        let body = |out: &mut dyn Write| match format {
            Format::Text => text::report(report, is_last, columns, out),
            Format::Jsonl => jsonl::report(agent, report, is_last, out),
        };
        if is_last {
            return self.sink.write_last(body);
        }
        self.sink.write("report", 1, body)?;
        self.sink.flush();
        Ok(())
    }

    /// Hands over the output, whose reader has yet to take the rest.
    pub fn into_sink(self) -> Sink {
        self.sink
    }
}

#[cfg(test)]
pub mod tests;
