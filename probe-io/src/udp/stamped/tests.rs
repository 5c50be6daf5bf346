use std::net::SocketAddr;
use std::time::{Duration, Instant};

use probe_host::clock::realtime_ns;
use socket2::{Domain, Protocol, Type};

use super::*;

fn pair(any: &str) -> [(StampedSocket, SocketAddr); 2] {
    [any, any].map(|any| {
        let address: SocketAddr = any.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        (StampedSocket::new(socket).unwrap(), bound)
    })
}

/// The loopback device stamps during `sendto`, so the stamp is usually there at once.
fn stamp_of(socket: &mut StampedSocket) -> SentStamp {
    let started = Instant::now();
    loop {
        if let Some(stamp) = socket.sent_stamp().unwrap() {
            return stamp;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "no stamp came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the kernel stamps received packets, which begins a moment after the first socket has asked
/// (`net_enable_timestamp` may use a work queue). Returns the number of packets sent until then.
fn await_stamping(sender: &mut StampedSocket, receiver: &mut StampedSocket, receiver_at: SocketAddr) -> u32 {
    let started = Instant::now();
    for sent in 1.. {
        sender.send(b"x", receiver_at).unwrap();
        stamp_of(sender);
        if receiver.receive(&mut [0; 50]).unwrap().stamp_ns.is_some() {
            return sent;
        }
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "nothing received is stamped"
        );
    }
    unreachable!("it counts until it is done")
}

#[test]
fn both_ends_are_stamped_in_order_and_by_number() {
    for (any, v6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
        let [(mut sender, sender_at), (mut receiver, receiver_at)] = pair(any);
        if v6 {
            sender.socket().set_unicast_hops_v6(77).unwrap();
            sender.socket().set_tclass_v6(0xb8).unwrap();
        } else {
            sender.socket().set_ttl_v4(77).unwrap();
            sender.socket().set_tos_v4(0xb8).unwrap();
        }
        let before = await_stamping(&mut sender, &mut receiver, receiver_at);
        for number in 0..3 {
            let id = before + u32::from(number);
            let before_ns = realtime_ns();
            assert_eq!(sender.send(&[number; 60], receiver_at).unwrap(), id);
            let mut buffer = [0; 50];
            let received = receiver.receive(&mut buffer).unwrap();
            let after_ns = realtime_ns();
            let sent = stamp_of(&mut sender);
            assert_eq!(buffer, [number; 50]);
            assert_eq!((received.len, received.from), (50, sender_at), "cut to the buffer");
            assert_eq!(received.to, Some(receiver_at.ip()));
            assert_eq!((received.ttl, received.tos), (Some(77), Some(0xb8)));
            assert_eq!(sent.id, id);
            let stamp_ns = received.stamp_ns.expect("a stamp");
            assert!(
                before_ns <= sent.stamp_ns && sent.stamp_ns <= stamp_ns && stamp_ns <= after_ns,
                "{before_ns} {sent:?} {stamp_ns} {after_ns}"
            );
        }
    }
}

#[test]
fn a_refused_packet_takes_no_number() {
    let [(mut sender, _), (_receiver, receiver_at)] = pair("127.0.0.1:0");
    assert!(
        sender.send(&vec![0; 70_000], receiver_at).is_err(),
        "longer than UDP allows"
    );
    let id = sender.send(b"x", receiver_at).unwrap();
    assert_eq!(stamp_of(&mut sender).id, id);
}

#[test]
fn a_packet_leaves_from_the_given_address_with_the_given_class() {
    for (any, source, interface) in [("127.0.0.1:0", "127.0.0.9", 1), ("[::1]:0", "::1", 1)] {
        let receiver = pair(any);
        let [(mut receiver, receiver_at), _] = receiver;
        let unbound = if any.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let [(mut sender, _), _] = pair(unbound);
        let leaving = Leaving {
            source: Some(source.parse().unwrap()),
            interface,
            tos: 46 << 2,
        };
        let id = sender.send_leaving(b"hello", receiver_at, leaving).unwrap();
        let received = receiver.receive(&mut [0; 50]).unwrap();
        assert_eq!(received.from.ip(), source.parse::<IpAddr>().unwrap());
        assert_eq!((received.len, received.tos), (5, Some(46 << 2)));
        assert_eq!(stamp_of(&mut sender).id, id);
    }
}
