//! The far end of the process-bound methods: a thread for each that receives probes and sends them back.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use log::warn;
use nix::sys::socket::{SockaddrStorage, recvfrom};
use probe_common::compare;
use probe_common::family::Family;
use probe_core::identity::ResponderPorts;
use probe_core::reflector::policy::Policy;

use crate::compare::gate::{Allowed, Gate};
use crate::compare::priority::Priority;
use crate::compare::{bound, end_reading, socket};
use crate::udp::stamped::socket_address;

/// The answering threads of one interface. They end when this is dropped.
#[derive(Debug)]
pub struct Responder {
    allowed: Arc<Allowed>,
    watched: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    ports: Vec<(Family, ResponderPorts)>,
    threads: Vec<(UdpSocket, JoinHandle<()>)>,
}

impl Responder {
    /// Starts answering on `interface` in each IP version of `families`.
    pub fn start(interface: &str, families: &[Family], policy: Arc<Policy>, priority: Priority) -> io::Result<Self> {
        let mut responder = Self {
            allowed: Arc::default(),
            watched: Arc::default(),
            ended: Arc::default(),
            ports: Vec::new(),
            threads: Vec::new(),
        };
        responder.follow(policy);
        for &family in families {
            let socket = bound(interface, family)?;
            let userspace = socket.local_addr()?.port();
            let gate = Gate::new(&responder.allowed, &responder.ended);
            let watched = Arc::clone(&responder.watched);
            responder.spawn("kstamp-answer", socket, move |socket| {
                priority.take();
                answer(&socket, gate, &watched);
            })?;
            let socket = responder.start_stamped(interface, family, priority)?;
            responder.ports.push((family, ResponderPorts { userspace, socket }));
        }
        Ok(responder)
    }

    fn start_stamped(&mut self, interface: &str, family: Family, priority: Priority) -> io::Result<u16> {
        let socket = bound(interface, family)?;
        let port = socket.local_addr()?.port();
        let gate = Gate::new(&self.allowed, &self.ended);
        self.spawn("kstamp-answer-so", socket, move |own| {
            priority.take();
            if let Err(error) = socket::answer(own, gate) {
                warn!("probes of the method socket are not answered: {error}");
            }
        })?;
        Ok(port)
    }

    fn spawn(
        &mut self,
        name: &str,
        socket: UdpSocket,
        body: impl FnOnce(UdpSocket) + Send + 'static,
    ) -> io::Result<()> {
        let own = socket.try_clone()?;
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || body(own))?;
        self.threads.push((socket, thread));
        Ok(())
    }

    /// The ports on which probes of one IP version are answered.
    pub fn ports(&self, family: Family) -> Option<ResponderPorts> {
        self.ports.iter().find(|(of, _)| *of == family).map(|(_, ports)| *ports)
    }

    pub fn follow(&mut self, policy: Arc<Policy>) {
        self.allowed.set(policy);
    }

    /// How many watched probes have come.
    pub fn watched(&self) -> u64 {
        self.watched.load(Ordering::Relaxed)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for (socket, thread) in self.threads.drain(..) {
            end_reading(&socket);
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, mut gate: Gate, watched: &AtomicU64) {
    let mut packet = [0; compare::LEN + 1];
    while gate.is_open() {
        // Not `UdpSocket::recv_from`, which fails if a read ends without a sender.
        let received = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut packet);
        let Some((length, from)) = received
            .ok()
            .and_then(|(length, from)| Some((length, socket_address(&from?)?)))
        else {
            gate.rest();
            continue;
        };
        let Some(is_watched) = compare::into_reply(&mut packet[..length]) else {
            continue;
        };
        if gate.lets_in(from.ip()) {
            // A sender that cannot be reached counts the answer as lost.
            let _ = socket.send_to(&packet[..length], from);
            if is_watched {
                watched.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
