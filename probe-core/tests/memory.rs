//! The memory of an agent is bounded, whatever its neighbours send.

#[allow(dead_code, reason = "another test counts allocations")]
mod allocations;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;

use probe_core::agent::Agent;
use probe_core::agent::config::{Families, MAX_PEERS, ProbeConfig};
use probe_core::agent::event::{Destination, Event, Found, Transmit};
use probe_core::observation::{Fate, Reply};
use probe_core::reflector::policy::Policy;

use crate::allocations::{MOST, NOW};

const MS: u64 = 1_000_000;
const INTERVAL: u64 = 500 * MS;
const TIMEOUT: u64 = 2_000 * MS;
/// Less than an agent's, so that more peers come and go.
const SILENCE: u64 = INTERVAL + TIMEOUT;
const MIB: usize = 1 << 20;

fn config() -> ProbeConfig {
    ProbeConfig {
        interval_ns: INTERVAL,
        timeout_ns: TIMEOUT,
        report_ns: 10_000 * MS,
        peer_expiry_ns: SILENCE,
        count: None,
        group: Families { v4: true, v6: false },
        unicast: true,
        static_peers: Vec::new(),
        first_ssid: 1,
        max_peers: MAX_PEERS,
        samples: false,
        delays: false,
    }
}

/// A reply whose stamps are as far off as its source says.
fn reply(source: u32, transmit: &Transmit, sent_ns: u64) -> Reply {
    let absurd = u64::from(source).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Reply {
        peer: Ipv4Addr::from_bits(source).into(),
        ssid: transmit.ssid,
        seq: transmit.seq,
        reflector_seq: source,
        sent_mono_ns: sent_ns,
        received_mono_ns: sent_ns + MS,
        t1_ns: sent_ns,
        t2_ns: absurd,
        t3_ns: absurd.wrapping_add(1_000),
        t4_ns: sent_ns + MS,
        reflector_error_ns: Some(u64::MAX),
        own_error_ns: Some(0),
        wrong_z: false,
        clock_set: false,
    }
}

/// Runs until `end_ns`. `sources` answer the group probe of a number. Returns the peers that were found.
fn run(agent: &mut Agent, now_ns: &mut u64, end_ns: u64, sources: impl Fn(u32) -> Vec<u32>) -> Vec<IpAddr> {
    let mut peers = Vec::new();
    while *now_ns < end_ns {
        while let Some(transmit) = agent.poll_transmit(*now_ns) {
            if let Destination::Group(_) = transmit.destination {
                for source in sources(transmit.seq) {
                    agent.reply(&reply(source, &transmit, *now_ns), *now_ns + MS);
                }
            }
        }
        agent.expire(*now_ns, &mut |_, _, _, _| Fate::Unanswered);
        while let Some(event) = agent.poll_event() {
            if let Event::PeerUp {
                peer,
                found: Found::Multicast,
            } = event
            {
                peers.push(peer);
            }
        }
        *now_ns = agent.next_deadline().map_or(end_ns, |next| next.max(*now_ns + 50 * MS));
    }
    peers
}

#[test]
fn a_hundred_thousand_forged_answers_take_little_and_a_peer_is_found_afterwards() {
    let before = NOW.load(Ordering::Relaxed);
    let mut now_ns = 1;
    let mut agent = Agent::new(config(), now_ns);
    agent.set_policy(Policy::new(["10.0.0.0/8".parse().unwrap()]));
    // Every ten probes, when the last ones are down, 10,000 new addresses answer two probes.
    let forged = |seq: u32| match seq % 10 {
        0 | 1 => (0..10_000).map(|host| 0x0a00_0001 + seq / 10 * 10_000 + host).collect(),
        _ => Vec::new(),
    };
    let peers = run(&mut agent, &mut now_ns, 100 * INTERVAL, forged);
    let most = MOST.load(Ordering::Relaxed) - before;
    println!(
        "{} peers found, {} evicted, {} KiB",
        peers.len(),
        agent.evicted(),
        most / 1024
    );
    assert!(peers.len() > 5_000, "{}", peers.len());
    assert!(most < 64 * MIB, "{} MiB", most / MIB);

    let real = 0x0a7f_0001;
    let found = run(&mut agent, &mut now_ns, 120 * INTERVAL, |_| vec![real]);
    assert_eq!(found, [IpAddr::from(Ipv4Addr::from_bits(real))]);
    let summaries = agent.finish(now_ns).len();
    assert!(
        summaries <= 2 * MAX_PEERS + 1024,
        "of the peers and of the last that were evicted: {summaries}"
    );
}
