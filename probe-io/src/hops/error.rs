//! Why a host cannot be observed.

use std::io;

use probe_host::netns::NetnsError;
use probe_host::privileges::PrivilegeError;

use crate::backend::error::ObjectError;

#[derive(Debug, thiserror::Error)]
pub enum HopError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error("cannot list the devices of this host: {0}")]
    Devices(#[source] io::Error),
    #[error("the thread that observes devices has ended")]
    Ended,
}
