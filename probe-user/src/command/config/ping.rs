//! What `kstamp ping`'s command line means.

use std::process;

use probe_common::family::Family;
use probe_common::tlv::AccessReport;
use probe_core::session::GRACE_NS;
use probe_io::ping::packet::{MAX_SIZE, PacketPlan, TlvRequest};

use crate::command::args::{FamilyArg, FormatArg, PingArgs, PingEngineArg};
use crate::command::config::{ConfigError, first_ssid, values, wrong};
use crate::command::key_file;
use crate::output::Format;

/// Longest name that DNS knows.
const MAX_TARGET: usize = 255;

/// Who stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingEngine {
    /// Kernel programs where they may, sockets where they may not.
    Auto,
    /// Kernel programs or nothing.
    Ebpf,
    /// Sockets, and why.
    Socket(&'static str),
}

/// `kstamp ping`.
#[derive(Debug, Clone)]
pub struct PingConfig {
    /// Address or name, with its scope if it has one.
    pub target: String,
    /// The only IP version to use, if one was asked for.
    pub family: Option<Family>,
    /// UDP port of the reflector.
    pub port: u16,
    /// Probes to send; `None` until a signal comes.
    pub count: Option<u64>,
    /// Time between two probes.
    pub interval_ns: u64,
    /// Time from T1 within which a reply counts.
    pub timeout_ns: u64,
    /// DSCP of the probes.
    pub dscp: u8,
    /// What the probes contain.
    pub packet: PacketPlan,
    /// Who stamps.
    pub engine: PingEngine,
    /// Form of the results.
    pub format: Format,
}

pub(super) fn ping(args: PingArgs) -> Result<PingConfig, ConfigError> {
    let target = args.target;
    if target.is_empty() || target.len() > MAX_TARGET || target.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return wrong(format!("{target:?} is neither an address nor a name"));
    }
    let family = match args.family {
        Some(FamilyArg::V4) => Some(Family::V4),
        Some(FamilyArg::V6) => Some(Family::V6),
        Some(FamilyArg::Both) => {
            return wrong("--family both is for agents; ping probes one address: use v4 or v6".to_owned());
        }
        None => None,
    };
    let interval_ns = values::interval_ns(&args.interval)?;
    let timeout_ns = values::duration_ns("--timeout", &args.timeout)?;
    values::waiting(
        &args.timeout,
        timeout_ns.saturating_add(GRACE_NS),
        &args.interval,
        interval_ns,
    )?;
    let key = args.key_file.as_deref().map(key_file::read).transpose();
    let key = key.map_err(|error| ConfigError::Flag(format!("--key-file: {error}")))?;
    let tlvs = args.tlv.iter().map(|text| tlv(text)).collect::<Result<Vec<_>, _>>()?;
    let engine = engine(args.engine, key.is_some(), !tlvs.is_empty())?;
    let ssid = match &args.ssid {
        Some(text) => number("--ssid", text, u16::MAX)?,
        None => first_ssid(process::id()),
    };
    let packet = PacketPlan::new(ssid, tlvs, key);
    Ok(PingConfig {
        target,
        family,
        port: values::port(&args.port)?,
        count: args.count.as_deref().map(values::count).transpose()?,
        interval_ns,
        timeout_ns,
        dscp: number("--dscp", &args.dscp, 63)?,
        packet: match &args.size {
            Some(text) => sized(packet, number("--size", text, u16::MAX)?.into())?,
            None => packet,
        },
        engine,
        format: match args.format {
            FormatArg::Text => Format::Text,
            FormatArg::Jsonl => Format::Jsonl,
        },
    })
}

fn engine(asked: PingEngineArg, authenticated: bool, has_tlvs: bool) -> Result<PingEngine, ConfigError> {
    let hindrance = match (authenticated, has_tlvs) {
        (true, _) => Some(("--key-file", "kernel programs cannot authenticate packets")),
        (false, true) => Some(("--tlv", "returned TLVs are read by the socket")),
        (false, false) => None,
    };
    match (asked, hindrance) {
        (PingEngineArg::Socket, _) => Ok(PingEngine::Socket("as asked for")),
        (PingEngineArg::Auto, Some((_, why))) => Ok(PingEngine::Socket(why)),
        (PingEngineArg::Ebpf, Some((flag, why))) => wrong(format!(
            "--engine ebpf does not go with {flag}: {why}; leave one of the two out"
        )),
        (PingEngineArg::Auto, None) => Ok(PingEngine::Auto),
        (PingEngineArg::Ebpf, None) => Ok(PingEngine::Ebpf),
    }
}

fn sized(packet: PacketPlan, size: usize) -> Result<PacketPlan, ConfigError> {
    let least = packet.least_len();
    match packet.padded_to(size) {
        Some(packet) => Ok(packet),
        None if size > MAX_SIZE => wrong(format!(
            "--size {size} is more than a probe can have; use {MAX_SIZE} or less"
        )),
        None if size < least => wrong(format!(
            "--size {size} is less than the {least} bytes that such a probe needs; use {least} or more"
        )),
        None => wrong(format!(
            "--size {size} leaves too little for padding, which needs 4 bytes; use {least}, or {} and more",
            least + 4
        )),
    }
}

/// One `--tlv`.
fn tlv(text: &str) -> Result<TlvRequest, ConfigError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    match (name, value) {
        ("padding", Some(bytes)) => Ok(TlvRequest::Padding(
            number("--tlv padding", bytes, MAX_SIZE as u16)?.into(),
        )),
        ("location", None) => Ok(TlvRequest::Location),
        ("timestamps", None) => Ok(TlvRequest::Timestamps),
        ("cos", Some(dscp)) => Ok(TlvRequest::ClassOfService {
            dscp: number("--tlv cos", dscp, 63)?,
        }),
        ("direct", None) => Ok(TlvRequest::Direct),
        ("follow-up", None) => Ok(TlvRequest::FollowUp),
        ("access", Some(value)) => {
            let Some((id, code)) = value.split_once(':') else {
                return wrong(format!(
                    "--tlv {text} lacks a part; write access=ID:CODE, such as access=1:1"
                ));
            };
            Ok(TlvRequest::Access(AccessReport {
                access_id: number("--tlv access", id, 15)?,
                return_code: number("--tlv access", code, u8::MAX)?,
            }))
        }
        (_, None) if text.contains(':') => raw(text),
        _ => wrong(format!(
            "--tlv {text} is not known; use padding=BYTES, location, timestamps, cos=DSCP, direct, access=ID:CODE, \
             follow-up, or TYPE:HEX"
        )),
    }
}

/// `TYPE:HEX`.
fn raw(text: &str) -> Result<TlvRequest, ConfigError> {
    let (kind, digits) = text.split_once(':').unwrap_or((text, ""));
    let kind = number("--tlv TYPE", kind, u8::MAX)?;
    if kind == probe_common::tlv::kind::HMAC {
        return wrong("--tlv 8 is the HMAC, which --key-file adds by itself".to_owned());
    }
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()
        }
        _ => None,
    });
    match pairs.collect::<Option<Vec<u8>>>() {
        Some(value) => Ok(TlvRequest::Other { kind, value }),
        None => wrong(format!(
            "--tlv {text}: '{digits}' is not a value in hexadecimal digits; write two digits for each byte"
        )),
    }
}

fn number<T>(flag: &str, text: &str, most: T) -> Result<T, ConfigError>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => wrong(format!("{flag} '{text}' is not a number from 0 to {most}")),
    }
}

#[cfg(test)]
mod tests;
