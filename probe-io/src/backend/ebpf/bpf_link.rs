//! Links of programs that receive, by bpf(2): aya neither gives a link's descriptor away nor takes one.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use probe_core::attach::AttachMode;

/// Commands, attach types and flags of `linux/bpf.h` and `linux/if_link.h`.
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_XDP: u32 = 37;
pub(super) const BPF_TCX_INGRESS: u32 = 46;
const BPF_F_BEFORE: u32 = 1 << 3;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;

/// bpf(2).
///
/// # Safety
///
/// `attributes` must be the part of `union bpf_attr` for `command`. Its pointers must be of live memory of the lengths given.
pub(super) unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: the caller guarantees that the attributes are those of the command. Their size is given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<A>()) };
    match result {
        0.. => Ok(result as libc::c_int),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The part of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Query {
    link: RawFd,
    length: u32,
    info: u64,
}

/// What the kernel says of a link: the part of `struct bpf_link_info` that XDP and TCX have.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LinkInfo {
    kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    padding: u32,
    /// Of the interface; 0 if that is gone, or if the link was detached.
    pub(super) index: u32,
    attach_type: u32,
}

impl LinkInfo {
    pub(super) fn of(link: BorrowedFd<'_>) -> io::Result<Self> {
        let mut info = Self::default();
        let mut attributes = Query {
            link: link.as_raw_fd(),
            length: size_of::<Self>() as u32,
            info: &raw mut info as u64,
        };
        // SAFETY: `Query` is the attribute of the command, and `info` has the length given.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
        Ok(info)
    }

    /// Whether the link's program receives in `mode`. Native and generic XDP look the same.
    pub(super) fn is_of(&self, mode: AttachMode) -> bool {
        match mode {
            AttachMode::XdpNative | AttachMode::XdpGeneric => self.is_xdp(),
            AttachMode::Tc => (self.kind, self.attach_type) == (BPF_LINK_TYPE_TCX, BPF_TCX_INGRESS),
            AttachMode::Socket => false,
        }
    }

    pub(super) fn is_xdp(&self) -> bool {
        self.kind == BPF_LINK_TYPE_XDP
    }
}

/// A program that receives, attached until all processes have closed the link.
#[derive(Debug)]
pub(super) struct BpfLink {
    descriptor: OwnedFd,
    /// Detach the program on drop, even if another process has the link open.
    is_ours: bool,
}

impl BpfLink {
    /// Attaches `program` to the interface of index `index`. By TCX it goes before all others.
    pub(super) fn create(program: BorrowedFd<'_>, index: u32, mode: AttachMode) -> io::Result<Self> {
        let (attach_type, flags) = match mode {
            AttachMode::XdpNative => (BPF_XDP, XDP_FLAGS_DRV_MODE),
            AttachMode::XdpGeneric => (BPF_XDP, XDP_FLAGS_SKB_MODE),
            AttachMode::Tc => (BPF_TCX_INGRESS, BPF_F_BEFORE),
            AttachMode::Socket => return Err(io::ErrorKind::InvalidInput.into()),
        };
        // Before no program in particular (TCX), and no revision.
        let mut attributes = [program.as_raw_fd() as u32, index, attach_type, flags, 0, 0, 0, 0];
        // SAFETY: the attributes have no pointer.
        let number = unsafe { bpf(BPF_LINK_CREATE, &mut attributes) }?;
        Ok(Self {
            // SAFETY: the kernel has just opened it.
            descriptor: unsafe { OwnedFd::from_raw_fd(number) },
            is_ours: true,
        })
    }

    /// A link that a process before this one had created. It stays until it is updated or detached.
    pub(super) fn inherited(descriptor: OwnedFd) -> Self {
        Self {
            descriptor,
            is_ours: false,
        }
    }

    /// Puts `program` in the place of the one before: each packet meets one of them.
    pub(super) fn update(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut attributes = [self.descriptor.as_raw_fd(), program.as_raw_fd(), 0, 0];
        // SAFETY: the attributes have no pointer.
        unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }?;
        self.is_ours = true;
        Ok(())
    }

    pub(super) fn detach(mut self) {
        self.is_ours = true;
    }

    /// Leaves the program attached for as long as another process has the link open.
    pub(super) fn leave(mut self) {
        self.is_ours = false;
    }

    pub(super) fn info(&self) -> io::Result<LinkInfo> {
        LinkInfo::of(self.as_fd())
    }
}

impl AsFd for BpfLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for BpfLink {
    fn drop(&mut self) {
        if self.is_ours {
            let mut attributes = [self.descriptor.as_raw_fd()];
            // It fails if the interface is gone.
            // SAFETY: the attributes have no pointer.
            unsafe { bpf(BPF_LINK_DETACH, &mut attributes) }.ok();
        }
    }
}
