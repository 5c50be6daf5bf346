//! What `kstamp compare` concludes: which probe is whose turn, what became of each, what its parts are, and what the
//! methods say beside each other.

pub mod anatomy;
pub mod ledger;
pub mod rotation;
pub mod stamped;
pub mod versus;

/// A way of measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// A process reads its clock around the calls that send and receive, and a process answers.
    Userspace,
    /// A process sends, a process answers, and the kernel stamps for both (`SO_TIMESTAMPING`).
    Socket,
    /// kstamp's own: the kernel stamps, and the kernel answers.
    Kernel,
}

impl Method {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Userspace, Self::Socket, Self::Kernel];

    /// Its name in every output form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Userspace => "userspace",
            Self::Socket => "socket",
            Self::Kernel => "kernel",
        }
    }
}

/// Under which conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The machine as it was found.
    Idle,
    /// With busy processes beside.
    Loaded,
}

impl Phase {
    /// Its name in every output form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Loaded => "loaded",
        }
    }
}
