//! How a link is set up.

use std::path::PathBuf;

use ipnet::IpNet;
use probe_host::netns::NetnsError;

use crate::connection::{self, ConnectionError};
use crate::credentials::Credentials;

/// Default of [`LinkConfig::buffer_size`].
pub const DEFAULT_BUFFER_SIZE: u64 = 64 << 20;

#[derive(Debug, Clone)]
pub struct LinkConfig {
    pub credentials: Credentials,
    /// Directory of the queue and of the last assignment. Each port has a directory of its own in it.
    pub buffer: PathBuf,
    /// Most bytes that may wait on disk.
    pub buffer_size: u64,
    /// Length of a report window.
    pub report_ns: u64,
    /// Targets outside are refused; empty: there is no such limit.
    pub allow: Vec<IpNet>,
}

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the fleet needs windows of a finite length; set a report interval")]
    NoWindows,
    #[error(transparent)]
    Credentials(#[from] ConnectionError),
    #[error("the thread of the fleet has ended")]
    Thread,
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl LinkConfig {
    pub(super) fn check(&self) -> Result<(), LinkError> {
        if self.report_ns == 0 {
            return Err(LinkError::NoWindows);
        }
        Ok(connection::check(&self.credentials)?)
    }
}
