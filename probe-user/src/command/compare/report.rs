//! Writes the results of a comparison.

use std::io::Write;

use anyhow::Result;
use probe_core::compare::{Method, Phase};

use crate::command::compare::config::CompareConfig;
use crate::command::compare::output::{Comparison, PhaseResult, Setting, html, jsonl, text};
use crate::command::shared::host::agent_name;
use crate::output::Format;
use crate::output::file::OutputFile;
use crate::output::quantity::count;
use crate::output::sink::{Control, Sink};
use crate::output::terminal::{self, Columns};

/// The files, opened before anything is measured, and the results so far.
pub struct Report {
    format: Format,
    columns: Columns,
    sink: Sink,
    html: Option<OutputFile>,
    comparison: Option<Comparison>,
}

impl Report {
    pub fn open(config: &CompareConfig) -> Result<Self> {
        let output = OutputFile::open(config.output.as_deref())?;
        let html = config.html.as_deref();
        let html = html.map(|path| output.open_other("--html", path)).transpose()?;
        html.as_ref().map_or(Ok(()), OutputFile::truncate)?;
        Ok(Self {
            format: config.format,
            columns: terminal::columns_for(config.output.as_deref()),
            sink: Sink::new(output, config.format.notice(&agent_name(&config.port.interface)))?,
            html,
            comparison: None,
        })
    }

    pub fn control(&self) -> Control {
        self.sink.control()
    }

    /// Hands over the output, whose reader has yet to take the rest.
    pub fn into_sink(self) -> Sink {
        self.sink
    }

    /// Writes the header.
    pub fn start(&mut self, setting: Setting, busy: u32, loaded: bool) -> Result<()> {
        if self.format == Format::Text {
            let duration = humantime::format_duration(setting.duration);
            let phases = match loaded {
                true => format!("{duration} idle, then {duration} under load, busy processes: {busy}"),
                false => format!("{duration} idle"),
            };
            let columns = (self.columns)();
            let header = |out: &mut dyn Write| text::header(&setting, &phases, columns, out);
            self.sink.write("start", 1, header)?;
            self.sink.flush();
        }
        self.comparison = Some(Comparison {
            setting,
            phases: Vec::new(),
        });
        Ok(())
    }

    /// Whether both ends read the same clock.
    pub fn same_clock(&self) -> bool {
        self.comparison
            .as_ref()
            .is_some_and(|comparison| comparison.setting.same_clock)
    }

    pub fn phase(&mut self, mut result: PhaseResult) -> Result<()> {
        let Some(comparison) = &mut self.comparison else {
            return Ok(());
        };
        result.notes = remarks(&result, &comparison.setting);
        let (setting, columns) = (&comparison.setting, (self.columns)());
        self.sink.write("phase", 1, |out| match self.format {
            Format::Jsonl => jsonl::phase(setting, &result, out),
            Format::Text => text::phase(&result, columns, out),
        })?;
        self.sink.flush();
        comparison.phases.push(result);
        Ok(())
    }

    pub fn end(&mut self) -> Result<()> {
        let Some(comparison) = &self.comparison else {
            return Ok(());
        };
        if self.format == Format::Text && !comparison.phases.is_empty() {
            let columns = (self.columns)();
            self.sink.write_last(|out| text::end(comparison, columns, out))?;
        }
        if let Some(file) = &mut self.html {
            let mut page = Vec::new();
            html::write(comparison, &mut page).map_err(|source| file.error(source))?;
            file.write_all(&page)?;
        }
        Ok(())
    }
}

/// The comparison itself uses less of the CPU time than this.
const MAX_IDLE_CPU: f64 = 0.5;

/// Notes on a phase: why cells are empty, and what disturbed it.
fn remarks(result: &PhaseResult, setting: &Setting) -> Vec<String> {
    let when = result.phase.name();
    let mut remarks = Vec::new();
    if let Some(cpu) = result
        .cpu
        .filter(|&cpu| result.phase == Phase::Idle && cpu > MAX_IDLE_CPU)
    {
        let percent = cpu * 100.0;
        remarks.push(format!(
            "this host was not idle: other processes used CPUs too, {percent:.0} % of CPU time was used in all"
        ));
    }
    if result.unsent > 0 {
        remarks.push(format!(
            "{when}: {} never left this host and {} not counted: the interface was down, or the address of {} did not \
             resolve (ARP, ND)",
            count(result.unsent, "probe"),
            if result.unsent == 1 { "is" } else { "are" },
            setting.peer
        ));
    }
    for (method, tally) in &result.tallies {
        let name = method.name();
        if tally.sent > 0 && tally.received == 0 {
            remarks.push(format!("{when}: {} answered no probe of {name}", setting.peer));
        } else if tally.received > 0 && tally.rtt.count() == 0 {
            let why = match method {
                Method::Socket => "a device at one of the ends does not stamp what it sends",
                _ => "the stamps contradict each other",
            };
            remarks.push(format!("{when}: no round trips of {name}: {why}"));
        }
    }
    if result.phase == Phase::Idle
        && result.anatomy.is_none()
        && result.tally(Method::Userspace).is_some_and(|tally| tally.received > 0)
    {
        remarks.push(format!("no anatomy: {} did not stamp the probes", setting.peer));
    }
    remarks
}
