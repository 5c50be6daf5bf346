//! What `kstamp hub` writes: its start and its events, as text or JSON lines.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::output::Format;
use crate::output::file::OutputFile;
use crate::output::jsonl::record;
use crate::output::quantity::count;
use crate::output::sink::{Control, OutputError, Sink};
use crate::output::time::Utc;

/// What runs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    pub time: Utc,
    pub version: &'static str,
    pub name: String,
    pub state: PathBuf,
    /// Where agents connect.
    pub servers: Vec<String>,
    /// The program that this hub has started; null with servers of the user.
    pub nats_server: Option<PathBuf>,
    /// Hosts that are enrolled.
    pub hosts: usize,
    /// Where the page is; null without one.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    pub time: Utc,
    pub event: &'static str,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent {
    Start(Start),
    Event(Happened),
}

pub struct HubOutput {
    /// Name of the hub.
    agent: String,
    format: Format,
    sink: Sink,
}

impl HubOutput {
    pub fn new(format: Format, agent: String, file: OutputFile) -> Result<Self, OutputError> {
        Ok(Self {
            format,
            sink: Sink::new(file, format.notice(&agent))?,
            agent,
        })
    }

    pub fn control(&self) -> Control {
        self.sink.control()
    }

    pub fn write(&mut self, event: &HubEvent) -> Result<(), OutputError> {
        let (format, agent) = (self.format, &self.agent);
        self.sink.write("event", 1, |out| match format {
            Format::Text => text(event, out),
            Format::Jsonl => jsonl(agent, event, out),
        })?;
        self.sink.flush();
        Ok(())
    }

    pub fn event(&mut self, event: &'static str, text: String) -> Result<(), OutputError> {
        self.write(&HubEvent::Event(Happened {
            time: Utc::now(),
            event,
            text,
        }))
    }

    pub fn into_sink(self) -> Sink {
        self.sink
    }
}

pub fn jsonl(agent: &str, event: &HubEvent, out: &mut dyn Write) -> io::Result<()> {
    match event {
        HubEvent::Start(start) => record("start", agent, start, out),
        HubEvent::Event(happened) => record("event", agent, happened, out),
    }
}

fn text(event: &HubEvent, out: &mut dyn Write) -> io::Result<()> {
    match event {
        HubEvent::Start(start) => header(start, out),
        HubEvent::Event(happened) => writeln!(out, "{} {}", happened.time.to_second(), happened.text),
    }
}

fn header(start: &Start, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "kstamp {}: hub {}", start.version, start.name)?;
    let program = start
        .nats_server
        .as_ref()
        .map(|program| format!(", by {}", program.display()));
    writeln!(
        out,
        "  servers   {}{}",
        start.servers.join(", "),
        program.unwrap_or_default()
    )?;
    writeln!(
        out,
        "  enrolled  {}; `kstamp hub enroll` adds one",
        count(start.hosts as u64, "host")
    )?;
    writeln!(out, "  state     in {}", start.state.display())?;
    match start.listen {
        Some(listen) => writeln!(out, "  page      at {listen}"),
        None => Ok(()),
    }
}
