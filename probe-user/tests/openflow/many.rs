//! A hundred simultaneous switches.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use probe_controller::openflow::lldp::{Key, Kind, LldpProbe};
use probe_controller::openflow::message::{Message, PacketOut};
use probe_controller::openflow::server::{Command, EventKind, Limits};

use crate::harness::Subject;
use crate::sim::{Network, Topology};

/// The goal of the whole controller, here for the server alone.
const WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_hundred_switches_of_eight_ports_are_served_and_their_links_seen() {
    let topology = Topology::ring(100, 8);
    let expected: HashSet<_> = topology.links.iter().map(|(&from, &to)| (from, to)).collect();
    assert_eq!(expected.len(), 800);
    let mut subject = Subject::new(Limits::default());
    let network = Network::start(subject.server.address(), topology);
    let (key, switches) = (Key::random().unwrap(), subject.server.switches().clone());
    let (mut dpids, mut found) = (std::collections::HashMap::new(), HashSet::new());
    let begin = Instant::now();
    // Send all frames after all switches are ready: a frame to an unready switch would be lost.
    let mut sent = false;
    while found.len() < expected.len() {
        assert!(
            begin.elapsed() < WITHIN,
            "{} of {} links found",
            found.len(),
            expected.len()
        );
        if dpids.len() == 100 && !sent {
            sent = true;
            for (&connection, (dpid, ports)) in &dpids {
                for port in ports {
                    let command = discovery(&key, *dpid, port);
                    switches.command(connection, command).unwrap();
                }
            }
        }
        let Some(event) = subject.event_within(Duration::from_millis(100)) else {
            continue;
        };
        match event.kind {
            EventKind::Connected { features, ports, .. } => {
                dpids.insert(event.connection, (features.dpid, ports));
            }
            EventKind::PacketIn(packet) => {
                let probe = LldpProbe::decode(&key, &packet.frame).unwrap();
                assert!(probe.sent_ns <= event.at_ns);
                found.insert(((probe.dpid, probe.port), (dpids[&event.connection].0, packet.in_port)));
            }
            EventKind::Error(error) => panic!("{error:?}"),
            EventKind::Gone { reason, .. } | EventKind::Refused { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    assert_eq!(found, expected);
    assert_eq!(network.done().ended.load(Ordering::Relaxed), 0);
    assert_eq!(network.done().packet_outs.load(Ordering::Relaxed), 800);
}

fn discovery(
    key: &Key,
    dpid: probe_controller::openflow::id::Dpid,
    port: &probe_controller::openflow::port::Port,
) -> Command {
    let (key, number, mac) = (key.clone(), port.number, port.mac);
    Command::stamped(move |sent_ns| {
        let probe = LldpProbe {
            kind: Kind::Discovery,
            dpid,
            port: number,
            sent_ns,
            sequence: 0,
        };
        Message::PacketOut(PacketOut::to_port(number, probe.encode(&key, mac)))
    })
}
