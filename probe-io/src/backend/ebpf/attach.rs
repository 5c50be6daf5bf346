//! Attaching the programs to an interface, so that whatever becomes of this process, nothing of them stays behind
//! where the kernel has links.

use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, XdpMode, loaded_programs};
use aya::util::KernelVersion;
use thiserror::Error;

use crate::backend::ebpf::clsact::Clsact;
use crate::backend::ebpf::object::{EGRESS, INGRESS, Object, ObjectError, root_cause};
use crate::backend::ebpf::plan::ReceiveMode;

/// A program could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The object lacks a program.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The kernel refused.
    #[error("cannot attach {program} to {interface}: {}", root_cause(.source))]
    Refused {
        /// What was to be attached.
        program: String,
        /// Where.
        interface: String,
        /// Why not.
        source: Box<ProgramError>,
    },
}

/// Programs on an interface. They are detached when this is dropped.
pub struct Attachment {
    /// Where the receive program runs.
    pub mode: ReceiveMode,
    _receive: Receive,
}

/// The links, kept for what dropping them does.
struct Receive {
    _xdp: Option<XdpLink>,
    _ingress: Option<Classifier>,
}

/// The egress program on an interface. It is detached when this is dropped.
pub struct Egress {
    _link: Classifier,
}

/// A TC program on an interface, and what it hangs on: dropped in this order.
pub(crate) struct Classifier {
    _link: SchedClassifierLink,
    _qdisc: Option<Clsact>,
}

/// Attaches the receive program to `interface`, of index `index`.
pub fn receive(object: &mut Object, interface: &str, index: u32, mode: ReceiveMode) -> Result<Attachment, AttachError> {
    let xdp_mode = match mode {
        ReceiveMode::XdpNative => Some(XdpMode::Driver),
        ReceiveMode::XdpGeneric => Some(XdpMode::Skb),
        ReceiveMode::Tc => None,
    };
    let xdp = match xdp_mode {
        Some(flag) => {
            let program = object.xdp()?;
            let link = program
                .attach_to_if_index(index, flag)
                .and_then(|id| program.take_link(id));
            Some(link.map_err(refusal(interface, format!("the receive program ({mode})")))?)
        }
        None => None,
    };
    // Generic XDP is not shown packets that a TC program on this host has redirected, such as the replies of an agent
    // that receives by TC (`skb_is_redirected` in `net/core/dev.c`). They are for the program at TC ingress.
    let ingress = if mode == ReceiveMode::XdpNative {
        None
    } else {
        let program = object.classifier(INGRESS)?;
        let link = classifier(program, interface, index, TcAttachType::Ingress, LinkOrder::first());
        Some(link.map_err(refusal(interface, "the receive program (tc)".to_owned()))?)
    };
    Ok(Attachment {
        mode,
        _receive: Receive {
            _xdp: xdp,
            _ingress: ingress,
        },
    })
}

/// Attaches the egress program to `interface`, before all others: a program that ends the chain (`TCX_PASS`) would keep
/// one behind it from ever stamping.
pub fn egress(object: &mut Object, interface: &str, index: u32) -> Result<Egress, AttachError> {
    let program = object.classifier(EGRESS)?;
    let link = classifier(program, interface, index, TcAttachType::Egress, LinkOrder::first())
        .map_err(refusal(interface, "the egress program (tc)".to_owned()))?;
    Ok(Egress { _link: link })
}

fn refusal(interface: &str, program: String) -> impl FnOnce(ProgramError) -> AttachError {
    let interface = interface.to_owned();
    |source| AttachError::Refused {
        program,
        interface,
        source: Box::new(source),
    }
}

/// By TCX from kernel 6.6 on, at the place of `order`; before, by a filter on the clsact qdisc, which the kernel puts
/// before those that are there.
pub(crate) fn classifier(
    program: &mut SchedClassifier,
    interface: &str,
    index: u32,
    direction: TcAttachType,
    order: LinkOrder,
) -> Result<Classifier, ProgramError> {
    let (qdisc, options) = if has_tcx() {
        (None, TcAttachOptions::TcxOrder(order))
    } else {
        let qdisc = Clsact::ensure(interface, index)?;
        (Some(qdisc), TcAttachOptions::Netlink(NlOptions::default()))
    };
    let id = program.attach_with_options(interface, direction, options)?;
    Ok(Classifier {
        _link: program.take_link(id)?,
        _qdisc: qdisc,
    })
}

/// From kernel 6.6 on.
fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// The XDP program of id `program_id` in words.
pub fn describe_program(program_id: u32) -> String {
    let program = loaded_programs().flatten().find(|program| program.id() == program_id);
    match program.as_ref().and_then(|program| program.name_as_str()) {
        Some(name) if !name.is_empty() => format!("the XDP program {name} (id {program_id})"),
        _ => format!("an XDP program (id {program_id})"),
    }
}
