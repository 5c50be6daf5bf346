//! Converts probes to messages, and messages to answers.

use std::sync::Arc;

use crate::forwarding::rules::marker;
use crate::forwarding::switches::Switches;
use crate::link_delay::{Probe, ProbeAnswer, Transmit};
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::lldp::{Key, Kind, LldpProbe};
use crate::openflow::message::{Message, PacketOut};
use crate::openflow::server::Command;
use crate::topology::PortId;

/// Builds the command that sends a probe when it is due; the stamp is taken at the write.
pub(super) fn command(transmit: Transmit, due_ns: u64, key: &Arc<Key>, switches: &Switches) -> Option<Command> {
    let Transmit { seq, probe } = transmit;
    let (kind, port, out, source) = match probe {
        Probe::Echo(_) => return Some(Command::stamped_at(due_ns, move |sent_ns| echo(sent_ns, seq))),
        Probe::Baseline(dpid) => (Kind::Baseline, PortNumber::LOCAL, PortNumber::CONTROLLER, marker(dpid)),
        Probe::Lldp(port) => (Kind::Discovery, port.port, port.port, switches.mac(port)?),
        Probe::Bounce(port) => (Kind::Bounce, port.port, port.port, marker(port.dpid)),
    };
    let key = Arc::clone(key);
    let dpid = probe.dpid();
    Some(Command::stamped_at(due_ns, move |sent_ns| {
        let frame = LldpProbe {
            kind,
            dpid,
            port,
            sent_ns,
            sequence: seq,
        };
        Message::PacketOut(PacketOut::to_port(out, frame.encode(&key, source)))
    }))
}

/// 16 bytes: stamp and sequence number.
fn echo(stamp_ns: u64, seq: u64) -> Message {
    Message::EchoRequest([stamp_ns.to_be_bytes(), seq.to_be_bytes()].concat())
}

/// Reads an echo reply; `None` if it answers no probe.
pub(super) fn echo_answer(dpid: Dpid, payload: &[u8], received_ns: u64) -> Option<ProbeAnswer> {
    let (stamp, seq) = payload.split_first_chunk::<8>()?;
    Some(ProbeAnswer {
        seq: u64::from_be_bytes(*<&[u8; 8]>::try_from(seq).ok()?),
        probe: Probe::Echo(dpid),
        sent_ns: u64::from_be_bytes(*stamp),
        received_ns,
    })
}

/// Classifies one of our frames by the port that received it; `None` if it cannot arrive there.
pub(super) fn frame_answer(frame: &LldpProbe, at: PortId, received_ns: u64) -> Option<ProbeAnswer> {
    let origin = PortId {
        dpid: frame.dpid,
        port: frame.port,
    };
    let probe = match frame.kind {
        Kind::Discovery if at.port.is_ordinary() => Probe::Lldp(origin),
        Kind::Bounce if at == origin => Probe::Bounce(origin),
        Kind::Baseline if at.dpid == origin.dpid && at.port == PortNumber::CONTROLLER => Probe::Baseline(origin.dpid),
        _ => return None,
    };
    Some(ProbeAnswer {
        seq: frame.sequence,
        probe,
        sent_ns: frame.sent_ns,
        received_ns,
    })
}
