//! Output of `kstamp ping`: one start, a line for each probe, one summary.

use std::io::{self, Write};
use std::net::IpAddr;

use probe_core::session::Outcome;
use probe_core::stats::report::{OneWayClock, Summary};
use probe_io::ping::answer::{ReplyPacket, ReturnedTlv};
use probe_io::port::Engine;
use serde::{Serialize, Serializer};

use crate::output::file::OutputFile;
use crate::output::jsonl::record;
use crate::output::model::{Clock, Results, Sample};
use crate::output::quantity::{above_zero, clock_name, count, duration, duration_u64, percent};
use crate::output::sink::{Control, OutputError, Sink};
use crate::output::time::Utc;
use crate::output::{Format, fields};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PingStart {
    pub version: String,
    pub target: String,
    pub peer: IpAddr,
    pub port: u16,
    pub engine: Engine,
    pub engine_reason: String,
    pub interface: Option<String>,
    pub size: usize,
    pub ssid: u16,
    pub dscp: u8,
    pub authenticated: bool,
    pub interval_ns: u64,
    pub timeout_ns: u64,
    pub clock: Clock,
    pub kernel: String,
    pub time: Utc,
}

/// One probe, or a duplicate or late reply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PingSample {
    #[serde(flatten)]
    pub sample: Sample,
    pub forward_ns: Option<i64>,
    pub backward_ns: Option<i64>,
    #[serde(flatten, serialize_with = "fields::one_way_clock")]
    pub clock: Option<OneWayClock>,
    #[serde(serialize_with = "packet")]
    pub reply: Option<ReplyPacket>,
}

fn packet<S: Serializer>(packet: &Option<ReplyPacket>, serializer: S) -> Result<S::Ok, S::Error> {
    packet.as_ref().map(PacketFields::new).serialize(serializer)
}

#[derive(Serialize)]
struct PacketFields {
    length: usize,
    ttl: Option<u8>,
    dscp: Option<u8>,
    probe_ttl: Option<u8>,
    tlvs: Vec<TlvFields>,
    tlvs_cut: bool,
    tlvs_forged: bool,
}

#[derive(Serialize)]
struct TlvFields {
    tlv: u8,
    name: &'static str,
    flags: String,
    value: String,
    says: Option<String>,
}

impl PacketFields {
    fn new(packet: &ReplyPacket) -> Self {
        Self {
            length: packet.length,
            ttl: packet.ttl,
            dscp: packet.dscp,
            probe_ttl: packet.probe_ttl,
            tlvs: packet.tlvs.iter().map(TlvFields::new).collect(),
            tlvs_cut: packet.is_cut,
            tlvs_forged: packet.tlvs_forged,
        }
    }
}

impl TlvFields {
    fn new(tlv: &ReturnedTlv) -> Self {
        Self {
            tlv: tlv.kind,
            name: tlv.name(),
            flags: tlv.flag_names(),
            value: digits(&tlv.value),
            says: tlv.says(),
        }
    }
}

/// Two hexadecimal digits for each byte. Formatting each byte by itself took longer than all else, with much padding.
fn digits(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.map(|half| char::from(DIGITS[usize::from(half)])).collect()
}

pub struct PingOutput {
    agent: String,
    format: Format,
    sink: Sink,
}

impl PingOutput {
    /// `agent` measures.
    pub fn stdout(format: Format, agent: String) -> Result<Self, OutputError> {
        let sink = Sink::new(OutputFile::open(None)?, format.notice(&agent))?;
        Ok(Self { agent, format, sink })
    }

    pub fn control(&self) -> Control {
        self.sink.control()
    }

    pub fn start(&mut self, start: &PingStart) -> Result<(), OutputError> {
        self.write("start", start, |out| write_start(start, out))
    }

    pub fn sample(&mut self, sample: &PingSample) -> Result<(), OutputError> {
        self.write("sample", sample, |out| write_sample(sample, out))
    }

    pub fn summary(&mut self, start: &PingStart, results: &Results) -> Result<(), OutputError> {
        let (format, agent) = (self.format, &self.agent);
        self.sink.write_last(|out| match format {
            Format::Text => write_summary(start, results, out),
            Format::Jsonl => record("summary", agent, results, out),
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
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let (format, agent) = (self.format, &self.agent);
        self.sink.write(kind, 1, |out| match format {
            Format::Text => text(out),
            Format::Jsonl => record(kind, agent, fields, out),
        })?;
        self.sink.flush();
        Ok(())
    }
}

fn write_start(start: &PingStart, out: &mut dyn Write) -> io::Result<()> {
    let address = if start.target == start.peer.to_string() {
        String::new()
    } else {
        format!(" ({})", start.peer)
    };
    let mode = if start.authenticated { ", authenticated" } else { "" };
    writeln!(
        out,
        "PING {}{address} port {}: STAMP, {} bytes{mode}",
        start.target, start.port, start.size
    )?;
    let interface = start.interface.as_deref().unwrap_or("the route's interface");
    match start.engine {
        Engine::Ebpf => writeln!(out, "timestamps by kernel programs on {interface}"),
        Engine::Socket => writeln!(out, "timestamps by a socket: {}", start.engine_reason),
    }
}

fn write_sample(one: &PingSample, out: &mut dyn Write) -> io::Result<()> {
    let sample = &one.sample;
    let note = match sample.state {
        Outcome::Lost => return writeln!(out, "no reply to seq={}", sample.seq),
        Outcome::Failed(why) => return writeln!(out, "could not send seq={}: {why}", sample.seq),
        Outcome::Ok => "",
        Outcome::Late => " (late: counted as lost)",
        Outcome::Duplicate => " (DUP!)",
    };
    match &one.reply {
        Some(reply) => write!(out, "{} bytes from {}: seq={}", reply.length, sample.peer, sample.seq)?,
        None => write!(out, "reply from {}: seq={}", sample.peer, sample.seq)?,
    }
    if let Some(ttl) = one.reply.as_ref().and_then(|reply| reply.ttl) {
        write!(out, " ttl={ttl}")?;
    }
    match (sample.rtt_ns, sample.residence_ns) {
        (Some(rtt_ns), Some(residence_ns)) => write!(
            out,
            " rtt={} residence={}",
            duration_u64(rtt_ns),
            duration_u64(residence_ns)
        )?,
        (Some(rtt_ns), None) => write!(
            out,
            " rtt={} (with the residence: the reflector wrote no timestamps)",
            duration_u64(rtt_ns)
        )?,
        // The reflector's clock was set between T2 and T3.
        (None, _) => write!(out, " rtt=? (the reflector's timestamps contradict each other)")?,
    }
    if let (Some(forward_ns), Some(backward_ns), Some(clock)) = (one.forward_ns, one.backward_ns, one.clock) {
        write!(
            out,
            " forward={} backward={} ({})",
            duration(forward_ns),
            duration(backward_ns),
            clock_name(clock)
        )?;
    }
    writeln!(out, "{note}")?;
    let Some(reply) = &one.reply else { return Ok(()) };
    for tlv in &reply.tlvs {
        writeln!(out, "    {tlv}")?;
    }
    if reply.is_cut {
        writeln!(out, "    a truncated TLV")?;
    }
    if reply.tlvs_forged {
        writeln!(out, "    the HMAC of the TLVs is missing or wrong: do not trust them")?;
    }
    Ok(())
}

fn write_summary(start: &PingStart, results: &Results, out: &mut dyn Write) -> io::Result<()> {
    let counts = &results.counts;
    writeln!(out, "\n--- {} port {} ---", start.target, start.port)?;
    write!(
        out,
        "{} sent, {}, {} lost",
        count(counts.sent, "probe"),
        count(counts.received, "reply"),
        percent(counts.lost, counts.sent - counts.pending)
    )?;
    if counts.lost_forward + counts.lost_backward > 0 {
        write!(
            out,
            " ({} forward, {} backward, {} unknown)",
            counts.lost_forward, counts.lost_backward, counts.lost_unknown
        )?;
    }
    for further in above_zero([
        (counts.pending, "still waiting"),
        (counts.late, "late"),
        (counts.duplicates, "duplicate"),
        (counts.reordered, "reordered"),
        (counts.send_failed, "could not be sent"),
        (counts.not_sent, "not sent because ping was stopped"),
        (counts.collector_lost, "not collected"),
    ]) {
        write!(out, ", {further}")?;
    }
    writeln!(out)?;
    line("rtt", results.rtt_ns.as_ref(), "", out)?;
    line("residence", results.residence_ns.as_ref(), "", out)?;
    let clock = results
        .clock
        .map(|clock| format!(" ({})", clock_name(clock)))
        .unwrap_or_default();
    line("forward", results.forward_ns.as_ref(), &clock, out)?;
    line("backward", results.backward_ns.as_ref(), &clock, out)
}

fn line(name: &str, summary: Option<&Summary>, note: &str, out: &mut dyn Write) -> io::Result<()> {
    let Some(summary) = summary else { return Ok(()) };
    let values = [
        summary.min,
        summary.mean,
        summary.p50,
        summary.p99,
        summary.max,
        summary.stddev,
    ]
    .map(duration);
    writeln!(out, "{name} min/mean/p50/p99/max/stddev = {}{note}", values.join(" / "))
}

#[cfg(test)]
mod tests;
