//! `kstamp ping`, as it is typed.

use std::path::PathBuf;

use clap::Args;

use crate::command::args::{FamilyArg, FormatArg, PingEngineArg};

/// `kstamp ping`.
#[derive(Debug, Clone, Args)]
pub struct PingArgs {
    /// Whom to probe: an address or a name; fe80::1%port1 is reached by port1
    #[arg(value_name = "ADDR")]
    pub target: String,

    /// UDP port of the reflector: 862 is STAMP's own, kstamp's agents use 1910
    #[arg(short, long, value_name = "PORT", default_value = "862")]
    pub port: String,

    /// Stop after this many probes [default: run until ctrl-C]
    #[arg(short, long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub count: Option<String>,

    /// Time between two probes: 200ms, 1s
    #[arg(
        short,
        long,
        value_name = "DURATION",
        default_value = "1s",
        allow_hyphen_values = true
    )]
    pub interval: String,

    /// Time after which a probe without an answer is lost: 500ms, 2s
    #[arg(short = 'W', long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,

    /// Bytes of a probe, UDP payload; what the fields do not need is Extra Padding [default: no padding]
    #[arg(short, long, value_name = "BYTES", allow_negative_numbers = true)]
    pub size: Option<String>,

    /// Differentiated services code point of the probes, 0 to 63
    #[arg(long, value_name = "DSCP", default_value = "0", allow_negative_numbers = true)]
    pub dscp: String,

    /// Session identifier that the probes carry, 0 to 65535 [default: one that differs from run to run]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub ssid: Option<String>,

    /// Authenticate probes, and believe only authenticated replies, with the key in this file: hexadecimal digits, or the
    /// key itself; nobody but its owner may have any right to the file
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Send this TLV (RFC 8972) with every probe; may be repeated: padding=BYTES, location, timestamps, cos=DSCP, direct,
    /// access=ID:CODE, follow-up, or TYPE:HEX for any other
    #[arg(long, value_name = "TLV")]
    pub tlv: Vec<String>,

    /// IP version, where a name has addresses of both
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub family: Option<FamilyArg>,

    /// How to stamp: by kernel programs, by sockets, or by programs where that is permitted and possible
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "auto")]
    pub engine: PingEngineArg,

    /// Form of the output: lines for people, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: FormatArg,
}
