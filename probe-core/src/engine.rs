//! The way of stamping that the user chose.

use serde::{Serialize, Serializer};

use crate::attach::AttachMode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Kernel programs.
    Ebpf,
    Socket,
}

impl Engine {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Socket => "socket",
        }
    }

    /// Where probes are stamped as they leave.
    pub const fn egress_mode(self) -> AttachMode {
        match self {
            Self::Ebpf => AttachMode::Tc,
            Self::Socket => AttachMode::Socket,
        }
    }
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
