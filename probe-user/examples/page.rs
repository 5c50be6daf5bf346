//! The page of an agent with made-up peers: `cargo run -p probe-user --example page -- 127.0.0.1:9862 100`.
//!
//! It begins with an hour of windows of ten seconds, and goes on with one each second.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use probe_common::family::Family;
use probe_core::agent::event::Found;
use probe_core::attach::AttachMode;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::{ClockSteps, Counts, Delays, OneWayClock, Path, Patterns};
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_io::port::Engine;
use probe_user::command::agent::site::{AgentSite, Update};
use probe_user::output::metrics::{Detail, Metrics};
use probe_user::output::model::{
    Attach, Clock, Downtime, Event, Method, PeerChange, PeerEvent, Results, Start, Windows,
};
use probe_user::output::time::Utc;
use probe_user::serve::{Feed, ServeConfig, Server};

const S: u64 = 1_000_000_000;
const WINDOW_NS: u64 = 10 * S;
const HOUR: u64 = 360;
const ATTACH: Attach = Attach {
    egress: Some(AttachMode::Tc),
    receive: AttachMode::XdpNative,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().context("an address and a port")?.parse()?;
    let peers: u32 = arguments.next().context("a number of peers")?.parse()?;
    let config = ServeConfig {
        flag: "--listen",
        listen,
        web_config: None,
    };
    let metrics = Arc::new(Mutex::new(Metrics::new(Detail::Peer, None)));
    let site = AgentSite::new("made-up", metrics, S);
    let server = Server::listen(&config)?;
    let feed = server.start(site)?;
    let begin_ns = realtime_ns() - HOUR * WINDOW_NS;
    send(&feed, Event::Start(start(begin_ns)));
    for peer in 0..peers {
        send(&feed, Event::Peer(up(peer, begin_ns)));
    }
    for number in 0..HOUR {
        send(&feed, windows(peers, begin_ns + number * WINDOW_NS, WINDOW_NS));
    }
    println!("{listen}");
    loop {
        feed.beat(monotonic_ns());
        thread::sleep(Duration::from_secs(1));
        send(&feed, windows(peers, realtime_ns() - S, S));
    }
}

fn send(feed: &Feed<Update>, event: Event) {
    feed.send(Update::Event(Box::new(event)));
}

fn address(peer: u32) -> std::net::IpAddr {
    Ipv4Addr::from(0x0a00_0002 + peer).into()
}

fn name(peer: u32) -> String {
    format!("host-{peer:03}:eth0")
}

fn windows(peers: u32, start_ns: u64, lasts_ns: u64) -> Event {
    Event::Windows(Windows {
        time: Utc {
            unix_ns: start_ns + lasts_ns,
        },
        results: (0..peers).map(|peer| window(peer, start_ns, lasts_ns)).collect(),
    })
}

/// Twenty probes. The tenth peer loses some, and all are slower at times.
fn window(peer: u32, start_ns: u64, lasts_ns: u64) -> Results {
    let time = start_ns / S / 10;
    let lost = u64::from(peer % 10 == 9 && time.is_multiple_of(7));
    let base = 100_000 + 20_000 * i64::from(peer % 8) + if time % 60 < 6 { 80_000 } else { 0 };
    let (mut rtt, mut forward, mut backward) = Default::default();
    for probe in 0..20 - lost.cast_signed() {
        let ns = base + probe * probe * 900 + (time.cast_signed() * 7_919 + probe * 104_729) % 15_000;
        let add = |distribution: &mut Distribution, ns| distribution.record(ns);
        add(&mut rtt, ns);
        add(&mut forward, ns * 6 / 10);
        add(&mut backward, ns * 4 / 10);
    }
    Results {
        peer: address(peer),
        peer_name: Some(name(peer)),
        moved_from: None,
        family: Family::V4,
        path: Path::Unicast,
        method: Method::Stamp,
        engine: Engine::Ebpf,
        attach: ATTACH,
        peer_attach: Some(AttachMode::XdpNative),
        start: Utc { unix_ns: start_ns },
        end: Utc {
            unix_ns: start_ns + lasts_ns,
        },
        counts: Counts {
            sent: 20,
            received: 20 - lost,
            lost,
            lost_forward: lost,
            ..Counts::default()
        },
        send_failed_by: Default::default(),
        rtt_ns: rtt.summary(),
        residence_ns: None,
        forward_ns: forward.summary(),
        backward_ns: backward.summary(),
        clock: Some(OneWayClock::Synced { bound_ns: 40_000 }),
        pdv_ns: None,
        ipdv_ns: None,
        forward_pdv_ns: None,
        backward_pdv_ns: None,
        steps: ClockSteps::default(),
        patterns: Patterns::default(),
        downtime: Downtime::default(),
        interface_down_ns: 0,
        delays: Some(Box::new(Delays {
            rtt: rtt.native(),
            forward: forward.native(),
            backward: backward.native(),
            ..Delays::default()
        })),
    }
}

fn up(peer: u32, at_ns: u64) -> PeerChange {
    PeerChange {
        event: PeerEvent::Up,
        reason: None,
        peer: address(peer),
        moved_from: None,
        found: Found::Multicast,
        method: Method::Stamp,
        name: Some(name(peer)),
        version: Some("0.1.0".to_owned()),
        time: Utc { unix_ns: at_ns },
    }
}

fn start(at_ns: u64) -> Start {
    Start {
        version: "0.1.0".to_owned(),
        interface: "eth0".to_owned(),
        attach: ATTACH,
        attach_reason: "made up".to_owned(),
        engine: Engine::Ebpf,
        authenticated: false,
        clock: Clock {
            synchronised: true,
            error_ns: 20_000,
            tai_offset_s: 37,
        },
        kernel: "6.12.0".to_owned(),
        name: "made-up".to_owned(),
        addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
        ovs: None,
        port: 862,
        ports: vec![862],
        groups: Vec::new(),
        peers: Vec::new(),
        group_probes: true,
        interval_ns: Some(S / 2),
        timeout_ns: Some(S),
        allowed: Vec::new(),
        rate: 0,
        rate_source: 0,
        rate_group: 0,
        fleet: None,
        volley_limit: 0,
        user: "nobody".to_owned(),
        capabilities: Vec::new(),
        time: Utc { unix_ns: at_ns },
    }
}
