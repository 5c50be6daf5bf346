//! The clsact qdisc, which holds TC programs before TCX (Linux 6.6): added if it is missing, removed at the end if
//! kstamp added it and it holds nothing else.
//!
//! Unlike links, filters outlive their process, and would continue to answer probes. The next agent removes those of a
//! killed one when it attaches.
//!
//! The kernel deactivates a device for a moment when this qdisc is added or removed, and may drop what generic XDP transmits
//! then. So the qdisc stays from one process to the next.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::{fs, io};

use aya::programs::TcAttachType;
use aya::programs::tc::{TcError, qdisc_add_clsact};
use log::{debug, warn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use probe_host::link::request::request;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use crate::backend::ebpf::object::{EGRESS, HOPS_EGRESS, HOPS_INGRESS, INGRESS, TAP_EGRESS, TAP_INGRESS};

/// Both hooks of the qdisc.
const HOOKS: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// The names of kstamp's TC programs.
const OURS: [&str; 6] = [EGRESS, INGRESS, TAP_EGRESS, TAP_INGRESS, HOPS_EGRESS, HOPS_INGRESS];

/// A program or another filter at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// `None` for a filter without a program.
    pub(super) id: Option<u32>,
    pub(super) name: String,
}

/// The qdisc of one interface, in use. Drop it after the filters on it.
pub(crate) struct Clsact {
    index: i32,
    /// Whether kstamp added it.
    ours: bool,
    /// While the service manager keeps this, the next process knows that the qdisc is ours.
    mark: Option<OwnedFd>,
}

/// What to do with filters whose programs no process seems to hold. Those of an agent in another PID namespace look so, too:
/// agents that attach again must leave them, or they would detach each other for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abandoned {
    Remove,
    Leave,
}

impl Clsact {
    /// Makes sure that `interface`, of index `index`, has the qdisc.
    pub(crate) fn ensure(interface: &str, index: u32, abandoned: Abandoned) -> Result<Self, TcError> {
        let index = index.cast_signed();
        let abandoned = match abandoned {
            Abandoned::Remove => clean(interface, index),
            Abandoned::Leave => 0,
        };
        let added = match qdisc_add_clsact(interface) {
            Ok(()) => true,
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => false,
            Err(error) => return Err(error),
        };
        // A qdisc with filters of a killed agent only was added by that agent.
        let inherited = abandoned > 0 && filters(index).is_ok_and(|filters| filters.is_empty());
        Ok(Self {
            index,
            ours: added || inherited,
            mark: None,
        })
    }

    /// The qdisc that a process before had added, which left `mark`.
    pub(super) fn inherited(index: u32, mark: OwnedFd) -> Self {
        Self {
            index: index.cast_signed(),
            ours: true,
            mark: Some(mark),
        }
    }

    /// Has a mark for the next process if the qdisc is ours: `former` if a process before had added it, else a new one.
    pub(super) fn set_mark(&mut self, former: Option<OwnedFd>) {
        self.ours |= former.is_some();
        if self.ours {
            self.mark = former.or_else(new_mark);
        }
    }

    pub(super) fn mark(&self) -> Option<BorrowedFd<'_>> {
        self.mark.as_ref().map(OwnedFd::as_fd)
    }

    /// Leaves the qdisc to the next process, which removes it if it has the mark.
    pub(super) fn leave(mut self) {
        if self.mark.is_some() {
            self.ours = false;
        }
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        // Others may use it by now. If the removal fails, the interface is gone, and the qdisc with it.
        if self.ours && filters(self.index).is_ok_and(|filters| filters.is_empty()) {
            let _ = delete(self.index);
        }
    }
}

/// An empty file. Without it, the qdisc goes with the process.
fn new_mark() -> Option<OwnedFd> {
    let file = memfd_create(c"kstamp-clsact", MFdFlags::MFD_CLOEXEC);
    file.inspect_err(|error| debug!("cannot mark the qdisc for the next process: {error}"))
        .ok()
}

/// Removes what a killed agent has left on `interface`, of index `index`. Returns how many filters.
pub(crate) fn clean(interface: &str, index: i32) -> usize {
    let abandoned = remove_abandoned(index).unwrap_or_else(|error| {
        debug!("cannot look at the filters of {interface}: {error}");
        0
    });
    if abandoned > 0 {
        warn!("{interface}: removed {abandoned} TC filters that a killed kstamp had left");
    }
    abandoned
}

/// Removes our filters whose programs no process holds. Returns how many there were.
fn remove_abandoned(index: i32) -> io::Result<usize> {
    let is_abandoned = |filter: &TcMessage| of_kstamp(filter).is_some_and(|program| !is_held(program));
    let abandoned: Vec<_> = filters(index)?.into_iter().filter(is_abandoned).collect();
    let number = abandoned.len();
    for filter in abandoned {
        let mut message = TcMessage::with_index(index);
        message.header = filter.header;
        request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK)?;
    }
    Ok(number)
}

/// All filters on the qdisc; none if there is no qdisc. A priority of its own is no filter.
fn filters(index: i32) -> io::Result<Vec<TcMessage>> {
    let mut found = Vec::new();
    for hook in HOOKS {
        found.extend(filters_at(index, hook)?);
    }
    Ok(found)
}

fn filters_at(index: i32, hook: TcAttachType) -> io::Result<impl Iterator<Item = TcMessage>> {
    let mut message = TcMessage::with_index(index);
    message.header.parent = parent(hook);
    let answers = request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?;
    Ok(answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewTrafficFilter(filter) if filter.header.handle != TcHandle::UNSPEC => Some(filter),
        _ => None,
    }))
}

/// The priority with which a program sees packets before the filters that are at the hook now; 0 has the kernel choose one.
pub(super) fn priority_before_others(index: u32, hook: TcAttachType) -> u16 {
    filters_at(index.cast_signed(), hook).map_or(0, |mut filters| {
        filters.next().map_or(0, |first| priority_before(&first))
    })
}

/// Before `first`, which comes before all others: at a priority of its own, or before it in the list of programs with its
/// priority.
fn priority_before(first: &TcMessage) -> u16 {
    /// The kernel chooses priorities from here on, and each before the last one that it has chosen (`tcf_auto_prio`).
    const CHOSEN: u16 = 0x8000;
    /// `ETH_P_ALL` in network order, with which all of kstamp's programs are attached.
    const ALL: u32 = (libc::ETH_P_ALL as u16).to_be() as u32;
    let is_program = first.attributes.contains(&TcAttribute::Kind("bpf".to_owned()));
    match ((first.header.info >> 16) as u16, first.header.info & 0xffff) {
        (CHOSEN.., _) => 0,
        // Only programs for the same protocol share a priority.
        (1, ALL) if is_program => 1,
        (1, _) => 0,
        (priority, _) => priority - 1,
    }
}

/// The filters at one hook, in the order in which they see packets.
pub(super) fn listed(index: u32, hook: TcAttachType) -> io::Result<Vec<Listed>> {
    Ok(filters_at(index.cast_signed(), hook)?
        .map(|filter| list(&filter))
        .collect())
}

fn list(filter: &TcMessage) -> Listed {
    let mut listed = Listed {
        id: None,
        name: "a filter".to_owned(),
    };
    for attribute in &filter.attributes {
        match attribute {
            TcAttribute::Kind(kind) => listed.name = format!("a {kind} filter"),
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => listed.id = Some(*id),
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => listed.name.clone_from(name),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    listed
}

fn parent(hook: TcAttachType) -> TcHandle {
    let minor = match hook {
        TcAttachType::Egress => TcHandle::MIN_EGRESS,
        _ => TcHandle::MIN_INGRESS,
    };
    TcHandle {
        minor,
        ..TcHandle::CLSACT
    }
}

/// The id of a filter's program, if it is one of ours.
fn of_kstamp(filter: &TcMessage) -> Option<u32> {
    let options = filter.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let is_ours = options.iter().any(
        |option| matches!(option, TcOption::Bpf(TcFilterBpfOption::ProgName(name)) if OURS.contains(&name.as_str())),
    );
    options.iter().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) if is_ours => Some(*id),
        _ => None,
    })
}

/// Whether a process has the program open, as an agent has for as long as it runs; also if another agent may not be looked
/// at.
fn is_held(program: u32) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    let name = |process: &Path| fs::read_to_string(process.join("comm")).ok();
    let own_name = name(Path::new("/proc/self"));
    processes.flatten().any(|process| {
        let process = process.path();
        match fs::read_dir(process.join("fdinfo")) {
            Ok(descriptors) => descriptors.flatten().any(|descriptor| {
                let info = fs::read_to_string(descriptor.path()).unwrap_or_default();
                let mut ids = info.lines().filter_map(|line| line.strip_prefix("prog_id:"));
                ids.any(|id| id.trim().parse() == Ok(program))
            }),
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied && name(&process) == own_name,
        }
    })
}

fn delete(index: i32) -> io::Result<()> {
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle::CLSACT;
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    request(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(name: &str) -> TcMessage {
        let mut filter = TcMessage::with_index(7);
        let options = [
            TcFilterBpfOption::ProgName(name.to_owned()),
            TcFilterBpfOption::ProgId(42),
        ];
        let options = options.into_iter().map(TcOption::Bpf).collect();
        filter.attributes.push(TcAttribute::Options(options));
        filter
    }

    #[test]
    fn our_filters_are_known_by_their_names() {
        for name in OURS {
            assert_eq!(of_kstamp(&filter(name)), Some(42));
        }
        assert_eq!(of_kstamp(&filter("cil_from_netdev")), None);
        assert_eq!(of_kstamp(&TcMessage::with_index(7)), None);
    }

    #[test]
    fn a_program_goes_before_the_filters_that_are_there() {
        let table = [
            ("chosen by the kernel", 0xc000, "bpf", 0x0300, 0),
            ("chosen by an administrator", 10, "flower", 0x0300, 9),
            ("a program", 1, "bpf", 0x0300, 1),
            ("a program of one protocol", 1, "bpf", 0x0008, 0),
            ("another filter", 1, "flower", 0x0300, 0),
        ];
        for (what, priority, kind, protocol, expected) in table {
            let mut first = filter("cil_from_netdev");
            first.header.info = priority << 16 | protocol;
            first.attributes.push(TcAttribute::Kind(kind.to_owned()));
            assert_eq!(priority_before(&first), expected, "{what}");
        }
    }

    #[test]
    fn hooks_are_below_clsact() {
        assert_eq!(u32::from(parent(TcAttachType::Ingress)), 0xffff_fff2);
        assert_eq!(u32::from(parent(TcAttachType::Egress)), 0xffff_fff3);
    }

    #[test]
    fn a_missing_program_is_held_by_no_process() {
        assert!(!is_held(u32::MAX));
    }
}
