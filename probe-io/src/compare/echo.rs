//! The far end of the process-bound methods: a thread for each that receives a probe and sends it back, with nothing
//! else to do.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::warn;
use nix::sys::socket::{SockaddrStorage, recvfrom};
use probe_common::compare;
use probe_core::identity::ResponderPorts;
use probe_core::reflector::policy::Policy;
use probe_host::clock::monotonic_ns;

use crate::compare::priority::Priority;
use crate::compare::{bound, end_reading};
use crate::udp::stamped::socket_address;

/// Answers a thread gives per second at most, and at once.
const PER_SECOND: u64 = 20_000;

/// After an error of the socket, which is that of an interface that went: a rest, so as not to spin.
const REST: Duration = Duration::from_millis(100);

/// Who may be answered: whom the programs answer too.
#[derive(Debug, Default)]
struct Allowed(RwLock<Policy>);

impl Allowed {
    fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    fn contains(&self, source: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).allows(source)
    }
}

/// Who is answered by one thread, how often, and until when.
#[derive(Debug)]
pub(crate) struct Gate {
    allowed: Arc<Allowed>,
    ended: Arc<AtomicBool>,
    credit: Credit,
}

impl Gate {
    fn new(allowed: &Arc<Allowed>, ended: &Arc<AtomicBool>) -> Self {
        Self {
            allowed: Arc::clone(allowed),
            ended: Arc::clone(ended),
            credit: Credit::new(monotonic_ns()),
        }
    }

    /// Whether to go on.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Whether a probe from `source` is to be answered.
    #[inline]
    pub(crate) fn lets_in(&mut self, source: IpAddr) -> bool {
        self.allowed.contains(source) && self.credit.spend(monotonic_ns)
    }

    /// After an error, unless it is that of the end.
    pub(crate) fn rest(&self) {
        if self.is_open() {
            thread::sleep(REST);
        }
    }
}

/// A bound on answers that reads no clock while there is credit.
#[derive(Debug)]
struct Credit {
    left: u64,
    since_ns: u64,
}

impl Credit {
    fn new(now_ns: u64) -> Self {
        Self {
            left: PER_SECOND,
            since_ns: now_ns,
        }
    }

    /// Whether one more answer may be given.
    #[inline]
    fn spend(&mut self, now_ns: impl FnOnce() -> u64) -> bool {
        if self.left == 0 {
            let now_ns = now_ns();
            let earned = u128::from(now_ns.saturating_sub(self.since_ns)) * u128::from(PER_SECOND) / 1_000_000_000;
            if earned == 0 {
                return false;
            }
            self.left = u64::try_from(earned).unwrap_or(u64::MAX).min(PER_SECOND);
            self.since_ns = now_ns;
        }
        self.left -= 1;
        true
    }
}

/// The echo threads of one interface. They end when this is dropped.
#[derive(Debug)]
pub struct Echo {
    allowed: Arc<Allowed>,
    watched: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    families: Vec<(bool, ResponderPorts)>,
    threads: Vec<(UdpSocket, JoinHandle<()>)>,
}

impl Echo {
    /// Starts answering on `interface` in each IP version (`true` is IPv6) of `families`.
    ///
    /// # Errors
    /// The sockets' or the threads'.
    pub fn start(interface: &str, families: &[bool], policy: Policy, priority: Priority) -> io::Result<Self> {
        let mut echo = Self {
            allowed: Arc::default(),
            watched: Arc::default(),
            ended: Arc::default(),
            families: Vec::new(),
            threads: Vec::new(),
        };
        echo.follow(policy);
        for &v6 in families {
            let socket = bound(interface, v6)?;
            let userspace = socket.local_addr()?.port();
            let gate = Gate::new(&echo.allowed, &echo.ended);
            let watched = Arc::clone(&echo.watched);
            echo.spawn("kstamp-echo", socket, move |socket| {
                priority.take();
                answer(&socket, gate, &watched);
            })?;
            let socket = echo.start_stamped(interface, v6, priority)?;
            echo.families.push((v6, ResponderPorts { userspace, socket }));
        }
        Ok(echo)
    }

    fn start_stamped(&mut self, interface: &str, v6: bool, priority: Priority) -> io::Result<u16> {
        let socket = bound(interface, v6)?;
        let port = socket.local_addr()?.port();
        let gate = Gate::new(&self.allowed, &self.ended);
        self.spawn("kstamp-echo-so", socket, move |socket| {
            priority.take();
            if let Err(error) = crate::compare::socket::answer(socket, gate) {
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
    pub fn ports(&self, v6: bool) -> Option<ResponderPorts> {
        self.families.iter().find(|(of, _)| *of == v6).map(|(_, ports)| *ports)
    }

    /// Who is answered has changed, or may have.
    pub fn follow(&mut self, policy: Policy) {
        self.allowed.set(policy);
    }

    /// How many watched probes have come.
    pub fn watched(&self) -> u64 {
        self.watched.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
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
        // Not that of the standard library, which takes it for a mistake that the end of reading has no sender.
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
            // Whoever is not reached does not get an answer, and counts it as lost.
            let _ = socket.send_to(&packet[..length], from);
            if is_watched {
                watched.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_and_the_clock_is_read_only_when_credit_is_out() {
        let mut credit = Credit::new(0);
        for _ in 0..PER_SECOND {
            assert!(credit.spend(|| panic!("there is credit")));
        }
        assert!(!credit.spend(|| 0));
        assert!(!credit.spend(|| 49_999));
        assert!(credit.spend(|| 100_000));
        assert!(credit.spend(|| panic!("two were earned")));
        assert!(!credit.spend(|| 100_000));
    }
}
