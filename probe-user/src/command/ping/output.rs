//! Output of `kstamp ping`: one start, a line for each probe, one summary.

mod text;

use std::io::{self, Write};
use std::net::IpAddr;

use probe_core::stats::report::OneWayClock;
use probe_io::ping::answer::{ReplyPacket, ReturnedTlv};
use probe_io::port::Engine;
use serde::{Serialize, Serializer};

use crate::output::jsonl::record;
use crate::output::model::{Clock, Results, Sample};
use crate::output::sink::{OutputError, Sink};
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
            value: tlv.value.iter().map(|byte| format!("{byte:02x}")).collect(),
            says: tlv.says(),
        }
    }
}

pub struct PingOutput {
    format: Format,
    sink: Sink,
}

impl PingOutput {
    pub fn stdout(format: Format) -> Self {
        Self {
            format,
            sink: Sink::stdout(),
        }
    }

    pub fn start(&mut self, start: &PingStart) -> Result<(), OutputError> {
        self.write("start", start, |out| text::start(start, out))
    }

    pub fn sample(&mut self, sample: &PingSample) -> Result<(), OutputError> {
        self.write("sample", sample, |out| text::sample(sample, out))
    }

    pub fn summary(&mut self, start: &PingStart, results: &Results) -> Result<(), OutputError> {
        self.write("summary", results, |out| text::summary(start, results, out))
    }

    fn write(
        &mut self,
        kind: &'static str,
        fields: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let format = self.format;
        self.sink.write(|out| match format {
            Format::Text => text(out),
            Format::Jsonl => record(kind, fields, out),
        })?;
        self.sink.flush()
    }
}
