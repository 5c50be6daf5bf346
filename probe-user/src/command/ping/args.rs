//! Flags of `kstamp ping`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use probe_common::stamp;

use crate::command::shared::args::FamilyArg;
use crate::output::Format;

#[derive(Debug, Clone, Args)]
pub struct PingArgs {
    /// Address or name of the reflector; fe80::1%port1 is reached over port1
    #[arg(value_name = "ADDR")]
    pub target: String,

    /// UDP port of the reflector: 862 is STAMP's, kstamp's agents use 1910
    #[arg(short, long, value_name = "PORT", default_value_t = stamp::PORT.to_string())]
    pub port: String,

    /// Stop after this many probes [default: run until Ctrl-C]
    #[arg(short, long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub count: Option<String>,

    /// Time between two probes
    #[arg(
        short,
        long,
        value_name = "DURATION",
        default_value = "1s",
        allow_hyphen_values = true
    )]
    pub interval: String,

    /// A probe without a reply is lost after this time
    #[arg(short = 'W', long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,

    /// UDP payload of a probe in bytes, filled up with Extra Padding [default: no padding]
    #[arg(short, long, value_name = "BYTES", allow_negative_numbers = true)]
    pub size: Option<String>,

    /// DSCP of the probes, 0 to 63
    #[arg(long, value_name = "DSCP", default_value = "0", allow_negative_numbers = true)]
    pub dscp: String,

    /// Session identifier (SSID) of the probes, 0 to 65535 [default: differs from run to run]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub ssid: Option<String>,

    /// Authenticate probes with the key in this file (hexadecimal digits or raw bytes) and ignore replies without a valid
    /// HMAC; only its owner may have access to the file
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Protect the TLVs by an HMAC TLV with the key in this file, in packets that are not authenticated themselves; needs
    /// --tlv
    #[arg(long, value_name = "FILE")]
    pub tlv_key_file: Option<PathBuf>,

    /// Add this TLV (RFC 8972) to every probe; repeatable: padding=BYTES, location, timestamps, cos=DSCP, direct,
    /// access=ID:CODE, follow-up, or TYPE:HEX for any other
    #[arg(long, value_name = "TLV")]
    pub tlv: Vec<String>,

    /// IP version, if a name has addresses of both
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub family: Option<FamilyArg>,

    /// Where timestamps are taken: in kernel programs, or by the kernel at sockets (auto: kernel programs if possible)
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "auto")]
    pub engine: PingEngineArg,

    /// Output format: lines of text, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PingEngineArg {
    /// Kernel programs if possible, sockets otherwise
    Auto,
    /// Kernel programs
    Ebpf,
    /// Sockets
    Socket,
}
