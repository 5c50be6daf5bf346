//! Packets that are not from an ordinary sender: of other subnets, on other ports, with odd headers, forged or replayed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nix::net::if_::if_nametoindex;
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::stamp::{self, ReplyFields};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use support::{FAR_V4, NEAR_V4, Pair, count, counters, in_namespace, ip, run, summary};

const FAR_V6: &str = "fd01::6";
const NEAR_V6: &str = "fd01::5";
const GROUP_V4: &str = "239.255.255.250";
const GROUP_V6: &str = "ff0e::10";
const ENGINES: [&str; 2] = ["ebpf", "socket"];

/// Runs `body` in a namespace.
fn within<T: Send>(namespace: &str, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            in_namespace(namespace);
            body()
        });
        inside.join().unwrap()
    })
}

fn mac(namespace: &str, port: &str) -> [u8; 6] {
    let text = run(&format!("ip netns exec {namespace} cat /sys/class/net/{port}/address"));
    let bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    bytes.collect::<Vec<_>>().try_into().unwrap()
}

/// A socket that sees and sends whole frames on `port`; call it within the namespace.
fn packet_socket(port: &str, protocol: i32) -> Socket {
    let protocol = protocol.cast_unsigned() as u16;
    let socket = Socket::new(
        Domain::PACKET,
        Type::RAW,
        Some(Protocol::from(i32::from(protocol.to_be()))),
    )
    .unwrap();
    // SAFETY: all zeroes are a valid address, of which the fields that matter are set below.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = if_nametoindex(port).unwrap().cast_signed();
    // SAFETY: the address lives as long as the call, and has the given length.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of_val(&address) as u32,
        )
    };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    socket
}

fn inject(namespace: &str, port: &str, frames: &[Vec<u8>]) {
    within(namespace, || {
        let socket = packet_socket(port, 0);
        for frame in frames {
            socket.send(frame).unwrap();
        }
    });
}

/// A datagram from the near to the far port, in an Ethernet frame.
struct Forged {
    macs: ([u8; 6], [u8; 6]),
}

impl Forged {
    fn to_far(pair: &Pair) -> Self {
        Self {
            macs: (mac(&pair.near, "port1"), mac(&pair.far, "port2")),
        }
    }

    fn frame(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let ethernet = PacketBuilder::ethernet2(self.macs.0, self.macs.1);
        let ip = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            mixed => panic!("{mixed:?}"),
        };
        ip.udp(from.port(), to.port()).write(&mut frame, payload).unwrap();
        frame
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn probe(sequence: u32) -> Vec<u8> {
    let mut packet = stamp::probe(sequence, ErrorEstimate(1), 7).to_vec();
    packet[stamp::TIMESTAMP..][..8].copy_from_slice(&[0x11; 8]);
    packet
}

/// A UDP socket of the near port; call it within the namespace.
fn near_socket(from: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let port1 = if_nametoindex("port1").unwrap();
    match from {
        SocketAddr::V4(_) => {
            // The interface's index takes the place of its address (ip(7)).
            let InterfaceIndexOrAddress::Index(index) = InterfaceIndexOrAddress::Index(port1) else {
                unreachable!()
            };
            socket
                .bind_device_by_index_v4(std::num::NonZeroU32::new(index))
                .unwrap();
        }
        SocketAddr::V6(_) => socket.set_multicast_if_v6(port1).unwrap(),
    }
    socket
}

/// Sends a packet and returns the source and the payload of the reply, if one comes within a second.
fn exchange(socket: &UdpSocket, to: SocketAddr, packet: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    socket.send_to(packet, to).unwrap();
    let mut reply = [0; 2000];
    let (length, from) = socket.recv_from(&mut reply).ok()?;
    Some((from, reply[..length].to_vec()))
}

#[test]
fn a_group_probe_is_answered_from_the_address_of_its_senders_subnet() {
    let Some(pair) = Pair::new() else { return };
    for (namespace, port, last) in [(&pair.near, "port1", 5), (&pair.far, "port2", 6)] {
        ip(namespace, &format!("address add 10.2.2.{last}/24 dev {port}"));
        ip(namespace, &format!("address add fd02::{last}/64 dev {port} nodad"));
    }
    for engine in ENGINES {
        let far = pair.reflector(&format!("--engine {engine}"));
        let table = [
            (NEAR_V4, GROUP_V4, FAR_V4),
            ("10.2.2.5", GROUP_V4, "10.2.2.6"),
            (NEAR_V6, GROUP_V6, FAR_V6),
            ("fd02::5", GROUP_V6, "fd02::6"),
        ];
        let answers = within(&pair.near, || {
            let ask = |(from, group, _): &(&str, &str, &str)| {
                let socket = UdpSocket::from(near_socket(at(from, 0)));
                // ASCII, base, and a packet for userspace.
                let packets = [b"7".to_vec(), probe(1), probe(1)[..20].to_vec()];
                packets.map(|packet| exchange(&socket, at(group, 1910), &packet).map(|(from, _)| from))
            };
            table.iter().map(ask).collect::<Vec<_>>()
        });
        for ((from, _, want), answers) in table.iter().zip(answers) {
            assert_eq!(answers, [Some(at(want, 1910)); 3], "{engine}: {from}\n{}", far.stderr());
        }
        far.stop();
    }
}

#[test]
fn own_and_subnet_addresses_and_port_zero_get_no_reply() {
    let Some(pair) = Pair::new() else { return };
    let forged = Forged::to_far(&pair);
    let (far_v4, far_v6) = (at(FAR_V4, 1910), at(FAR_V6, 1910));
    let frames = [
        forged.frame(at(FAR_V4, 40_000), far_v4, &probe(1)),
        forged.frame(at(FAR_V6, 40_000), far_v6, &probe(1)),
        // Multicast of its own that comes back.
        forged.frame(at(FAR_V4, 40_000), at(GROUP_V4, 1910), &probe(1)),
        forged.frame(at(FAR_V6, 40_000), at(GROUP_V6, 1910), &probe(1)),
        forged.frame(at("10.1.1.0", 40_000), far_v4, &probe(1)),
        forged.frame(at("10.1.1.255", 40_000), far_v4, &probe(1)),
        forged.frame(at(NEAR_V4, 0), far_v4, &probe(1)),
        forged.frame(at(NEAR_V6, 0), far_v6, &probe(1)),
        forged.frame(at(NEAR_V4, 40_000), far_v4, &probe(1)),
    ];
    for engine in ENGINES {
        let far = pair.started(
            &pair.far,
            &format!("reflect --iface port2 --engine {engine} --report 200ms"),
        );
        inject(&pair.near, "port1", &frames);
        let answered = if engine == "ebpf" {
            "reflected"
        } else {
            "user_reflected"
        };
        far.await_record(1, "answer", |record| {
            record["type"] == "counters" && count(record, answered) > 0
        });
        let (_, records, _) = far.stop();
        let far = counters(&records);
        assert_eq!(count(far, answered), 1, "{engine}: {far:#}");
        if engine == "ebpf" {
            let refused = ["own_source", "subnet_source", "source_port"].map(|name| count(far, name));
            assert_eq!(refused, [4, 2, 2], "{far:#}");
        } else {
            // The stack itself drops IPv4 packets from own and broadcast addresses.
            assert!(count(far, "user_own_source") >= 1, "{far:#}");
            assert_eq!(count(far, "user_source_port"), 2, "{far:#}");
        }
    }
}

#[test]
fn a_reflector_listens_on_several_ports() {
    let Some(pair) = Pair::new() else { return };
    for engine in ENGINES {
        for (flags, ports) in [
            ("", &[862, 1910][..]),
            ("--port 5000 --port 862 --port 6000", &[5000, 862, 6000]),
        ] {
            let far = pair.reflector(&format!("--engine {engine} {flags}"));
            let far_ip = [FAR_V4, FAR_V6];
            let answers = within(&pair.near, || {
                let v4 = UdpSocket::from(near_socket(at(NEAR_V4, 0)));
                let v6 = UdpSocket::from(near_socket(at(NEAR_V6, 0)));
                let mut answers = Vec::new();
                for &port in ports {
                    for (socket, to) in [(&v4, far_ip[0]), (&v6, far_ip[1])] {
                        // A session of its own by the port; the second packet is for userspace.
                        for (sequence, packet) in [probe(1), probe(2), probe(3)[..20].to_vec()].iter().enumerate() {
                            let answer = exchange(socket, at(to, port), packet);
                            answers.push((at(to, port), sequence, answer));
                        }
                    }
                }
                answers
            });
            for (to, sequence, answer) in answers {
                let (from, reply) = answer.unwrap_or_else(|| panic!("{engine}: {to}: {}", far.stderr()));
                assert_eq!(from, to, "{engine}");
                let number = u32::from_be_bytes(reply[..4].try_into().unwrap());
                // The short packet has no session identifier, and is another session.
                let want = if sequence == 2 { 0 } else { sequence as u32 };
                assert_eq!(number, want, "{engine}: {to}");
            }
            far.stop();
        }
    }
    let far = pair.reflector("");
    let pinged = pair.output(&pair.near, &format!("ping {FAR_V4} --count 2 --interval 50ms"));
    assert!(pinged.status.success(), "{pinged:?}");
    far.stop();

    // Port 862 was not asked for: without it, the other one is answered.
    let taken = within(&pair.far, || UdpSocket::bind(at("0.0.0.0", 862)).unwrap());
    let far = pair.reflector("");
    assert!(far.stderr().contains("port 862"), "{}", far.stderr());
    assert_eq!(far.await_type("start")["ports"], serde_json::json!([1910]));
    far.stop();
    drop(taken);
}

/// The option "router alert" (RFC 2113, RFC 2711), which needs no permission of routers.
fn set_option(socket: &UdpSocket, level: i32, name: i32, value: &[u8]) {
    // SAFETY: the value lives as long as the call, and has the given length.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as u32,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// The frame's datagram in two fragments.
fn fragments(frame: &[u8], v4: bool) -> Vec<Vec<u8>> {
    const FIRST: usize = 24;
    let (ip_len, network) = if v4 { (20, 14) } else { (40, 14) };
    let (headers, datagram) = frame.split_at(network + ip_len);
    [(&datagram[..FIRST], 0, true), (&datagram[FIRST..], FIRST, false)]
        .map(|(part, offset, more)| {
            let mut frame = headers.to_vec();
            if v4 {
                let word = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
                frame[network + 2..][..2].copy_from_slice(&((20 + part.len()) as u16).to_be_bytes());
                frame[network + 4..][..4].copy_from_slice(&[0x12, 0x34, (word >> 8) as u8, word as u8]);
                frame[network + 10..][..2].fill(0);
                let header = etherparse::Ipv4HeaderSlice::from_slice(&frame[network..])
                    .unwrap()
                    .to_header();
                frame[network + 10..][..2].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
            } else {
                frame[network + 4..][..2].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
                frame[network + 6] = 44;
                let word = offset as u16 | u16::from(more);
                frame.extend([17, 0, (word >> 8) as u8, word as u8, 0, 0, 0x12, 0x34]);
            }
            frame.extend(part);
            frame
        })
        .into()
}

#[test]
fn base_packets_with_options_in_fragments_or_segments_are_answered() {
    let Some(pair) = Pair::new() else { return };
    let forged = Forged::to_far(&pair);
    for engine in ENGINES {
        let far = pair.reflector(&format!("--engine {engine}"));
        for (near, far_ip) in [(NEAR_V4, FAR_V4), (NEAR_V6, FAR_V6)] {
            let to = at(far_ip, 1910);
            let v4 = to.is_ipv4();
            let (optioned, fragmented, segmented) = within(&pair.near, || {
                let socket = UdpSocket::from(near_socket(at(near, 0)));
                if v4 {
                    set_option(&socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &[0x94, 4, 0, 0]);
                } else {
                    set_option(
                        &socket,
                        libc::IPPROTO_IPV6,
                        libc::IPV6_DSTOPTS,
                        &[0, 0, 1, 4, 0, 0, 0, 0],
                    );
                }
                let optioned = exchange(&socket, to, &probe(1));

                let socket = UdpSocket::from(near_socket(at(near, 0)));
                let from = socket.local_addr().unwrap();
                let frame = forged.frame(from, to, &probe(2));
                let raw = packet_socket("port1", 0);
                for part in fragments(&frame, v4) {
                    raw.send(&part).unwrap();
                }
                let mut reply = [0; 2000];
                let fragmented = socket.recv_from(&mut reply).ok().map(|(length, _)| length);

                let socket = UdpSocket::from(near_socket(at(near, 0)));
                set_option(
                    &socket,
                    libc::IPPROTO_UDP,
                    libc::UDP_SEGMENT,
                    &(stamp::BASE_LEN as i32).to_ne_bytes(),
                );
                let several: Vec<u8> = (0..4).flat_map(probe).collect();
                socket.send_to(&several, to).unwrap();
                let segmented: Vec<_> = (0..4)
                    .map_while(|_| socket.recv_from(&mut reply).ok().map(|(length, _)| length))
                    .collect();
                (optioned.map(|(_, reply)| reply.len()), fragmented, segmented)
            });
            let what = format!("{engine}: {to}: {}", far.stderr());
            assert_eq!(optioned, Some(stamp::BASE_LEN), "options, {what}");
            assert_eq!(fragmented, Some(stamp::BASE_LEN), "fragments, {what}");
            assert_eq!(segmented, [stamp::BASE_LEN; 4], "segments, {what}");
        }
        far.stop();
    }
}

#[test]
fn senders_on_a_test_port_and_with_random_padding_are_answered() {
    let Some(pair) = Pair::new() else { return };
    for engine in ENGINES {
        let far = pair.reflector(&format!("--engine {engine}"));
        let replies = within(&pair.near, || {
            let mut replies = Vec::new();
            for (near, far_ip) in [(NEAR_V4, FAR_V4), (NEAR_V6, FAR_V6)] {
                let socket = UdpSocket::from(near_socket(at(near, 1910)));
                for sequence in 0..3 {
                    replies.push((sequence, exchange(&socket, at(far_ip, 1910), &probe(sequence))));
                }
                let socket = UdpSocket::from(near_socket(at(near, 0)));
                for (sequence, length) in [44, 44, 30, 14, 60, 44].into_iter().enumerate() {
                    // TWAMP-Light: whatever is behind the error estimate is padding.
                    let mut packet = probe(sequence as u32);
                    packet.resize(length, 0);
                    for (at, byte) in packet.iter_mut().enumerate().skip(14) {
                        *byte = (at * 7 + sequence * 13) as u8 | 1;
                    }
                    replies.push((sequence as u32, exchange(&socket, at(far_ip, 1910), &packet)));
                }
            }
            replies
        });
        let numbers: Vec<_> = replies
            .iter()
            .map(|(_, answer)| {
                let (_, reply) = answer.as_ref()?;
                Some(u32::from_be_bytes(reply[..4].try_into().unwrap()))
            })
            .collect();
        if engine == "socket" {
            let want: Vec<_> = replies.iter().map(|&(sequence, _)| Some(sequence)).collect();
            assert_eq!(numbers, want, "{engine}: {}", far.stderr());
        } else {
            // The programs count base packets, the process the others.
            let want = [0, 1, 2, 0, 1, 0, 1, 2, 2].map(Some);
            assert_eq!(numbers, [want, want].concat(), "{engine}: {}", far.stderr());
        }
        far.stop();
    }
}

/// One frame over and over, as fast as possible; returns how often.
fn replay(socket: &Socket, frames: &[Vec<u8>], time: Duration) -> u64 {
    let mut vectors: Vec<libc::iovec> = frames
        .iter()
        .cycle()
        .take(64)
        .map(|frame| libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: all zeroes are a valid message, of which the fields that matter are set below.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        // SAFETY: the messages and what they point to outlive the call, which only reads them.
        let now = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
        sent += u64::try_from(now).unwrap_or(0);
    }
    sent
}

#[test]
fn replayed_replies_do_not_hold_up_the_agent() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4");
    let near = pair.started(&pair.near, "agent --iface port1 --family v4 --interval 1ms --report 2s");
    near.await_type("peer");
    // A unicast and a group probe as they leave, stamped.
    let probes = within(&pair.near, || {
        let socket = UdpSocket::from(packet_socket("port1", libc::ETH_P_ALL));
        let mut frame = [0; 2000];
        let mut find = |destination: &str| {
            let wanted: std::net::Ipv4Addr = destination.parse().unwrap();
            loop {
                let length = socket.recv(&mut frame).unwrap();
                if length == 86 && frame[30..34] == wanted.octets() && frame[36..38] == 1910_u16.to_be_bytes() {
                    return frame[..length].to_vec();
                }
            }
        };
        [find(FAR_V4), find(GROUP_V4)]
    });
    let macs = (mac(&pair.far, "port2"), mac(&pair.near, "port1"));
    let replies = probes.map(|frame| {
        let mut payload = frame[42..].to_vec();
        let fields = ReplyFields {
            sequence: 1,
            transmit: NtpTime(2),
            error: ErrorEstimate(1),
            receive: NtpTime(1),
            ttl: 255,
        };
        stamp::into_reply(&mut payload, &fields);
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        Forged { macs }.frame(at(FAR_V4, 1910), at(NEAR_V4, port), &payload)
    });
    let sent = within(&pair.far, || {
        replay(&packet_socket("port2", 0), &replies, Duration::from_secs(5))
    });
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    far.stop();
    let windows = records.iter().filter(|record| record["type"] == "window");
    let seconds = |record: &serde_json::Value, field: &str| {
        let text = record[field].as_str().unwrap();
        text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as f64 / 1e9
    };
    let mut lasted: Vec<_> = windows
        .map(|window| seconds(window, "end") - seconds(window, "start"))
        .collect();
    lasted.sort_by(f64::total_cmp);
    println!("{sent} replayed; windows lasted {lasted:?}");
    assert!(lasted.len() >= 4, "{records:#?}");
    assert!(lasted.last().unwrap() < &2.2, "{lasted:?}");
    let dropped = count(counters(&records), "duplicate_dropped");
    assert!(dropped > sent / 2, "{dropped} of {sent}");
    for path in ["unicast", "group"] {
        let summary = summary(&records, FAR_V4, path);
        assert!(count(summary, "sent") > 1_000, "{summary:#}");
        assert_eq!(count(summary, "lost"), 0, "{summary:#}");
    }
}
