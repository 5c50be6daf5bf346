//! Writes the results of a volley.

use anyhow::Result;
use probe_core::volley::{Mode, Plan, Snapshot, difference};
use probe_io::volley::VolleySample;

use crate::command::shared::host::agent_name;
use crate::command::volley::config::VolleyConfig;
use crate::command::volley::output::heat::HeatMap;
use crate::command::volley::output::{SampleFields, VolleyResults, VolleyStart, VolleySummary, html, text};
use crate::output::Format;
use crate::output::file::OutputFile;
use crate::output::jsonl::record;
use crate::output::quantity::{count, duration_u64};
use crate::output::samples::Samples;
use crate::output::sink::{Control, Sink};
use crate::output::time::{Utc, UtcOffset};

/// Columns of the heat map of a run.
const COLUMNS: u64 = 240;
const MIN_COLUMN_NS: u64 = 10 * MS_NS;
const MS_NS: u64 = 1_000_000;

/// The files, opened before anything is sent.
pub struct Files {
    agent: String,
    format: Format,
    sink: Sink,
    samples: Option<Samples>,
    html: Option<OutputFile>,
}

impl Files {
    pub fn open(config: &VolleyConfig) -> Result<Self> {
        let output = OutputFile::open(config.output.as_deref())?;
        let samples = config.samples.as_deref();
        let samples = samples.map(|path| output.open_other("--samples", path)).transpose()?;
        let html = config.html.as_deref();
        let html = html.map(|path| output.open_other("--html", path)).transpose()?;
        if let (Some(samples), Some((html, path))) = (&samples, html.as_ref().zip(config.html.as_deref())) {
            samples.check_other("--html", path, html.metadata())?;
        }
        html.as_ref().map_or(Ok(()), OutputFile::truncate)?;
        let agent = agent_name(&config.interface);
        Ok(Self {
            format: config.format,
            sink: Sink::new(output, config.format.notice(&agent))?,
            samples: samples.map(|file| Samples::new(file, &agent)).transpose()?,
            html,
            agent,
        })
    }

    pub fn controls(&self) -> (Control, Option<Control>) {
        (self.sink.control(), self.samples.as_ref().map(Samples::control))
    }

    /// Hands over the outputs, to deliver what readers have not taken yet.
    pub fn into_sinks(self) -> (Sink, Option<Sink>) {
        (self.sink, self.samples.map(Samples::into_sink))
    }
}

/// The results of a run so far.
pub struct Report {
    files: Files,
    start: VolleyStart,
    utc: UtcOffset,
    started_ns: u64,
    map: Option<HeatMap>,
    /// The run up to the last column of the map.
    last_column: Snapshot,
    /// The run up to the last row.
    last_row: Snapshot,
}

impl Report {
    pub fn new(mut files: Files, start: VolleyStart, utc: UtcOffset, nothing: Snapshot) -> Result<Self> {
        let (format, agent) = (files.format, &files.agent);
        files.sink.write("start", 1, |out| match format {
            Format::Text => text::start(&start, out),
            Format::Jsonl => record("start", agent, &start, out),
        })?;
        files.sink.flush();
        let whole_ms = (start.duration_ns / COLUMNS).div_ceil(MS_NS) * MS_NS;
        let column_ns = whole_ms.max(MIN_COLUMN_NS);
        Ok(Self {
            map: files.html.is_some().then(|| HeatMap::new(column_ns)),
            files,
            start,
            utc,
            started_ns: nothing.at_ns,
            last_column: nothing.clone(),
            last_row: nothing,
        })
    }

    /// Time between two calls of [`Report::add`].
    pub fn step_ns(&self) -> u64 {
        let column_ns = self.map.as_ref().map_or(u64::MAX, HeatMap::column_ns);
        column_ns.min(self.start.every_ns)
    }

    /// Adds a snapshot of the run; `is_last` also writes a row that is not full.
    pub fn add(&mut self, now: &Snapshot, is_last: bool) -> Result<()> {
        if let Some(map) = &mut self.map {
            let part = difference(now, &self.last_column);
            let at_ns = self.last_column.at_ns.saturating_sub(self.started_ns);
            if !is_empty(&part) {
                let round_trips = part
                    .rtt
                    .bins()
                    .map(|(low, width, number)| (u64::from(low + width / 2), number));
                map.add(at_ns, part.totals.sent, part.totals.lost, round_trips);
            }
            self.last_column = now.clone();
        }
        let row_of = |at_ns: u64| at_ns.saturating_sub(self.started_ns) / self.start.every_ns;
        let is_due = row_of(now.at_ns) > row_of(self.last_row.at_ns);
        let part = difference(now, &self.last_row);
        match is_due || is_last && !is_empty(&part) {
            true => self.row(now, &part),
            false => Ok(()),
        }
    }

    fn row(&mut self, now: &Snapshot, part: &Snapshot) -> Result<()> {
        let row = self.results(part, self.last_row.totals.pending, self.last_row.at_ns);
        let until_ns = now.at_ns.saturating_sub(self.started_ns);
        let (format, agent) = (self.files.format, &self.files.agent);
        self.files.sink.write("row", 1, |out| match format {
            Format::Text => text::row(&row, until_ns, out),
            Format::Jsonl => record("row", agent, &row, out),
        })?;
        self.files.sink.flush();
        self.last_row = now.clone();
        Ok(())
    }

    fn results(&self, part: &Snapshot, pending_before: u64, from_ns: u64) -> VolleyResults {
        let times: (Utc, Utc) = (self.utc.utc(from_ns), self.utc.utc(part.at_ns));
        VolleyResults::new(self.start.peer, self.start.mode, part, pending_before, times)
    }

    pub fn samples(&mut self, samples: &[VolleySample]) {
        if let Some(file) = &mut self.files.samples {
            for sample in samples {
                file.add(&SampleFields::new(self.start.peer, self.start.mode, sample));
            }
            file.flush();
        }
    }

    /// Writes the summary. `sent_until_ns` is when the last probe may have been sent.
    pub fn end(mut self, run: &Snapshot, plan: &Plan, sent_until_ns: u64, cpu_ns: Option<u64>) -> Result<Files> {
        self.add(run, true)?;
        let mut results = self.results(run, 0, self.started_ns);
        let sending_ns = sent_until_ns.saturating_sub(self.started_ns).max(1);
        let rate = (u128::from(run.totals.sent) * 1_000_000_000 / u128::from(sending_ns)) as u64;
        results.rate = rate;
        let self_queueing = is_self_queueing(plan);
        let summary = VolleySummary {
            results,
            cpu_ns,
            self_queueing,
            notes: notes(plan, self_queueing, rate, run),
        };
        let (start, map, mut files) = (self.start, self.map, self.files);
        if let Some(samples) = &mut files.samples {
            samples.end();
            files.sink.also_left_out(samples.left_out());
        }
        let (format, agent) = (files.format, &files.agent);
        files.sink.write_last(|out| match format {
            Format::Text => text::summary(&start, &summary, out),
            Format::Jsonl => record("summary", agent, &summary, out),
        })?;
        if let (Some(file), Some(map)) = (&mut files.html, map) {
            let mut page = Vec::new();
            html::write(&start, &summary, &map, &mut page).map_err(|source| file.error(source))?;
            file.write_all(&page)?;
        }
        Ok(files)
    }
}

/// Whether a part of a run has no probe sent, answered or lost.
fn is_empty(part: &Snapshot) -> bool {
    part.totals.sent + part.totals.received + part.totals.lost == 0
}

/// Whether several probes can be in the same queue.
fn is_self_queueing(plan: &Plan) -> bool {
    match plan.mode {
        Mode::Volley => plan.balls > 1,
        Mode::Train => plan.batch > 1 && plan.burst.probes > 1,
        Mode::Sendmmsg => plan.burst.probes > 1,
    }
}

/// `rate` is the number of probes sent in a second.
fn notes(plan: &Plan, self_queueing: bool, rate: u64, run: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(limit) = plan.rate_per_s
        && rate < limit - limit / 4
    {
        let cause = match plan.mode {
            Mode::Volley => "replies came late, few --balls were in flight, or this host was too busy",
            Mode::Train | Mode::Sendmmsg => "this host was too busy or is too slow",
        };
        notes.push(format!(
            "{rate} of {limit} probes a second: {cause}; probes that are not sent in time are left out"
        ));
    }
    if self_queueing {
        let one = match plan.mode {
            Mode::Volley => "--balls 1",
            Mode::Train => "--batch 1",
            Mode::Sendmmsg => "--burst 1/PERIOD",
        };
        notes.push(format!(
            "self-queueing: probes wait for one another, so round trips are longer than those of a single probe; use {one} \
             for latency"
        ));
    }
    if plan.mode != Mode::Sendmmsg {
        notes.push(
            "path xdp: probes and replies go around the qdisc and TC, where other packets of this host may wait"
                .to_owned(),
        );
    }
    if let Some(step_ns) = run.clock_step_ns {
        let direction = if step_ns < 0 { "back" } else { "forward" };
        let by = duration_u64(step_ns.unsigned_abs());
        notes.push(format!(
            "the wall clock of this host was stepped {direction} by {by}: one-way delays are left out, round trips are not \
             affected"
        ));
    }
    let samples_lost = run.totals.samples_lost;
    if samples_lost > 0 {
        notes.push(format!(
            "{} left out, because the ring buffer was full; use a larger --samples-every",
            count(samples_lost, "sample")
        ));
    }
    notes
}

#[cfg(test)]
mod tests;
