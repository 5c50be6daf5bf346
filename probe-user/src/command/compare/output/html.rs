//! The HTML page with plots.

use std::io::{self, Write};

use probe_core::compare::{Method, Phase};

use crate::command::compare::output::text::{heading, in_words, round_trips, versus_kernel};
use crate::command::compare::output::{Comparison, PhaseResult, parts, plots, verdict};
use crate::output::html::{self, figure, key, table, text};
use crate::output::plot::colour_name;
use crate::output::quantity::{count, duration};

pub fn write(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let setting = &comparison.setting;
    let name = setting
        .peer_name
        .as_ref()
        .map(|name| format!(" ({name})"))
        .unwrap_or_default();
    html::begin("kstamp: kernel against userspace", "Kernel against userspace", out)?;
    let about = format!(
        "{} to {}{name}, {}. One wire, the same seconds, three methods.",
        setting.interface,
        setting.peer,
        setting.start.to_second()
    );
    writeln!(out, "<p class=\"about\">{}</p>\n<ul class=\"verdict\">", text(&about))?;
    for sentence in verdict::sentences(comparison) {
        writeln!(out, "<li>{}</li>", text(&sentence))?;
    }
    writeln!(out, "</ul>")?;
    for result in &comparison.phases {
        phase(result, out)?;
    }
    how(comparison, out)?;
    html::end(out)
}

fn phase(result: &PhaseResult, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<section>\n<h2>{}</h2>", text(&heading(result)))?;
    let methods: Vec<_> = Method::ALL.iter().map(|method| method.name().to_owned()).collect();
    key(&methods, colour_name, out)?;
    writeln!(out, "<div class=\"plots\">")?;
    let name = result.phase.name();
    let what = "Share of round trips that took at most this long; logarithmic axis";
    figure(plots::distribution(result), &format!("Distribution, {name}"), what, out)?;
    let what = "Each round trip at the time of its probe; logarithmic axis";
    figure(plots::over_time(result), &format!("Over time, {name}"), what, out)?;
    writeln!(out, "</div>")?;
    table(round_trips(result), "Round trips", out)?;
    if Method::ALL.iter().any(|&method| result.versus(method).is_some()) {
        let caption = "Compared with kernel: bias is the difference of the medians, spread that of p99 − p50";
        table(versus_kernel(result), caption, out)?;
    }
    for note in &result.notes {
        writeln!(out, "<p class=\"notes\">{}</p>", text(note))?;
    }
    anatomy(result, out)?;
    writeln!(out, "</section>")
}

fn anatomy(result: &PhaseResult, out: &mut dyn Write) -> io::Result<()> {
    let Some(anatomy) = result.anatomy.as_ref().filter(|anatomy| anatomy.watched.count() > 0) else {
        return Ok(());
    };
    let half = anatomy.middle_half();
    writeln!(out, "<h3>Anatomy of a userspace round trip</h3>")?;
    let parts = parts(anatomy);
    let names: Vec<_> = parts
        .iter()
        .map(|(name, part)| {
            let [mean, p50, p99] = [part.mean, part.p50, part.p99].map(duration);
            format!("{name}: mean {mean}, p50 {p50}, p99 {p99}")
        })
        .collect();
    writeln!(out, "<div class=\"plots\">")?;
    let name = result.phase.name();
    let what = "Mean of each part, without the fastest and the slowest quarter of the probes";
    figure(
        plots::anatomy(&half),
        &format!("A typical round trip, {name}"),
        what,
        out,
    )?;
    let what = format!(
        "Mean of each part over all {} that were stamped at every hook; the parts add up to the round trip",
        count(anatomy.watched.count(), "probe")
    );
    figure(plots::anatomy(anatomy), &format!("All round trips, {name}"), &what, out)?;
    writeln!(out, "</div>")?;
    key(&names, |part| colour_name(plots::PARTS + part), out)
}

fn how(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let setting = &comparison.setting;
    let peer = setting
        .peer_attach
        .map_or("unknown".to_owned(), |mode| mode.to_string());
    let loaded = comparison.phases.iter().find(|result| result.phase == Phase::Loaded);
    let busy = loaded.map(|result| format!(", then under load, busy processes: {}", result.busy));
    let mut lines = vec![
        format!(
            "One probe of each method every {}, of the same size, sent by one thread in turn and evenly spaced; the \
             order changes from round to round, so that each method follows each other one equally often.",
            humantime::format_duration(setting.interval)
        ),
        format!(
            "Each phase lasts {}: idle{}. Probes before the first phase, to warm up, are not counted.",
            humantime::format_duration(setting.duration),
            busy.unwrap_or_default()
        ),
        "userspace: CLOCK_MONOTONIC just before the send call and just after the return of the receive call, answered by \
         a process at the far end; each in a blocking thread of its own."
            .to_owned(),
        "socket: software timestamps of the kernel at sockets (SO_TIMESTAMPING) at both ends, less the time in the far \
         process."
            .to_owned(),
        format!(
            "kernel: kstamp's programs, stamping at TC egress and received by {} here and by {peer} there, less the time \
             in the reflector.",
            setting.attach
        ),
        format!(
            "kstamp {}, Linux {}, {}{}.",
            setting.version,
            setting.kernel,
            count(setting.cpus as u64, "CPU"),
            if setting.realtime { ", local threads at SCHED_FIFO" } else { "" }
        ),
    ];
    if let Some(floor) = &setting.floor {
        lines.push(format!("Noise floor: {}.", in_words(floor)));
    }
    lines.extend(setting.notes.iter().cloned());
    writeln!(out, "<section>\n<h2>How it was measured</h2>\n<ul>")?;
    for line in lines {
        writeln!(out, "<li>{}</li>", text(&line))?;
    }
    writeln!(out, "</ul>\n</section>")
}
