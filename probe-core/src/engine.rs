//! The way of stamping that the user chose.

use serde::Serialize;

use crate::attach::AttachMode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Kernel programs.
    Ebpf,
    Socket,
}

impl Engine {
    /// Where probes are stamped as they leave.
    pub const fn egress_mode(self) -> AttachMode {
        match self {
            Self::Ebpf => AttachMode::Tc,
            Self::Socket => AttachMode::Socket,
        }
    }
}
