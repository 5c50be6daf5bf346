//! Attaches programs to an interface. With links, the kernel detaches them even if the process is killed.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::{ProgramError, ProgramFd, SchedClassifier, TcAttachType, loaded_programs};
use aya::sys::SyscallError;
use log::warn;
use probe_core::attach::AttachMode;
use probe_host::link::Link;

use crate::backend::ebpf::bpf_link::BpfLink;
use crate::backend::ebpf::clsact::{self, Abandoned, Clsact};
use crate::backend::ebpf::handover::Handover;
use crate::backend::ebpf::hooks;
use crate::backend::ebpf::object::{EGRESS, INGRESS, Object};
use crate::backend::error::AttachError;

/// The receive program on an interface. It is detached when this is dropped.
pub(crate) struct ReceiveLinks {
    mode: AttachMode,
    /// With the id of the program.
    xdp: Option<(BpfLink, u32)>,
    ingress: Option<Classifier>,
}

impl ReceiveLinks {
    /// Whether the programs are still there.
    pub(super) fn is_attached(&self, link: &Link) -> bool {
        let has_xdp = self.xdp.as_ref().is_none_or(|(_, id)| link.xdp_ids.contains(id));
        has_xdp
            && self
                .ingress
                .as_ref()
                .is_none_or(|ingress| ingress.is_attached(link.index))
    }

    pub(super) fn ingress(&self) -> Option<&Classifier> {
        self.ingress.as_ref()
    }

    /// The links, by the mode in which their programs receive.
    pub(super) fn links(&self) -> impl Iterator<Item = (AttachMode, &BpfLink)> {
        let xdp = self.xdp.iter().map(|(link, _)| (self.mode, link));
        let ingress = self.ingress.iter().filter_map(|ingress| match &ingress.link {
            ClassifierLink::Tcx(link) => Some((AttachMode::Tc, link)),
            ClassifierLink::Other(_) => None,
        });
        xdp.chain(ingress)
    }

    /// Leaves programs attached whose links another process has open.
    pub(super) fn leave(self) {
        if let Some((link, _)) = self.xdp {
            link.leave();
        }
        if let Some(ingress) = self.ingress {
            ingress.leave();
        }
    }
}

enum ClassifierLink {
    Tcx(BpfLink),
    /// Of a program that is not handed over, or a filter.
    Other(SchedClassifierLink),
}

/// A TC program on an interface, with its qdisc: dropped in this order.
pub(crate) struct Classifier {
    link: ClassifierLink,
    qdisc: Option<Clsact>,
    hook: TcAttachType,
    /// Of the program.
    id: u32,
}

impl Classifier {
    /// Whether the program is still there; `true` if the kernel does not say.
    pub(crate) fn is_attached(&self, index: u32) -> bool {
        let programs = hooks::programs(index, self.hook);
        programs.map_or(true, |programs| {
            programs.iter().any(|program| program.id == Some(self.id))
        })
    }

    /// The foreign programs that see packets before it.
    pub(super) fn preceding(&self, index: u32) -> Vec<String> {
        let programs = hooks::programs(index, self.hook).unwrap_or_default();
        let foreign = programs.into_iter().take_while(|program| program.id != Some(self.id));
        foreign.map(|program| program.name).collect()
    }

    /// Tells the next process that the qdisc is ours; `None` if it is not, or could not be marked.
    pub(super) fn qdisc_mark(&self) -> Option<BorrowedFd<'_>> {
        self.qdisc.as_ref().and_then(Clsact::mark)
    }

    /// Marks the qdisc for the next process, with the mark of the process before if that has left one.
    fn mark_qdisc(mut self, former: &mut Handover) -> Self {
        if let Some(qdisc) = &mut self.qdisc {
            qdisc.set_mark(former.qdisc.take());
        }
        self
    }

    /// Leaves the program attached if another process has its link open, and the qdisc to the next process.
    pub(super) fn leave(self) {
        match self.link {
            ClassifierLink::Tcx(link) => link.leave(),
            ClassifierLink::Other(link) => drop(link),
        }
        if let Some(qdisc) = self.qdisc {
            qdisc.leave();
        }
    }
}

/// Attaches the receive program in `mode`, in the place of what a process before had attached.
pub(crate) fn receive(
    object: &mut Object,
    link: &Link,
    mode: AttachMode,
    former: &mut Handover,
) -> Result<ReceiveLinks, AttachError> {
    let is_xdp = matches!(mode, AttachMode::XdpNative | AttachMode::XdpGeneric);
    let xdp = if is_xdp {
        let program = object.xdp()?;
        let id = program.info().map(|info| info.id());
        let attached = id.and_then(|id| Ok((receive_by(program.fd()?, link, mode, former)?, id)));
        Some(attached.map_err(refusal(link, format!("the receive program ({mode})")))?)
    } else {
        None
    };
    // Generic XDP is not shown packets that a TC program on this host has redirected, such as the replies of an agent
    // that receives by TC (`skb_is_redirected` in `net/core/dev.c`). They are for the program at TC ingress.
    let ingress = if mode == AttachMode::XdpNative {
        None
    } else {
        let program = object.classifier(INGRESS)?;
        let attached = match hooks::has_tcx() {
            true => ingress_by_tcx(program, link, former),
            false => {
                classifier_before_others(program, link, TcAttachType::Ingress).map(|ingress| ingress.mark_qdisc(former))
            }
        };
        Some(attached.map_err(refusal(link, "the receive program (tc)".to_owned()))?)
    };
    former.end(link.index);
    Ok(ReceiveLinks { mode, xdp, ingress })
}

fn ingress_by_tcx(program: &SchedClassifier, link: &Link, former: &mut Handover) -> Result<Classifier, ProgramError> {
    let tcx = receive_by(program.fd()?, link, AttachMode::Tc, former)?;
    Ok(Classifier {
        link: ClassifierLink::Tcx(tcx),
        qdisc: None,
        hook: TcAttachType::Ingress,
        id: program.info()?.id(),
    })
}

/// Exchanges the program of the link that a process before had in `mode`, or creates a link.
fn receive_by(
    program: &ProgramFd,
    link: &Link,
    mode: AttachMode,
    former: &mut Handover,
) -> Result<BpfLink, ProgramError> {
    if let Some(mut kept) = former.take(mode) {
        match kept.update(program.as_fd()) {
            Ok(()) => return Ok(kept),
            Err(error) => warn!(
                "{}: cannot exchange the program ({mode}): {error}; attaching anew",
                link.name
            ),
        }
        kept.detach();
    }
    if mode != AttachMode::Tc {
        // One XDP program fits an interface: that of another mode goes first.
        former.detach();
    }
    let created = BpfLink::create(program.as_fd(), link.index, mode);
    created.map_err(|io_error| {
        let call = "bpf_link_create";
        SyscallError { call, io_error }.into()
    })
}

/// Attaches the egress program to `link`, before all others: a program that ends the chain (`TCX_PASS`) would prevent
/// the stamping of later ones.
pub(crate) fn egress(object: &mut Object, link: &Link, former: &mut Handover) -> Result<Classifier, AttachError> {
    let program = object.classifier(EGRESS)?;
    let attached = classifier_before_others(program, link, TcAttachType::Egress)
        .map_err(refusal(link, "the egress program (tc)".to_owned()))?;
    Ok(attached.mark_qdisc(former))
}

fn refusal(link: &Link, program: String) -> impl FnOnce(ProgramError) -> AttachError {
    let interface = link.name.clone();
    |source| AttachError::Refused {
        program,
        interface,
        source: Box::new(source),
    }
}

pub(crate) fn classifier_before_others(
    program: &mut SchedClassifier,
    link: &Link,
    direction: TcAttachType,
) -> Result<Classifier, ProgramError> {
    let (place, abandoned) = (Place::BeforeOthers, Abandoned::Remove);
    classifier(program, &link.name, link.index, direction, place, abandoned)
}

/// When a program sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    BeforeOthers,
    AfterOthers,
}

/// Uses TCX from kernel 6.6 on. On older kernels uses a filter on the clsact qdisc, which cannot be placed after others.
pub(crate) fn classifier(
    program: &mut SchedClassifier,
    interface: &str,
    index: u32,
    direction: TcAttachType,
    place: Place,
    abandoned: Abandoned,
) -> Result<Classifier, ProgramError> {
    let (qdisc, options) = if hooks::has_tcx() {
        let order = match place {
            Place::BeforeOthers => LinkOrder::first(),
            Place::AfterOthers => LinkOrder::last(),
        };
        (None, TcAttachOptions::TcxOrder(order))
    } else {
        let qdisc = Clsact::ensure(interface, index, abandoned)?;
        let priority = match place {
            Place::BeforeOthers => clsact::priority_before_others(index, direction),
            Place::AfterOthers => 0,
        };
        let options = NlOptions {
            priority,
            ..NlOptions::default()
        };
        (Some(qdisc), TcAttachOptions::Netlink(options))
    };
    let id = program.attach_with_options(interface, direction, options)?;
    Ok(Classifier {
        link: ClassifierLink::Other(program.take_link(id)?),
        qdisc,
        hook: direction,
        id: program.info()?.id(),
    })
}

/// The XDP program of id `program_id` in words.
pub(crate) fn describe_program(program_id: u32) -> String {
    let program = loaded_programs().flatten().find(|program| program.id() == program_id);
    match program.as_ref().and_then(|program| program.name_as_str()) {
        Some(name) if !name.is_empty() => format!("the XDP program {name} (id {program_id})"),
        _ => format!("an XDP program (id {program_id})"),
    }
}
