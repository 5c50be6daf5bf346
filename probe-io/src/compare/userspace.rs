//! The method `userspace`: the clock is read just before the send call and just after the receive call returns, each in
//! a thread of its own, as the best userspace tools do.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use probe_common::compare;
use probe_common::family::Family;
use probe_core::compare::anatomy::Stamps;
use probe_core::compare::ledger::RoundTrip;
use probe_host::clock::monotonic_ns;

use crate::compare::priority::Priority;
use crate::compare::{bound, end_reading};

/// Slots for send times: replies to older probes are not expected any more.
const SLOTS: usize = 1 << 16;

/// When each of the last probes was sent, on `CLOCK_MONOTONIC`.
#[derive(Debug)]
struct Sent(Box<[AtomicU64]>);

/// The sending half, for the thread that paces the probes of all methods.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    sent: Arc<Sent>,
}

impl Sender {
    /// Reads the clock and sends a probe. The watching programs stamp it if it is `watched`.
    pub fn send(&mut self, seq: u32, watched: bool) -> io::Result<()> {
        let packet = compare::probe(seq, watched);
        let slot = &self.sent.0[seq as usize % SLOTS];
        // Stored before the send call, because another thread may receive the reply at once.
        slot.store(monotonic_ns(), Ordering::Release);
        self.socket.send(&packet).map(drop)
    }
}

/// A reply as the process received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserspaceAnswer {
    /// Which probe, and its round trip.
    pub arrival: RoundTrip,
    /// Stamps of the watching programs, if the probe was watched.
    pub watched: Option<Stamps>,
}

/// The receiving half: a thread that blocks in the receive call. It ends when this is dropped.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    answers: Arc<Mutex<Vec<UserspaceAnswer>>>,
    thread: Option<JoinHandle<()>>,
    /// Port from which the probes leave.
    pub port: u16,
}

/// Opens the method on `interface` towards the responder at `peer`.
pub fn open(interface: &str, peer: SocketAddr, priority: Priority) -> io::Result<(Sender, Receiver)> {
    let socket = bound(interface, Family::of(peer.ip()))?;
    socket.connect(peer)?;
    let port = socket.local_addr()?.port();
    let sent = Arc::new(Sent((0..SLOTS).map(|_| AtomicU64::new(0)).collect()));
    let answers = Arc::new(Mutex::new(Vec::with_capacity(SLOTS)));
    let sender = Sender {
        socket: socket.try_clone()?,
        sent: Arc::clone(&sent),
    };
    let (reading, writing) = (socket.try_clone()?, Arc::clone(&answers));
    let thread = thread::Builder::new()
        .name("kstamp-userspace".to_owned())
        .spawn(move || receive(&reading, &sent, &writing, priority))?;
    let receiver = Receiver {
        socket,
        answers,
        thread: Some(thread),
        port,
    };
    Ok((sender, receiver))
}

fn receive(socket: &UdpSocket, sent: &Sent, answers: &Mutex<Vec<UserspaceAnswer>>, priority: Priority) {
    priority.take();
    let mut packet = [0; compare::LEN + 1];
    loop {
        let received = socket.recv(&mut packet);
        let returned_ns = monotonic_ns();
        match received {
            Ok(0) => return,
            Ok(length) => {
                let Some((seq, watched)) = compare::reply(&packet[..length]) else {
                    continue;
                };
                let called_ns = sent.0[seq as usize % SLOTS].load(Ordering::Acquire);
                let answer = UserspaceAnswer {
                    arrival: RoundTrip {
                        seq,
                        rtt_ns: Some(returned_ns.saturating_sub(called_ns)),
                    },
                    watched: watched.then(|| stamps(&packet, called_ns, returned_ns)).flatten(),
                };
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
            // Nothing listens at the peer (ICMP), or the interface went down: lost probes show it.
            Err(_) => thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
}

fn stamps(packet: &[u8], called_ns: u64, returned_ns: u64) -> Option<Stamps> {
    Some(Stamps {
        called_ns,
        near_egress_ns: compare::stamp(packet, compare::NEAR_EGRESS)?,
        far_ingress_ns: compare::stamp(packet, compare::FAR_INGRESS)?,
        far_egress_ns: compare::stamp(packet, compare::FAR_EGRESS)?,
        near_ingress_ns: compare::stamp(packet, compare::NEAR_INGRESS)?,
        returned_ns,
    })
}

impl Receiver {
    /// Takes the replies received since the last call.
    pub fn take(&self) -> Vec<UserspaceAnswer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        end_reading(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
