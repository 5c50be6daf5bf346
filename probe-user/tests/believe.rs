//! Who becomes a peer: a neighbour that forges replies does not make the agent send to others.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::mem;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use nix::net::if_::if_nametoindex;
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::stamp::{self, ReplyFields};
use probe_core::identity::clock_proof::ClockKey;
use probe_core::identity::{Identity, wire};
use probe_host::clock::{clock_identity, realtime_ns};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use support::{FAR_V4, Pair, count, counters, in_namespace, key_file, summary};

/// The frames that a neighbour sends when it sees one.
type Answers = fn(&[u8]) -> Vec<Vec<u8>>;

/// Answers at Ethernet level, and counts the frames to each address, address resolution included.
struct Neighbour {
    stop: Arc<AtomicBool>,
    seen: JoinHandle<BTreeMap<IpAddr, u32>>,
}

impl Neighbour {
    fn start(pair: &Pair, answers: Answers) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (namespace, stopped) = (pair.far.clone(), Arc::clone(&stop));
        let seen = thread::spawn(move || {
            in_namespace(&namespace);
            let all = Protocol::from(i32::from(0x0003_u16.to_be()));
            let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut seen = BTreeMap::new();
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut buffer) else { continue };
                let Some(to) = destination(&buffer[..length]) else {
                    continue;
                };
                *seen.entry(to).or_default() += 1;
                for frame in answers(&buffer[..length]) {
                    send(&socket, &frame);
                }
            }
            seen
        });
        Self { stop, seen }
    }

    /// The frames that it saw.
    fn stop(self) -> BTreeMap<IpAddr, u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.join().unwrap()
    }
}

/// The address that a frame is for, or whose neighbour it asks for.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match packet.net? {
        NetSlice::Ipv4(ip) => Some(ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => match packet.transport {
            // A neighbour solicitation (RFC 4861 §4.3).
            Some(TransportSlice::Icmpv6(icmp)) if icmp.slice().first() == Some(&135) => {
                let target: [u8; 16] = icmp.slice().get(8..24)?.try_into().ok()?;
                Some(target.into())
            }
            _ => Some(ip.header().destination_addr().into()),
        },
        NetSlice::Arp(arp) => {
            let target: [u8; 4] = arp.target_protocol_addr().try_into().ok()?;
            Some(target.into())
        }
    }
}

/// Replies to a probe to a group, whose stamps say nothing, from the sources for its number.
fn forged(frame: &[u8], sources: impl Fn(u32, IpAddr) -> Vec<IpAddr>) -> Vec<Vec<u8>> {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return Vec::new();
    };
    let (Some(net), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        return Vec::new();
    };
    let (asker, group): (IpAddr, IpAddr) = match net {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => return Vec::new(),
    };
    if udp.destination_port() != 1910 || !group.is_multicast() || udp.payload().len() != stamp::BASE_LEN {
        return Vec::new();
    }
    let number = u32::from_be_bytes(udp.payload()[..4].try_into().unwrap());
    let mut reply = udp.payload().to_vec();
    let fields = ReplyFields {
        sequence: number,
        transmit: NtpTime(0),
        error: ErrorEstimate(1),
        receive: NtpTime(0),
        ttl: 255,
    };
    stamp::into_reply(&mut reply, &fields);
    let mut frames = Vec::new();
    for source in sources(number, group) {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 99], frame[6..12].try_into().unwrap());
        let ip = match (source, asker) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 255),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 255),
            _ => unreachable!("a source of another IP version"),
        };
        let mut out = Vec::new();
        ip.udp(1910, udp.source_port()).write(&mut out, &reply).unwrap();
        frames.push(out);
    }
    frames
}

/// Out of `port2`.
fn send(socket: &Socket, frame: &[u8]) {
    // SAFETY: all zeroes are a valid address, of which the fields that matter are set below.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = if_nametoindex("port2").unwrap().cast_signed();
    // SAFETY: the call only reads the frame and the address, which are as long as it is told.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            mem::size_of_val(&address) as u32,
        )
    };
    assert_eq!(sent, frame.len().cast_signed());
}

/// Outside all prefixes; in a prefix, for one probe; in a prefix, for all.
const SOURCES: [[&str; 3]; 2] = [
    ["203.0.113.7", "10.1.1.77", "10.1.1.78"],
    ["2001:db8::7", "fd01::77", "fd01::78"],
];

fn of(group: IpAddr) -> [IpAddr; 3] {
    SOURCES[usize::from(group.is_ipv6())].map(|source| source.parse().unwrap())
}

#[test]
fn a_forged_reply_makes_no_peer_and_draws_no_packet() {
    for engine in ["ebpf", "socket"] {
        let Some(pair) = Pair::new() else { return };
        let neighbour = Neighbour::start(&pair, |frame| {
            forged(frame, |number, group| {
                let [stranger, once, always] = of(group);
                let mut sources = vec![stranger, always];
                // A copy of the same reply is no second answer.
                sources.extend((number == 2).then_some([once; 2]).into_iter().flatten());
                sources
            })
        });
        let arguments = format!("agent --iface port1 --engine {engine} --interval 20ms --timeout 500ms --count 50");
        let (status, records, stderr) = pair.start(&pair.near, &arguments).wait();
        let seen = neighbour.stop();
        assert!(status.success(), "{stderr}");
        for [stranger, once, always] in SOURCES {
            for address in [stranger, once] {
                let sent = seen.get(&address.parse().unwrap());
                assert_eq!(sent, None, "frames to {address}, {engine}: {seen:?}");
                assert!(records.iter().all(|record| record["peer"] != address), "{records:#?}");
            }
            let up = |record: &&Value| record["type"] == "peer" && record["peer"] == always;
            assert!(records.iter().any(|record| up(&record)), "{engine} {records:#?}");
            assert!(seen.contains_key(&always.parse().unwrap()), "{engine}: {seen:?}");
        }
        let counters = counters(&records);
        assert!(count(counters, "reply_not_allowed") > 50, "{engine} {counters:#}");
    }
}

/// A copy of a reply of the far end, from another address.
fn copied(frame: &[u8]) -> Vec<Vec<u8>> {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return Vec::new();
    };
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        return Vec::new();
    };
    let to = ip.header().destination_addr();
    if udp.source_port() != 1910 || ip.header().source_addr() != FAR_V4.parse::<IpAddr>().unwrap() {
        return Vec::new();
    }
    let mut copy = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 99], frame[..6].try_into().unwrap())
        .ipv4([10, 1, 1, 78], to.octets(), 255)
        .udp(1910, udp.destination_port())
        .write(&mut copy, udp.payload())
        .unwrap();
    vec![copy]
}

#[test]
fn a_copy_of_a_signed_reply_makes_no_peer() {
    let Some(pair) = Pair::new() else { return };
    let (_directory, path) = key_file(b"a shared secret, long enough");
    let agent = |port: &str| {
        format!(
            "agent --iface {port} --family v4 --key-file {} --interval 20ms",
            path.display()
        )
    };
    let far = pair.started(&pair.far, &agent("port2"));
    let neighbour = Neighbour::start(&pair, copied);
    let near = pair.start(&pair.near, &format!("{} --count 30 --timeout 500ms", agent("port1")));
    let (status, records, stderr) = near.wait();
    assert!(status.success(), "{stderr}");
    let seen = neighbour.stop();
    far.stop();
    assert_eq!(seen.get(&[10, 1, 1, 78].into()), None, "{seen:?}");
    let peers: Vec<_> = records.iter().filter(|record| record["type"] == "peer").collect();
    assert!(
        peers.iter().all(|record| record["peer"] == FAR_V4) && !peers.is_empty(),
        "{peers:#?}"
    );
    assert!(count(counters(&records), "unmatched") > 30, "{:#}", counters(&records));
}

/// Answers base probes with stamps that are `ahead_ns` ahead, and proves that it reads this host's clock.
fn clone_of_this_host(pair: &Pair, ahead_ns: u64, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    let namespace = pair.far.clone();
    thread::spawn(move || {
        in_namespace(&namespace);
        let socket = UdpSocket::bind((FAR_V4, 1910)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let key = ClockKey::new(&clock_identity().unwrap());
        let own = Identity {
            name: "clone".to_owned(),
            version: "0".to_owned(),
            instance: None,
            receive: String::new(),
            egress: String::new(),
            synchronised: false,
            error_ns: 0,
            stateful: false,
            responder: None,
            volley_limit: None,
        };
        let mut packet = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut packet) else {
                continue;
            };
            let now_ns = realtime_ns() + ahead_ns;
            let stamps = wire::AnswerStamps {
                receive_ns: now_ns,
                transmit_ns: now_ns,
                error: ErrorEstimate(1),
            };
            let prove = |asked| Some(key.prove(asked, 7, FAR_V4.parse().unwrap()));
            let answer = wire::answer(&packet[..length], &own, None, prove, stamps).unwrap_or_else(|| {
                let mut reply = packet[..length].to_vec();
                let stamp = NtpTime::from_unix_ns(now_ns);
                let fields = ReplyFields {
                    sequence: 0,
                    transmit: stamp,
                    error: ErrorEstimate(1),
                    receive: stamp,
                    ttl: 255,
                };
                stamp::into_reply(&mut reply, &fields);
                reply
            });
            socket.send_to(&answer, from).unwrap();
        }
    })
}

#[test]
fn stamps_refute_a_clone_of_this_host() {
    for (ahead_ns, believed) in [(0, true), (3_600_000_000_000, false)] {
        let Some(pair) = Pair::new() else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let far = clone_of_this_host(&pair, ahead_ns, Arc::clone(&stop));
        let arguments = format!(
            "agent --iface port1 --family v4 --no-group --peer {FAR_V4} --interval 10ms --count 100 --report 300ms"
        );
        let (status, records, stderr) = pair.start(&pair.near, &arguments).wait();
        stop.store(true, Ordering::Relaxed);
        far.join().unwrap();
        assert!(status.success(), "{stderr}");
        let summary = summary(&records, FAR_V4, "unicast");
        assert_eq!(summary["peer_name"], "clone", "{summary:#}");
        assert_eq!(summary["clock"] == "same-clock", believed, "{summary:#}");
        let refuted = stderr.matches("cannot be from it").count();
        assert_eq!(refuted, usize::from(!believed), "{stderr}");
        if !believed {
            assert!(
                records.iter().all(|record| record["clock"] != "same-clock"),
                "{records:#?}"
            );
        }
    }
}
