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
    /// Where the page is.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    pub time: Utc,
    pub event: &'static str,
    pub text: String,
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

    pub fn start(&mut self, start: &Start) -> Result<(), OutputError> {
        match self.format {
            Format::Text => self.write(|out| header(start, out)),
            Format::Jsonl => {
                let agent = self.agent.clone();
                self.write(|out| record("start", &agent, start, out))
            }
        }
    }

    pub fn event(&mut self, event: &'static str, text: String) -> Result<(), OutputError> {
        let happened = Happened {
            time: Utc::now(),
            event,
            text,
        };
        match self.format {
            Format::Text => self.write(|out| writeln!(out, "{} {}", happened.time.to_second(), happened.text)),
            Format::Jsonl => {
                let agent = self.agent.clone();
                self.write(|out| record("event", &agent, &happened, out))
            }
        }
    }

    fn write(&mut self, body: impl Fn(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
        self.sink.write("event", 1, body)?;
        self.sink.flush();
        Ok(())
    }

    pub fn into_sink(self) -> Sink {
        self.sink
    }
}

fn header(start: &Start, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "kstamp {}: hub {}", start.version, start.name)?;
    let started = start
        .nats_server
        .as_ref()
        .map(|program| format!(", by {}", program.display()));
    writeln!(
        out,
        "  agents    connect to {}{}",
        start.servers.join(", "),
        started.unwrap_or_default()
    )?;
    writeln!(
        out,
        "  enrolled  {}; `kstamp hub enroll` adds one",
        count(start.hosts as u64, "host")
    )?;
    writeln!(out, "  state     in {}", start.state.display())?;
    if let Some(listen) = start.listen {
        writeln!(out, "  page      at {listen}")?;
    }
    Ok(())
}
