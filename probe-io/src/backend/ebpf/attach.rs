//! Attaches programs to an interface. With links, the kernel detaches them even if the process is killed.

use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, XdpMode, loaded_programs};
use probe_core::attach::AttachMode;
use probe_host::link::Link;

use crate::backend::ebpf::clsact::Clsact;
use crate::backend::ebpf::hooks;
use crate::backend::ebpf::object::{EGRESS, INGRESS, Object};
use crate::backend::error::AttachError;

/// The receive program on an interface. It is detached when this is dropped.
pub(crate) struct ReceiveLinks {
    /// With the id of the program.
    xdp: Option<(XdpLink, u32)>,
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
}

/// A TC program on an interface, with its qdisc: dropped in this order.
pub(crate) struct Classifier {
    _link: SchedClassifierLink,
    _qdisc: Option<Clsact>,
    hook: TcAttachType,
    /// Of the program.
    id: u32,
}

impl Classifier {
    /// Whether the program is still there; `true` if the kernel does not say.
    pub(super) fn is_attached(&self, index: u32) -> bool {
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
}

pub(crate) fn receive(object: &mut Object, link: &Link, mode: AttachMode) -> Result<ReceiveLinks, AttachError> {
    let xdp_mode = match mode {
        AttachMode::XdpNative => Some(XdpMode::Driver),
        AttachMode::XdpGeneric => Some(XdpMode::Skb),
        AttachMode::Tc | AttachMode::Socket => None,
    };
    let xdp = match xdp_mode {
        Some(flag) => {
            let program = object.xdp()?;
            let attached = program.attach_to_if_index(link.index, flag).and_then(|id| {
                let link = program.take_link(id)?;
                Ok((link, program.info()?.id()))
            });
            Some(attached.map_err(refusal(link, format!("the receive program ({mode})")))?)
        }
        None => None,
    };
    // Generic XDP is not shown packets that a TC program on this host has redirected, such as the replies of an agent
    // that receives by TC (`skb_is_redirected` in `net/core/dev.c`). They are for the program at TC ingress.
    let ingress = if mode == AttachMode::XdpNative {
        None
    } else {
        let program = object.classifier(INGRESS)?;
        let attached = classifier_before_others(program, link, TcAttachType::Ingress);
        Some(attached.map_err(refusal(link, "the receive program (tc)".to_owned()))?)
    };
    Ok(ReceiveLinks { xdp, ingress })
}

/// Attaches the egress program to `link`, before all others: a program that ends the chain (`TCX_PASS`) would prevent
/// the stamping of later ones.
pub(crate) fn egress(object: &mut Object, link: &Link) -> Result<Classifier, AttachError> {
    let program = object.classifier(EGRESS)?;
    classifier_before_others(program, link, TcAttachType::Egress)
        .map_err(refusal(link, "the egress program (tc)".to_owned()))
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
    classifier(program, &link.name, link.index, direction, LinkOrder::first())
}

/// Uses TCX from kernel 6.6 on, at the place of `order`. On older kernels uses a filter on the clsact qdisc, which the
/// kernel places before existing ones.
pub(crate) fn classifier(
    program: &mut SchedClassifier,
    interface: &str,
    index: u32,
    direction: TcAttachType,
    order: LinkOrder,
) -> Result<Classifier, ProgramError> {
    let (qdisc, options) = if hooks::has_tcx() {
        (None, TcAttachOptions::TcxOrder(order))
    } else {
        let qdisc = Clsact::ensure(interface, index)?;
        (Some(qdisc), TcAttachOptions::Netlink(NlOptions::default()))
    };
    let id = program.attach_with_options(interface, direction, options)?;
    Ok(Classifier {
        _link: program.take_link(id)?,
        _qdisc: qdisc,
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
