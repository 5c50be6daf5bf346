//! The agent's rules, driven by a model of hosts that answer.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::agent::config::Families;
use crate::agent::event::DownReason;
use crate::observation::{Fate, Reply};
use crate::reflector::policy::OwnAddress;
use crate::session::Outcome;
use crate::stats::report::Counts;

mod clocks;
mod held;
mod lifecycle;
mod matching;
mod reconfigured;

const MS: u64 = 1_000_000;
const INTERVAL: u64 = 10 * MS;
const TIMEOUT: u64 = 100 * MS;
const SILENCE: u64 = 500 * MS;
const REPORT: u64 = 1_000 * MS;
const START: u64 = 7_777 * MS;
const TRIP: u64 = 2 * MS;

fn config() -> ProbeConfig {
    ProbeConfig {
        interval_ns: INTERVAL,
        timeout_ns: TIMEOUT,
        report_ns: REPORT,
        peer_expiry_ns: SILENCE,
        count: None,
        group: Families { v4: true, v6: false },
        unicast: true,
        static_peers: Vec::new(),
        first_ssid: 100,
        max_peers: 16,
        samples: false,
        delays: false,
    }
}

fn host(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
}

fn host6(number: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number))
}

/// An agent that may find [`host`]s and [`host6`]s.
fn agent(config: ProbeConfig) -> Agent {
    let mut agent = Agent::new(config, START);
    let prefixes = ["192.0.2.0/24", "fe80::/64"];
    let own = OwnAddress {
        ip: own(),
        prefix: own().into(),
        deprecated: false,
    };
    agent.set_policy(Policy::of_interface(
        &[own],
        prefixes.map(|prefix| prefix.parse().unwrap()),
    ));
    agent
}

/// This host.
fn own() -> IpAddr {
    host(200)
}

fn reply(peer: IpAddr, transmit: &Transmit, sent_ns: u64) -> Reply {
    Reply {
        peer,
        ssid: transmit.ssid,
        seq: transmit.seq,
        reflector_seq: transmit.seq,
        sent_mono_ns: sent_ns,
        received_mono_ns: sent_ns + TRIP,
        t1_ns: sent_ns,
        t2_ns: sent_ns + MS / 2,
        t3_ns: sent_ns + MS,
        t4_ns: sent_ns + TRIP,
        reflector_error_ns: None,
        own_error_ns: None,
        wrong_z: false,
        clock_set: false,
    }
}

/// An agent, the hosts that answer it, and a clock that jumps from deadline to deadline.
struct World {
    agent: Agent,
    hosts: Vec<IpAddr>,
    now: u64,
    /// Replies under way, by the time they are received.
    replies: VecDeque<Reply>,
    sent: Vec<(u64, Transmit)>,
    events: Vec<Event>,
    windows: Vec<Report>,
    /// Changes each reply before it is received.
    change: fn(Reply) -> Reply,
}

impl World {
    fn new(config: ProbeConfig, hosts: &[IpAddr]) -> Self {
        Self {
            agent: agent(config),
            hosts: hosts.to_vec(),
            now: START,
            replies: VecDeque::new(),
            sent: Vec::new(),
            events: Vec::new(),
            windows: Vec::new(),
            change: |reply| reply,
        }
    }

    fn run(&mut self, duration_ns: u64) {
        let end = self.now + duration_ns;
        while let Some(next) = self.next().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn next(&self) -> Option<u64> {
        let reply = self.replies.front().map(|reply| reply.received_mono_ns);
        self.agent.next_deadline().into_iter().chain(reply).min()
    }

    fn step(&mut self) {
        let received = |reply: &mut Reply| reply.received_mono_ns <= self.now;
        while let Some(reply) = self.replies.pop_front_if(received) {
            self.agent.reply(&reply, self.now);
        }
        while let Some(transmit) = self.agent.poll_transmit(self.now) {
            self.sent.push((self.now, transmit));
            let answers = self.hosts.iter().filter(|&&host| match transmit.destination {
                Destination::Group(family) => Family::of(host) == family,
                Destination::Peer(peer) => host == peer,
            });
            self.replies
                .extend(answers.map(|&host| (self.change)(reply(host, &transmit, self.now))));
        }
        self.agent.expire(self.now, &mut |_, _, _, _| Fate::Unanswered);
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Window(report) => {
                    let Counts {
                        sent,
                        received,
                        lost,
                        pending,
                        ..
                    } = report.counts;
                    assert_eq!(sent, received + lost + pending);
                    self.windows.push(*report);
                }
                event => self.events.push(event),
            }
        }
    }

    fn finish(&mut self) -> Vec<Report> {
        let summaries = self.agent.finish(self.now);
        self.take_events();
        for summary in &summaries {
            let Counts {
                sent,
                received,
                lost,
                pending,
                ..
            } = summary.counts;
            assert_eq!(sent, received + lost + pending);
            let mut windows = Counts::default();
            let of_it = |window: &&Report| (window.peer, window.path) == (summary.peer, summary.path);
            self.windows
                .iter()
                .filter(of_it)
                .for_each(|window| windows += window.counts);
            assert_eq!(windows, summary.counts);
        }
        summaries
    }

    fn sent_to(&self, destination: Destination) -> usize {
        self.sent
            .iter()
            .filter(|(_, transmit)| transmit.destination == destination)
            .count()
    }
}

fn up(peer: IpAddr) -> Event {
    Event::PeerUp {
        peer,
        found: Found::Multicast,
    }
}

fn down(peer: IpAddr) -> Event {
    Event::PeerDown {
        peer,
        found: Found::Multicast,
        reason: DownReason::Silent,
    }
}
