//! What `kstamp ping` reports: one start, a line for each probe, one summary.

mod text;

use std::net::IpAddr;

use probe_core::stats::report::OneWayClock;
use probe_io::ping::answer::{ReplyPacket, ReturnedTlv};
use serde::Serialize;

use crate::output::Format;
use crate::output::jsonl::Line;
use crate::output::model::{Clock, Engine};
use crate::output::results::{Results, Sample};
use crate::output::sink::{OutputError, Sink};
use crate::output::time::Utc;

/// Whom it probes, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PingStart {
    /// Version of kstamp.
    pub version: String,
    /// What was asked for: an address or a name.
    pub target: String,
    /// The address.
    pub peer: IpAddr,
    /// UDP port of the reflector.
    pub port: u16,
    /// How stamps are obtained.
    pub engine: Engine,
    /// Why so.
    pub engine_reason: String,
    /// The interface that leads to the peer; `None` where only the kernel knows.
    pub interface: Option<String>,
    /// Bytes of a probe.
    pub size: usize,
    /// Session identifier of the probes.
    pub ssid: u16,
    /// DSCP of the probes.
    pub dscp: u8,
    /// Whether probes and replies are authenticated.
    pub authenticated: bool,
    /// Time between two probes.
    pub interval_ns: u64,
    /// Time after which a probe is lost.
    pub timeout_ns: u64,
    /// State of this host's clock.
    pub clock: Clock,
    /// The kernel's release.
    pub kernel: String,
    /// When it started.
    pub time: Utc,
}

/// One probe, or one more reply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PingSample {
    /// What became of it, with its stamps.
    #[serde(flatten)]
    pub sample: Sample,
    /// One-way delay to the peer; only where `clock` is known.
    pub forward_ns: Option<i64>,
    /// One-way delay from the peer; only where `clock` is known.
    pub backward_ns: Option<i64>,
    /// What backs the one-way delays: the fields `clock` and `clock_bound_ns`.
    #[serde(flatten, serialize_with = "crate::output::fields::one_way_clock")]
    pub clock: Option<OneWayClock>,
    /// The packet that the reply came in; only where a socket has seen it.
    #[serde(serialize_with = "packet")]
    pub reply: Option<ReplyPacket>,
}

fn packet<S: serde::Serializer>(packet: &Option<ReplyPacket>, serializer: S) -> Result<S::Ok, S::Error> {
    packet.as_ref().map(PacketFields::new).serialize(serializer)
}

/// How JSON has a packet.
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

/// How JSON has a TLV.
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
            value: tlv.value.iter().map(|byte| format!("{byte:02x}")).collect(),
            says: tlv.says(),
        }
    }
}

/// Writes what `kstamp ping` reports.
pub struct PingOutput {
    format: Format,
    sink: Sink,
}

impl PingOutput {
    /// To standard output.
    pub fn stdout(format: Format) -> Self {
        Self {
            format,
            sink: Sink::stdout(),
        }
    }

    /// Before the first probe.
    ///
    /// # Errors
    /// As [`crate::output::Output::export`], and so for the others.
    pub fn start(&mut self, start: &PingStart) -> Result<(), OutputError> {
        self.write(Line::PingStart(start), |out| text::start(start, out))
    }

    /// Whenever it is known what became of a probe.
    ///
    /// # Errors
    /// As [`PingOutput::start`].
    pub fn sample(&mut self, sample: &PingSample) -> Result<(), OutputError> {
        self.write(Line::PingSample(sample), |out| text::sample(sample, out))
    }

    /// At the end.
    ///
    /// # Errors
    /// As [`PingOutput::start`].
    pub fn summary(&mut self, start: &PingStart, results: &Results) -> Result<(), OutputError> {
        self.write(Line::Summary(results), |out| text::summary(start, results, out))
    }

    fn write(
        &mut self,
        line: Line<'_>,
        text: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
    ) -> Result<(), OutputError> {
        let format = self.format;
        self.sink.write(|out| match format {
            Format::Text => text(out),
            Format::Jsonl => line.write(out),
        })?;
        self.sink.flush()
    }
}
