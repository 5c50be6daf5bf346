//! Output of `kstamp path`: one start, outliers, and at the end the split, how Open vSwitch forwards, and a summary.

use std::io::{self, Write};
use std::net::IpAddr;

use probe_core::stats::report::{Report, Summary};
use probe_host::ovs::PortFacts;
use serde::Serialize;

use crate::command::path::forwarding::Forwarding;
use crate::output::file::OutputFile;
use crate::output::jsonl::record;
use crate::output::model::hops::{Hops, Outlier};
use crate::output::quantity::{above_zero, count, duration, duration_u64, percent};
use crate::output::sink::{Control, OutputError, Sink};
use crate::output::terminal::{Columns, columns_for};
use crate::output::text::{hops, wrap};
use crate::output::time::Utc;
use crate::output::{Format, fields};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathStart {
    pub version: String,
    pub interface: String,
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    pub port: u16,
    pub ssid: u16,
    pub count: u64,
    pub interval_ns: u64,
    pub timeout_ns: u64,
    /// The port in Open vSwitch.
    pub ovs: Option<PortFacts>,
    pub kernel: String,
    pub time: Utc,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathSummary {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub late: u64,
    pub pending: u64,
    pub send_failed: u64,
    #[serde(serialize_with = "fields::distribution")]
    pub rtt_ns: Option<Summary>,
}

impl PathSummary {
    pub fn new(report: &Report) -> Self {
        let counts = &report.counts;
        Self {
            sent: counts.sent,
            received: counts.received,
            lost: counts.lost,
            late: counts.late,
            pending: counts.pending,
            send_failed: counts.send_failed,
            rtt_ns: report.rtt_ns,
        }
    }
}

pub struct PathOutput {
    agent: String,
    interface: String,
    format: Format,
    columns: Columns,
    sink: Sink,
}

impl PathOutput {
    /// `agent` measures at `interface`.
    pub fn stdout(format: Format, agent: String, interface: &str) -> Result<Self, OutputError> {
        Ok(Self {
            columns: columns_for(None),
            sink: Sink::new(OutputFile::open(None)?, format.notice(&agent))?,
            interface: interface.to_owned(),
            agent,
            format,
        })
    }

    pub fn control(&self) -> Control {
        self.sink.control()
    }

    pub fn start(&mut self, start: &PathStart) -> Result<(), OutputError> {
        self.write("start", start, |_, out| write_start(start, out))
    }

    pub fn outlier(&mut self, outlier: &Outlier) -> Result<(), OutputError> {
        self.write("outlier", outlier, |columns, out| {
            hops::write_outlier(outlier, columns, out)
        })
    }

    pub fn end(
        &mut self,
        hops: Option<&Hops>,
        forwarding: Option<&Forwarding>,
        summary: &PathSummary,
    ) -> Result<(), OutputError> {
        let port = self.interface.clone();
        if let Some(hops) = hops.filter(|_| summary.sent > 0) {
            self.write("hops", hops, |columns, out| hops::write(hops, &port, columns, out))?;
        }
        if let Some(forwarding) = forwarding {
            self.write("forwarding", forwarding, |columns, out| {
                write_forwarding(forwarding, columns, out)
            })?;
        }
        let (format, agent) = (self.format, &self.agent);
        self.sink.write_last(|out| match format {
            Format::Text => write_summary(summary, out),
            Format::Jsonl => record("summary", agent, summary, out),
        })
    }

    /// Hands over the output, whose reader has yet to take the rest.
    pub fn into_sink(self) -> Sink {
        self.sink
    }

    fn write(
        &mut self,
        kind: &'static str,
        fields: &impl Serialize,
        text: impl FnOnce(Option<usize>, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let (format, agent, columns) = (self.format, &self.agent, (self.columns)());
        self.sink.write(kind, 1, |out| match format {
            Format::Text => text(columns, out),
            Format::Jsonl => record(kind, agent, fields, out),
        })?;
        self.sink.flush();
        Ok(())
    }
}

fn write_start(start: &PathStart, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "PATH from {} to {}{} port {}: {}, one every {}",
        start.interface,
        start.peer,
        start
            .peer_name
            .iter()
            .map(|name| format!(" {name}"))
            .collect::<String>(),
        start.port,
        count(start.count, "STAMP probe"),
        duration_u64(start.interval_ns)
    )?;
    let Some(ovs) = &start.ovs else { return Ok(()) };
    writeln!(out, "in Open vSwitch: {ovs}")
}

fn write_forwarding(forwarding: &Forwarding, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let Forwarding { flow, trace } = forwarding;
    writeln!(out)?;
    let bridges = trace.bridges.join(" → ");
    wrap::write(
        "",
        &format!("Open vSwitch forwards these probes through {bridges}"),
        2,
        columns,
        out,
    )?;
    let megaflow = trace.megaflow.as_deref().unwrap_or("unknown");
    for (label, text) in [("flow", flow.as_str()), ("megaflow", megaflow)] {
        wrap::write("", &format!("  {label}: {text}"), 4, columns, out)?;
    }
    for actions in &trace.actions {
        wrap::write("", &format!("  datapath actions: {actions}"), 4, columns, out)?;
    }
    Ok(())
}

fn write_summary(summary: &PathSummary, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "\n{} sent, {}, {} lost",
        count(summary.sent, "probe"),
        count(summary.received, "reply"),
        percent(summary.lost, summary.sent - summary.pending)
    )?;
    for further in above_zero([
        (summary.pending, "still waiting"),
        (summary.late, "late"),
        (summary.send_failed, "could not be sent"),
    ]) {
        write!(out, ", {further}")?;
    }
    writeln!(out)?;
    let Some(rtt) = &summary.rtt_ns else { return Ok(()) };
    let values = [rtt.min, rtt.mean, rtt.p50, rtt.p99, rtt.max].map(duration);
    writeln!(out, "rtt min/mean/p50/p99/max = {}", values.join(" / "))
}

#[cfg(test)]
pub mod tests {
    use probe_host::ovs::Trace;

    use super::*;
    use crate::output::fixtures;

    pub fn start() -> PathStart {
        let of_agent = fixtures::start();
        PathStart {
            version: of_agent.version,
            interface: "port1".to_owned(),
            peer: fixtures::ip("10.1.1.6"),
            peer_name: Some("h2:port2".to_owned()),
            port: 1910,
            ssid: 7,
            count: 50,
            interval_ns: 100_000_000,
            timeout_ns: 1_000_000_000,
            ovs: Some(fixtures::port_facts()),
            kernel: of_agent.kernel,
            time: of_agent.time,
        }
    }

    pub fn forwarding() -> Forwarding {
        Forwarding {
            flow: "udp,in_port=1".to_owned(),
            trace: Trace {
                bridges: vec!["br-int".to_owned(), "br-ex".to_owned()],
                megaflow: Some("recirc_id=0,eth,udp,in_port=1".to_owned()),
                actions: vec!["set(tunnel(tun_id=0x2a)),3".to_owned()],
            },
        }
    }

    pub fn summary() -> PathSummary {
        PathSummary {
            sent: 50,
            received: 48,
            lost: 1,
            late: 0,
            pending: 1,
            send_failed: 0,
            rtt_ns: fixtures::good().rtt_ns,
        }
    }

    #[test]
    fn text_has_flow_bridges_and_counts() {
        let text = |write: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
            let mut out = Vec::new();
            write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let begun = text(&|out| write_start(&start(), out));
        assert!(
            begun.starts_with("PATH from port1 to 10.1.1.6 h2:port2 port 1910: 50 STAMP probes, one every 100"),
            "{begun}"
        );
        assert!(begun.contains("\nin Open vSwitch: "), "{begun}");
        let forwarded = text(&|out| write_forwarding(&forwarding(), None, out));
        assert_eq!(
            forwarded,
            "\nOpen vSwitch forwards these probes through br-int → br-ex\n  flow: udp,in_port=1\n  megaflow: \
             recirc_id=0,eth,udp,in_port=1\n  datapath actions: set(tunnel(tun_id=0x2a)),3\n"
        );
        let ended = text(&|out| write_summary(&summary(), out));
        assert!(
            ended
                .starts_with("\n50 probes sent, 48 replies, 2.04 % lost, 1 still waiting\nrtt min/mean/p50/p99/max = "),
            "{ended}"
        );
    }
}
