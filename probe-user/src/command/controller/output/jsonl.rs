//! One JSON object per line.

use std::io::{self, Write};

use serde::Serialize;

use crate::command::controller::output::model::{
    ControllerEvent, ControllerReport, LinkLine, PathLine, SummaryLine, SwitchLine,
};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Link(&'a LinkLine),
    Switch(&'a SwitchLine),
    Path(&'a PathLine),
    Summary(&'a SummaryLine),
}

pub fn event(event: &ControllerEvent, out: &mut dyn Write) -> io::Result<()> {
    line(event, out)
}

/// Writes links, switches and paths; the summary only in the last report.
pub fn report(report: &ControllerReport, is_last: bool, out: &mut dyn Write) -> io::Result<()> {
    for link in &report.links {
        line(&Line::Link(link), out)?;
    }
    for switch in &report.switches {
        line(&Line::Switch(switch), out)?;
    }
    for path in &report.paths {
        line(&Line::Path(path), out)?;
    }
    if is_last {
        line(&Line::Summary(&report.summary), out)?;
    }
    Ok(())
}

fn line(line: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
