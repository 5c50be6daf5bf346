//! Replies on their way from the ring buffer to the window.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[allow(dead_code, reason = "another test looks at peaks of memory")]
#[path = "../../probe-core/tests/allocations/mod.rs"]
mod allocations;
#[allow(dead_code, reason = "the tests of volleys use the rest")]
#[path = "volley_programs/line.rs"]
mod line;

use std::sync::atomic::Ordering;
use std::time::Duration;

use probe_core::agent::Agent;
use probe_core::agent::config::{Families, ProbeConfig};
use probe_core::attach::AttachMode;
use probe_core::engine::Engine;
use probe_core::observation::Reply;
use probe_core::reflector::policy::Rates;
use probe_core::rings::Rings;
use probe_host::clock::monotonic_ns;
use probe_io::port::{Answering, Choice, Outgoing, Port, PortConfig};

use crate::allocations::ALLOCATIONS;
use crate::line::{FAR_V4, Line, PORT};

const MS: u64 = 1_000_000;

/// Replies in which queues and distributions get their memory, and those that are measured. A session remembers 512 arrivals to
/// recognise reordering.
const FIRST: u64 = 600;
const MEASURED: u64 = 200;

async fn open() -> Port {
    let config = PortConfig {
        interface: "port1".to_owned(),
        test_port: PORT,
        other_ports: Vec::new(),
        other_ports_are_optional: false,
        groups: vec!["239.255.255.250".parse().unwrap()],
        late: Vec::new(),
        choice: Choice::Only(AttachMode::XdpGeneric),
        probing: true,
        rings: Rings::ONE,
        log_level: 0,
        cold: false,
        answering: Answering {
            allow: Vec::new(),
            rates: Rates {
                port: 0,
                source: 0,
                group: 0,
            },
        },
    };
    Port::open(config, Engine::Ebpf, None).await.unwrap()
}

fn agent() -> Agent {
    let config = ProbeConfig {
        interval_ns: MS,
        timeout_ns: 2_000 * MS,
        report_ns: 0,
        peer_expiry_ns: 30_000 * MS,
        count: Some(FIRST + MEASURED),
        group: Families { v4: false, v6: false },
        unicast: true,
        static_peers: vec![FAR_V4.parse().unwrap()],
        first_ssid: 1,
        max_peers: 1,
        samples: false,
        delays: false,
    };
    let mut agent = Agent::new(config, monotonic_ns());
    agent.set_same_clock(FAR_V4.parse().unwrap(), true);
    agent
}

/// The reply with other delays: always the same ones, so that no distribution needs another bin.
fn with_known_delays(reply: &Reply) -> Reply {
    Reply {
        received_mono_ns: reply.sent_mono_ns + 100_000,
        t2_ns: reply.t1_ns + 40_000,
        t3_ns: reply.t1_ns + 60_000,
        t4_ns: reply.t1_ns + 100_000,
        ..*reply
    }
}

#[test]
fn a_reply_comes_from_the_ring_buffer_to_its_window_without_an_allocation() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpGeneric);
    line.near(async || {
        let (mut port, mut agent) = (open().await, agent());
        let (mut taken, mut allocations) = (0, 0);
        let latest_ns = monotonic_ns() + 10_000 * MS;
        while taken < FIRST + MEASURED {
            let now_ns = monotonic_ns();
            assert!(now_ns < latest_ns, "{taken} replies");
            let due = std::iter::from_fn(|| agent.poll_transmit(now_ns));
            let to = FAR_V4.parse().unwrap();
            let outgoing: Vec<_> = due.map(|transmit| Outgoing { transmit, to }).collect();
            port.send(&outgoing, |_, why| panic!("{why:?}"));
            // The next probe is due after a millisecond.
            let _ = tokio::time::timeout(Duration::from_millis(1), port.ready()).await;
            let (before, taken_before) = (ALLOCATIONS.load(Ordering::Relaxed), taken);
            let more = port.drain(|reply| {
                agent.reply(&with_known_delays(reply), reply.received_mono_ns);
                taken += 1;
            });
            assert_eq!(more, None);
            if taken_before >= FIRST {
                allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
            }
        }
        let summary = agent.finish(monotonic_ns()).remove(0);
        assert_eq!(
            (summary.counts.received, summary.counts.duplicates),
            (FIRST + MEASURED, 0)
        );
        assert_eq!(summary.rtt_ns.unwrap().count, FIRST + MEASURED);
        assert_eq!(allocations, 0);
    });
}
