//! The method `socket`: the kernel stamps for the process, by `SO_TIMESTAMPING`, at both ends. T3 is known only after the
//! reply has left, so each reply carries the T3 of the previous one.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use probe_common::compare;
use probe_common::family::Family;
use probe_core::compare::stamped::{StampedProbe, StampedReply};
use socket2::Socket;

use crate::compare::gate::Gate;
use crate::compare::priority::Priority;
use crate::compare::{bound, end_reading};
use crate::udp::stamped::StampedSocket;

/// Senders whose last reply's stamp is kept for their next.
const MAX_SENDERS: usize = 256;

/// After this many packets, a missing stamp is not expected any more.
const MAX_AWAITED: usize = 64;

/// The sending half, for the thread that paces the probes of all methods.
#[derive(Debug)]
pub struct Sender {
    socket: StampedSocket,
    peer: SocketAddr,
    departures: Vec<StampedProbe>,
    /// Place in `departures` of each stamp that is still to come.
    awaited: BTreeMap<u32, usize>,
}

impl Sender {
    /// Sends a probe, which the kernel stamps on its way out (T1).
    pub fn send(&mut self, seq: u32) -> io::Result<()> {
        let id = self.socket.send(&compare::probe(seq, false), self.peer)?;
        self.awaited.insert(id, self.departures.len());
        self.departures.push(StampedProbe { seq, t1_ns: None });
        self.take_stamps();
        while self.awaited.len() > MAX_AWAITED {
            self.awaited.pop_first();
        }
        Ok(())
    }

    fn take_stamps(&mut self) {
        while let Ok(Some(stamp)) = self.socket.sent_stamp() {
            if let Some(place) = self.awaited.remove(&stamp.id) {
                self.departures[place].t1_ns = Some(stamp.stamp_ns);
            }
        }
    }

    /// Takes the probes sent since the last call.
    pub fn take(&mut self) -> Vec<StampedProbe> {
        self.take_stamps();
        self.awaited.clear();
        std::mem::take(&mut self.departures)
    }
}

/// The receiving half: a thread that blocks in the receive call. It ends when this is dropped.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    ended: Arc<AtomicBool>,
    replies: Arc<Mutex<Vec<StampedReply>>>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the method on `interface` towards the responder at `peer`.
pub fn open(interface: &str, peer: SocketAddr, priority: Priority) -> io::Result<(Sender, Receiver)> {
    let socket = bound(interface, Family::of(peer.ip()))?;
    let sender = Sender {
        socket: StampedSocket::new(Socket::from(socket.try_clone()?))?,
        peer,
        departures: Vec::with_capacity(1 << 16),
        awaited: BTreeMap::new(),
    };
    let reading = StampedSocket::new(Socket::from(socket.try_clone()?))?;
    let replies = Arc::new(Mutex::new(Vec::with_capacity(1 << 16)));
    let ended = Arc::new(AtomicBool::new(false));
    let (writing, is_over) = (Arc::clone(&replies), Arc::clone(&ended));
    let thread = thread::Builder::new()
        .name("kstamp-socket".to_owned())
        .spawn(move || receive(reading, peer, &writing, &is_over, priority))?;
    let receiver = Receiver {
        socket,
        ended,
        replies,
        thread: Some(thread),
    };
    Ok((sender, receiver))
}

fn receive(
    mut socket: StampedSocket,
    peer: SocketAddr,
    replies: &Mutex<Vec<StampedReply>>,
    ended: &AtomicBool,
    priority: Priority,
) {
    priority.take();
    let mut packet = [0; compare::LEN + 1];
    while !ended.load(Ordering::Relaxed) {
        match socket.receive(&mut packet) {
            Ok(received) if (received.from.ip(), received.from.port()) == (peer.ip(), peer.port()) => {
                if let Some(reply) = decode(&packet[..received.len], received.stamp_ns) {
                    replies.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
                }
            }
            Ok(_) => {}
            // The end, or an ICMP error: lost probes show it.
            Err(_) if ended.load(Ordering::Relaxed) => return,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn decode(packet: &[u8], t4_ns: Option<u64>) -> Option<StampedReply> {
    let (seq, _) = compare::reply(packet)?;
    let utc = |at| u64::from_be_bytes(compare::field(packet, at).unwrap_or_default());
    let known = |ns: u64| (ns != 0).then_some(ns);
    let previous = u32::from_be_bytes(compare::field(packet, compare::PREVIOUS)?);
    Some(StampedReply {
        seq,
        t2_ns: known(utc(compare::FAR_INGRESS)),
        t4_ns,
        previous: known(utc(compare::FAR_EGRESS)).map(|t3_ns| (previous, t3_ns)),
    })
}

impl Receiver {
    /// Takes the replies received since the last call.
    pub fn take(&self) -> Vec<StampedReply> {
        std::mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        end_reading(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers probes until the gate is closed: with T2, and with T3 of the previous reply to the same sender.
pub(crate) fn answer(socket: UdpSocket, mut gate: Gate) -> io::Result<()> {
    let mut socket = StampedSocket::new(Socket::from(socket))?;
    let mut packet = [0; compare::LEN + 1];
    let mut last: HashMap<SocketAddr, (u32, u64)> = HashMap::new();
    let mut awaited: BTreeMap<u32, (SocketAddr, u32)> = BTreeMap::new();
    while gate.is_open() {
        let Ok(received) = socket.receive(&mut packet) else {
            gate.rest();
            continue;
        };
        let packet = &mut packet[..received.len];
        if compare::into_reply(packet).is_none() || !gate.lets_in(received.from.ip()) {
            continue;
        }
        let (previous, t3_ns) = last.get(&received.from).copied().unwrap_or_default();
        packet[compare::FAR_INGRESS..][..8].copy_from_slice(&received.stamp_ns.unwrap_or(0).to_be_bytes());
        packet[compare::FAR_EGRESS..][..8].copy_from_slice(&t3_ns.to_be_bytes());
        packet[compare::PREVIOUS..][..4].copy_from_slice(&previous.to_be_bytes());
        let Ok(id) = socket.send(packet, received.from) else {
            continue;
        };
        let seq = u32::from_be_bytes(compare::field(packet, compare::SEQUENCE).unwrap_or_default());
        awaited.insert(id, (received.from, seq));
        while awaited.len() > MAX_AWAITED {
            awaited.pop_first();
        }
        if last.len() > MAX_SENDERS {
            last.clear();
        }
        while let Ok(Some(stamp)) = socket.sent_stamp() {
            if let Some((sender, seq)) = awaited.remove(&stamp.id) {
                last.insert(sender, (seq, stamp.stamp_ns));
            }
        }
    }
    Ok(())
}
