//! Which programs are at a TC hook, as the kernel lists them.

use std::io;

use aya::programs::{TcAttachType, loaded_programs};
use aya::util::KernelVersion;

use crate::backend::ebpf::bpf_link::{BPF_TCX_INGRESS, bpf};
use crate::backend::ebpf::clsact::{self, Listed};

/// `BPF_PROG_QUERY` of `linux/bpf.h`.
const BPF_PROG_QUERY: libc::c_int = 16;
/// `BPF_TCX_EGRESS` of `linux/bpf.h`.
const BPF_TCX_EGRESS: u32 = 47;

/// The kernel has no more at one hook (`BPF_MPROG_MAX`).
const MAX_PROGRAMS: usize = 64;

/// TCX, from kernel 6.6 on.
pub(crate) fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Those of the interface of index `index`, in the order in which they see packets.
pub(super) fn programs(index: u32, hook: TcAttachType) -> io::Result<Vec<Listed>> {
    if has_tcx() {
        let ids = query(index, hook)?.into_iter();
        return Ok(ids
            .map(|id| Listed {
                id: Some(id),
                name: name(id),
            })
            .collect());
    }
    clsact::listed(index, hook)
}

/// Of a program of ours only the id is needed; names need a privilege that a running agent has given up.
fn name(id: u32) -> String {
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    match program.as_ref().and_then(|program| program.name_as_str()) {
        Some(name) if !name.is_empty() => format!("{name} (id {id})"),
        _ => format!("the program with id {id}"),
    }
}

/// The part of `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target_index: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
    attach_flags_of_each: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

const _: () = assert!(size_of::<Query>() == 64);

fn query(index: u32, hook: TcAttachType) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut query = Query {
        target_index: index,
        attach_type: match hook {
            TcAttachType::Egress => BPF_TCX_EGRESS,
            _ => BPF_TCX_INGRESS,
        },
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        reserved: 0,
        attach_flags_of_each: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: `query` is the attribute of the command, and `ids` has room for `count` of them.
    if let Err(error) = unsafe { bpf(BPF_PROG_QUERY, &mut query) } {
        // Nothing was ever attached there.
        return if error.raw_os_error() == Some(libc::ENOENT) {
            Ok(Vec::new())
        } else {
            Err(error)
        };
    }
    Ok(ids[..(query.count as usize).min(MAX_PROGRAMS)].to_vec())
}
