//! Where the results of a comparison go.

use anyhow::Result;
use probe_core::compare::{Method, Phase};

use crate::command::config::CompareConfig;
use crate::output::compare::{Comparison, PhaseResult, Setting, html, jsonl, text};
use crate::output::quantity::count;
use crate::output::sink::Sink;
use crate::output::{Format, terminal};

/// The files, opened before anything is measured, and what has been measured.
pub(super) struct Report {
    format: Format,
    columns: fn() -> Option<usize>,
    sink: Sink,
    html: Option<Sink>,
    comparison: Option<Comparison>,
}

impl Report {
    /// Opens the files.
    pub(super) fn open(config: &CompareConfig) -> Result<Self> {
        let sink = config
            .output
            .as_deref()
            .map_or_else(|| Ok(Sink::stdout()), Sink::create)?;
        Ok(Self {
            format: config.format,
            columns: if config.output.is_some() {
                || None
            } else {
                terminal::columns
            },
            sink,
            html: config.html.as_deref().map(Sink::create).transpose()?,
            comparison: None,
        })
    }

    /// Says what is about to be compared.
    pub(super) fn start(&mut self, setting: Setting, busy: u32, loaded: bool) -> Result<()> {
        if self.format == Format::Text {
            let duration = humantime::format_duration(setting.duration);
            let phases = match loaded {
                true => format!("{duration} as it is, then {duration} beside busy processes: {busy}"),
                false => format!("{duration} as it is"),
            };
            let columns = (self.columns)();
            self.sink.write(|out| text::header(&setting, &phases, columns, out))?;
            self.sink.flush()?;
        }
        self.comparison = Some(Comparison {
            setting,
            phases: Vec::new(),
        });
        Ok(())
    }

    /// Whether both ends read one clock.
    pub(super) fn same_clock(&self) -> bool {
        self.comparison
            .as_ref()
            .is_some_and(|comparison| comparison.setting.same_clock)
    }

    /// A phase is over.
    pub(super) fn phase(&mut self, mut result: PhaseResult) -> Result<()> {
        let Some(comparison) = &mut self.comparison else {
            return Ok(());
        };
        result.notes = remarks(&result, &comparison.setting);
        let (setting, columns) = (&comparison.setting, (self.columns)());
        self.sink.write(|out| match self.format {
            Format::Jsonl => jsonl::phase(setting, &result, out),
            Format::Text => text::phase(&result, columns, out),
        })?;
        self.sink.flush()?;
        comparison.phases.push(result);
        Ok(())
    }

    /// The run is over.
    pub(super) fn end(&mut self) -> Result<()> {
        let Some(comparison) = &self.comparison else {
            return Ok(());
        };
        if self.format == Format::Text && !comparison.phases.is_empty() {
            let columns = (self.columns)();
            self.sink.write(|out| text::end(comparison, columns, out))?;
            self.sink.flush()?;
        }
        if let Some(html) = &mut self.html {
            html.write(|out| html::write(comparison, out))?;
            html.flush()?;
        }
        Ok(())
    }
}

/// More of the processors' time than this is not used by the comparison itself.
const NOT_IDLE: f64 = 0.5;

/// What is to be said of a phase: why cells are empty, and what was not as it should be.
fn remarks(result: &PhaseResult, setting: &Setting) -> Vec<String> {
    let when = result.phase.name();
    let mut remarks = Vec::new();
    if let Some(cpu) = result.cpu.filter(|&cpu| result.phase == Phase::Idle && cpu > NOT_IDLE) {
        let percent = cpu * 100.0;
        remarks.push(format!(
            "this host was not idle: {percent:.0} % of its processors' time was used, by others than this comparison"
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
                Method::Socket => "a device at one of the ends gives no stamp of what it sends",
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
