//! Configuration of `kstamp ping`.

use std::net::Ipv6Addr;

use probe_common::family::Family;
use probe_common::tlv::AccessReport;
use probe_core::session::GRACE_NS;
use probe_io::ping::packet::{MAX_SIZE, PacketPlan, TlvRequest};

use crate::command::ping::args::{PingArgs, PingEngineArg};
use crate::command::shared::args::FamilyArg;
use crate::command::shared::values::{self, ConfigError, number, wrong};
use crate::output::Format;

/// Longest DNS name.
const MAX_TARGET: usize = 255;

/// Where timestamps are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingEngine {
    /// In kernel programs if possible, at sockets otherwise.
    Auto,
    /// In kernel programs, or fail.
    Ebpf,
    /// At sockets, with the reason.
    Socket(&'static str),
}

#[derive(Debug, Clone)]
pub struct PingConfig {
    /// Address or name, with a scope if there is one.
    pub target: String,
    pub family: Option<Family>,
    pub port: u16,
    /// `None`: until a signal comes.
    pub count: Option<u64>,
    pub interval_ns: u64,
    pub timeout_ns: u64,
    pub dscp: u8,
    pub packet: PacketPlan,
    pub engine: PingEngine,
    pub format: Format,
}

pub fn validate(args: PingArgs) -> Result<PingConfig, ConfigError> {
    let target = args.target;
    if target.is_empty() || target.len() > MAX_TARGET || target.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return wrong(format!("{target:?} is neither an address nor a name"));
    }
    if target.parse().is_ok_and(|v6: Ipv6Addr| v6.is_unicast_link_local()) {
        return wrong(format!(
            "{target} is a link-local address, which each link has its own of; name the interface: {target}%IFACE"
        ));
    }
    let family = match args.family {
        Some(FamilyArg::V4) => Some(Family::V4),
        Some(FamilyArg::V6) => Some(Family::V6),
        Some(FamilyArg::Both) => {
            return wrong("--family both is for agents; ping probes one address: use v4 or v6");
        }
        None => None,
    };
    let interval_ns = values::interval_ns(&args.interval)?;
    let timeout_ns = values::duration_ns("--timeout", &args.timeout)?;
    let in_flight = timeout_ns.saturating_add(GRACE_NS).div_ceil(interval_ns);
    values::rings(1, in_flight, &args.timeout, &args.interval)?;
    let tlv_key = values::tlv_key(args.tlv_key_file, args.key_file.is_some())?;
    let key = values::key(args.key_file)?;
    let tlvs = args.tlv.iter().map(|text| tlv(text)).collect::<Result<Vec<_>, _>>()?;
    if tlv_key.is_some() && tlvs.is_empty() {
        return wrong("--tlv-key-file protects TLVs, and there are none; add one with --tlv");
    }
    let engine = engine(args.engine, key.is_some(), !tlvs.is_empty())?;
    let ssid = match &args.ssid {
        Some(text) => number("--ssid", text, u16::MAX)?,
        None => values::first_ssid(),
    };
    let packet = PacketPlan::new(ssid, tlvs, key).with_tlv_key(tlv_key);
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
        format: args.format,
    })
}

fn engine(asked: PingEngineArg, authenticated: bool, has_tlvs: bool) -> Result<PingEngine, ConfigError> {
    let obstacle = match (authenticated, has_tlvs) {
        (true, _) => Some(("--key-file", "kernel programs cannot authenticate packets")),
        (false, true) => Some(("--tlv", "returned TLVs are read at the socket")),
        (false, false) => None,
    };
    match (asked, obstacle) {
        (PingEngineArg::Socket, _) => Ok(PingEngine::Socket("as requested")),
        (PingEngineArg::Auto, Some((_, why))) => Ok(PingEngine::Socket(why)),
        (PingEngineArg::Ebpf, Some((flag, why))) => wrong(format!(
            "--engine ebpf cannot be combined with {flag}: {why}; leave one of the two out"
        )),
        (PingEngineArg::Auto, None) => Ok(PingEngine::Auto),
        (PingEngineArg::Ebpf, None) => Ok(PingEngine::Ebpf),
    }
}

fn sized(packet: PacketPlan, size: usize) -> Result<PacketPlan, ConfigError> {
    let min = packet.least_len();
    match packet.padded_to(size) {
        Some(packet) => Ok(packet),
        None if size > MAX_SIZE => wrong(format!(
            "--size {size} is more than the maximum; use {MAX_SIZE} or less"
        )),
        None if size < min => wrong(format!(
            "--size {size} is less than the {min} bytes that this probe needs; use {min} or more"
        )),
        None => wrong(format!(
            "--size {size} leaves too little room for padding, which needs 4 bytes; use {min}, or {} and more",
            min + 4
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
        return wrong("--tlv 8 is the HMAC TLV, which --key-file and --tlv-key-file add");
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

#[cfg(test)]
mod tests;
