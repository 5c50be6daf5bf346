//! Who stamps packets, and whether they are authenticated.

use probe_core::auth::Key;
use probe_io::port::Kind;

use crate::command::args::{AttachArg, EngineArg, PortArgs};
use crate::command::config::{ConfigError, wrong};
use crate::command::key_file;

/// How stamps are obtained, and what the userspace reflector is to do.
#[derive(Debug, Clone)]
pub struct StampingConfig {
    /// By programs or by sockets.
    pub kind: Kind,
    /// The key of authenticated mode.
    pub key: Option<Key>,
    /// The reflector keeps no sessions.
    pub stateless: bool,
}

/// What the flags mean together. The key file is read, so that a bad one fails before anything is opened.
pub(super) fn stamping(args: &PortArgs) -> Result<StampingConfig, ConfigError> {
    let kind = match (args.engine, &args.key_file) {
        (Some(EngineArg::Ebpf), Some(_)) => {
            return wrong(
                "--engine ebpf cannot authenticate packets; leave it out, and sockets stamp them as --key-file wants"
                    .to_owned(),
            );
        }
        (Some(EngineArg::Ebpf) | None, None) => Kind::Ebpf,
        (Some(EngineArg::Socket), _) | (None, Some(_)) => Kind::Socket,
    };
    if kind == Kind::Ebpf && args.stateless {
        return wrong("--stateless needs --engine socket: the kernel programs count replies by session".to_owned());
    }
    if kind == Kind::Socket && (args.attach != AttachArg::Auto || args.log_bpf) {
        let flag = if args.log_bpf { "--log-bpf" } else { "--attach" };
        return wrong(format!(
            "{flag} is about kernel programs, which are not used with --engine socket or --key-file; drop one of the two"
        ));
    }
    let key = args.key_file.as_deref().map(key_file::read).transpose();
    Ok(StampingConfig {
        kind,
        key: key.map_err(|error| ConfigError::Flag(format!("--key-file: {error}")))?,
        stateless: args.stateless,
    })
}
