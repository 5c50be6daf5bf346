//! Why a run cannot begin or go on.

use probe_host::link::LinkError;

use crate::backend::error::ObjectError;
use crate::udp::sockets::SocketError;

#[derive(Debug, thiserror::Error)]
pub enum VolleyError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// One line that names the cause, the place, and the remedy.
    #[error("{0}")]
    Refused(String),
}
