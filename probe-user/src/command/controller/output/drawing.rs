//! Draws the network with the delays of its links, as one HTML file without dependencies that reloads itself.

mod sketch;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use log::warn;
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use crate::command::controller::output::drawing::sketch::{STYLE, Sketch};
use crate::command::controller::output::model::{ControllerReport, state_name};
use crate::output::draft::Draft;
use crate::output::html::STYLE as PAGE_STYLE;
use crate::output::quantity::{count, duration, duration_u64};
use crate::output::sink::OutputError;

/// Draws a file on a thread of its own, because the layout of a large network takes longer than forwarding may wait.
pub struct Drawing {
    /// `None` after the last drawing.
    reports: Option<SyncSender<(ControllerReport, bool)>>,
    thread: Option<JoinHandle<()>>,
}

struct Canvas {
    path: PathBuf,
    reload_s: u64,
    sketch: Sketch,
    /// Why the last drawing failed, so that it is logged once.
    trouble: Option<String>,
}

impl Drawing {
    /// Creates the file, so that a bad path fails at once. A browser reloads it every `reload_s` seconds.
    pub fn create(path: &Path, reload_s: u64) -> Result<Self, OutputError> {
        let mut canvas = Canvas {
            path: path.to_owned(),
            reload_s: reload_s.max(1),
            sketch: Sketch::default(),
            trouble: None,
        };
        let waiting = html! { h1 { "kstamp controller" } p { "No switch is connected yet." } };
        canvas.write(&page(Some(canvas.reload_s), &waiting))?;
        let (reports, queue) = sync_channel::<(ControllerReport, bool)>(1);
        let run = move || {
            while let Ok((report, is_last)) = queue.recv() {
                canvas.draw(&report, is_last);
            }
        };
        let thread = thread::Builder::new().name("kstamp-drawing".to_owned()).spawn(run);
        Ok(Self {
            reports: Some(reports),
            thread: Some(thread.map_err(|error| OutputError::write(Some(path), error))?),
        })
    }

    /// Draws the network; the last drawing does not reload itself, and is complete when this returns. A report that comes while
    /// one is drawn and another one waits is not drawn.
    pub fn draw(&mut self, report: &ControllerReport, is_last: bool) {
        let Some(reports) = &self.reports else { return };
        if !is_last {
            reports.try_send((report.clone(), false)).ok();
            return;
        }
        reports.send((report.clone(), true)).ok();
        self.reports = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Canvas {
    fn draw(&mut self, report: &ControllerReport, is_last: bool) {
        let reload_s = (!is_last).then_some(self.reload_s);
        let drawn = page(reload_s, &self.body(report));
        let trouble = self.write(&drawn).err().map(|error| error.to_string());
        if let Some(line) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            warn!("{line}; the drawing is out of date, and forwarding goes on");
        }
        self.trouble = trouble;
    }

    fn write(&mut self, page: &Markup) -> Result<(), OutputError> {
        // A device cannot be replaced by a file.
        if fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(OutputError::write(
                Some(&self.path),
                io::Error::other("it is not a file"),
            ));
        }
        let mut draft = Draft::create(Some(&self.path))?;
        draft.write(|out| out.write_all(page.0.as_bytes()))?;
        draft.end()
    }

    fn body(&mut self, report: &ControllerReport) -> Markup {
        let summary = &report.summary;
        html! {
            h1 { "kstamp controller" }
            p {
                (report.time.to_second()) ": " (report.switches.len()) " switches, "
                (count(report.links.len() as u64, "link")) ", " (count(summary.hosts as u64, "host")) ", "
                (count(summary.reroutes, "reroute")) ", " (count(summary.storms, "storm"))
            }
            div class="network" { (self.sketch.draw(report)) }
            div class="scroll" { (table(report)) }
            @if !report.paths.is_empty() { div class="scroll" { (paths(report)) } }
        }
    }
}

fn page(reload_s: Option<u64>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(reload_s) = reload_s { meta http-equiv="refresh" content=(reload_s); }
                title { "kstamp controller" }
                style { (PreEscaped(PAGE_STYLE)) (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    }
}

fn table(report: &ControllerReport) -> Markup {
    let of = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), duration);
    html! {
        table {
            thead { tr { th { "link" } th { "LLDP/echo" } th { "±" } th { "bounce" } th { "kernel" } th { "state" } } }
            tbody {
                @for link in &report.links {
                    tr {
                        td { (link.from.switch) ":" (link.from.port) " – " (link.to.switch) ":" (link.to.port) }
                        td { (of(link.rtt_ns.lldp_echo)) }
                        td { (link.error_ns.lldp_echo.map_or_else(|| "-".to_owned(), duration_u64)) }
                        td { (of(link.rtt_ns.bounce)) }
                        td { (of(link.rtt_ns.kernel)) }
                        td { (state_name(link.state)) }
                    }
                }
            }
        }
    }
}

fn paths(report: &ControllerReport) -> Markup {
    html! {
        table {
            thead { tr { th { "path" } th { "one way" } th {} } }
            tbody {
                @for path in &report.paths {
                    tr { td { (path.switches.join(" – ")) } td { (duration_u64(path.delay_ns)) } td {} }
                }
            }
        }
    }
}
