//! The decisions of `kstamp compare`: the order of the methods, the results of their probes, the parts of a round trip,
//! and the differences between the methods.

pub mod anatomy;
pub mod ledger;
pub mod rotation;
pub mod stamped;
pub mod versus;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// A process reads its clock around the send and receive calls, and a process answers.
    Userspace,
    /// A process sends and a process answers, with kernel stamps on both sides (`SO_TIMESTAMPING`).
    Socket,
    /// The method of kstamp: the kernel stamps, and the kernel answers.
    Kernel,
}

impl Method {
    /// In the order of output.
    pub const ALL: [Self; 3] = [Self::Userspace, Self::Socket, Self::Kernel];

    pub fn name(self) -> &'static str {
        match self {
            Self::Userspace => "userspace",
            Self::Socket => "socket",
            Self::Kernel => "kernel",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The machine as it is.
    Idle,
    /// With busy processes.
    Loaded,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Loaded => "loaded",
        }
    }
}
