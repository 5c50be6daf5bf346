//! The memory of peers, and the allocations between a reply and its window.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod allocations;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use probe_core::agent::Agent;
use probe_core::agent::config::{Families, ProbeConfig};
use probe_core::agent::event::{Destination, Event, Transmit};
use probe_core::observation::{Fate, Reply};
use probe_core::reflector::policy::Policy;

use crate::allocations::{ALLOCATIONS, MOST, NOW};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const FIRST: u32 = 0x0a00_0001;

/// An agent and the hosts that answer it, in virtual time.
struct Network {
    agent: Agent,
    hosts: u32,
    now_ns: u64,
    replies: VecDeque<Reply>,
    random: u64,
    windows: usize,
}

impl Network {
    fn new(hosts: u32, interval_ns: u64, group: bool) -> Self {
        let addresses = (0..hosts).map(|host| IpAddr::from(Ipv4Addr::from_bits(FIRST + host)));
        let config = ProbeConfig {
            interval_ns,
            timeout_ns: 2 * S,
            report_ns: 10 * S,
            peer_expiry_ns: 30 * S,
            count: None,
            group: Families { v4: group, v6: false },
            unicast: true,
            static_peers: addresses.collect(),
            first_ssid: 1,
            max_peers: hosts as usize,
            samples: false,
            delays: false,
        };
        let mut agent = Agent::new(config, 1);
        agent.set_policy(Policy::new(["10.0.0.0/8".parse().unwrap()]));
        Self {
            agent,
            hosts,
            now_ns: 1,
            replies: VecDeque::with_capacity(256),
            random: 1,
            windows: 0,
        }
    }

    /// Between 20 µs and 10 ms, most of them short, by SplitMix64.
    fn delay_ns(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        (20_000.0 * 500f64.powf(part * part * part)) as u64
    }

    fn answer(&mut self, host: u32, transmit: &Transmit, stateful: bool) {
        let (forward, backward) = (self.delay_ns() / 2, self.delay_ns() / 2);
        let (sent_ns, received_ns) = (self.now_ns, self.now_ns + forward + 500 + backward);
        // The host's clock is 3 s ahead of this one.
        let (t2_ns, wall) = (sent_ns + forward + 3 * S, 1_795_000_000 * S);
        self.replies.push_back(Reply {
            peer: Ipv4Addr::from_bits(host).into(),
            ssid: transmit.ssid,
            seq: transmit.seq,
            reflector_seq: transmit.seq + u32::from(stateful),
            sent_mono_ns: sent_ns,
            received_mono_ns: received_ns,
            t1_ns: wall + sent_ns,
            t2_ns: wall + t2_ns,
            t3_ns: wall + t2_ns + 500,
            t4_ns: wall + received_ns,
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        });
    }

    fn run_until(&mut self, end_ns: u64) {
        while self.now_ns < end_ns {
            while let Some(transmit) = self.agent.poll_transmit(self.now_ns) {
                match transmit.destination {
                    Destination::Group(_) => {
                        (0..self.hosts).for_each(|host| self.answer(FIRST + host, &transmit, true));
                    }
                    Destination::Peer(IpAddr::V4(peer)) => self.answer(peer.to_bits(), &transmit, true),
                    Destination::Peer(IpAddr::V6(_)) => {}
                }
            }
            while let Some(reply) = self.replies.pop_front() {
                self.agent.reply(&reply, self.now_ns + 100 * MS);
            }
            self.agent.expire(self.now_ns, &mut |_, _, _, _| Fate::Unanswered);
            while let Some(event) = self.agent.poll_event() {
                self.windows += usize::from(matches!(event, Event::Window(_)));
            }
            self.now_ns = self
                .agent
                .next_deadline()
                .map_or(end_ns, |next| next.max(self.now_ns + MS));
        }
    }
}

/// The tests count for the whole process, so they run in turn.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn a_peer_costs_what_it_holds() {
    let _turn = TURN.lock().unwrap();
    // Hosts, interval, both paths or one, and the limit in KiB for each peer after four windows.
    for (hosts, interval_ns, group, most_kib) in
        [(40, 100 * MS, true, 52), (40, 100 * MS, false, 28), (200, S, false, 12)]
    {
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let mut network = Network::new(hosts, interval_ns, group);
        network.run_until(40 * S);
        let kib = (MOST.load(Ordering::Relaxed) - before) / hosts as usize / 1024;
        println!("{hosts} peers: {kib} KiB each");
        assert!(kib <= most_kib, "{kib} KiB for each of {hosts} peers");
        assert!(network.windows >= 3 * hosts as usize);
    }
}

#[test]
fn a_probe_allocates_nothing_on_its_way_to_the_window() {
    let _turn = TURN.lock().unwrap();
    let mut network = Network::new(8, 100 * MS, false);
    network.run_until(125 * S);
    let (allocations, windows) = (ALLOCATIONS.load(Ordering::Relaxed), network.windows);
    network.run_until(129 * S);
    let in_window = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    assert_eq!(network.windows, windows);
    network.run_until(165 * S);
    let windows = network.windows - windows;
    let in_all = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    println!("{in_window} within a window, {in_all} for {windows} windows of 100 probes");
    assert_eq!(in_window, 0);
    // Each report allocates, and so does room for new bins.
    assert!(in_all <= 8 * windows, "{in_all} for {windows} windows");
}
