//! One JSON object per line.

use std::io::{self, Write};

use crate::command::controller::output::model::{ControllerEvent, ControllerReport};
use crate::output::jsonl::record;

pub fn event(agent: &str, event: &ControllerEvent, out: &mut dyn Write) -> io::Result<()> {
    match event {
        ControllerEvent::Start(start) => record("start", agent, start, out),
        ControllerEvent::Event(happened) => record("event", agent, happened, out),
    }
}

/// Writes links, switches and paths; the summary only in the last report.
pub fn report(agent: &str, report: &ControllerReport, is_last: bool, out: &mut dyn Write) -> io::Result<()> {
    for link in &report.links {
        record("link", agent, link, out)?;
    }
    for switch in &report.switches {
        record("switch", agent, switch, out)?;
    }
    for path in &report.paths {
        record("path", agent, path, out)?;
    }
    if is_last {
        record("summary", agent, &report.summary, out)?;
    }
    Ok(())
}
