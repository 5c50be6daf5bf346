//! One interface with its sockets alone: the same as [`crate::backend::ebpf::Port`], without programs.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use log::warn;
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::{authenticated, stamp};
use probe_core::auth::Key;
use probe_core::observation::{Fate, Reply};
use probe_core::reflector::policy::Policy;
use probe_host::clock::{ClockState, monotonic_ns, realtime_ns};
use probe_host::link::{Address, Link, Netlink};
use probe_host::wall::WallOffset;

use crate::backend::ebpf::{PortConfig, PortError, PortEvent, clock_state, error_estimate};
use crate::backend::socket::in_flight::{InFlight, Probe};
use crate::backend::socket::reply::WireReply;
use crate::udp::sockets::{MAX_PACKET, SocketPair, Sockets, Stamps};
use crate::udp::stamped::Received;

/// Replies taken at once, so that whoever floods the sending port does not keep the agent from everything else.
const MAX_AT_ONCE: usize = 4096;

/// An interface under measurement, by sockets.
pub struct Port {
    config: PortConfig,
    key: Option<Key>,
    netlink: Netlink,
    live: Option<Live>,
    clock: ClockState,
    wall: WallOffset,
    in_flight: InFlight,
    counts: Counts,
    running: bool,
    trouble: Option<String>,
}

/// What exists only while the interface does.
struct Live {
    link: Link,
    addresses: Vec<Address>,
    sockets: SocketPair,
}

#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    stamped: u64,
    received: u64,
    unmatched: u64,
}

impl Port {
    /// Opens the sockets.
    ///
    /// # Errors
    /// One line: what is wrong with the interface, and what to do.
    pub async fn open(config: PortConfig, key: Option<Key>) -> Result<Self, PortError> {
        let netlink = Netlink::open()?;
        let live = Live::open(&netlink, &config).await?;
        live.check_addresses(&config)?;
        Ok(Self {
            config,
            key,
            netlink,
            live: Some(live),
            clock: clock_state(),
            wall: WallOffset::now(),
            in_flight: InFlight::default(),
            counts: Counts::default(),
            running: true,
            trouble: None,
        })
    }

    /// Why there are no programs.
    pub fn reason(&self) -> &'static str {
        if self.key.is_some() {
            "the programs cannot authenticate packets"
        } else {
            "as asked for"
        }
    }

    /// The interface's addresses in use.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.usable().map(|address| address.ip).collect();
        addresses.sort_unstable();
        addresses
    }

    /// Who is answered: the prefixes of the interface's usable addresses, and what the user allows.
    pub fn policy(&self) -> Policy {
        let own = self
            .usable()
            .filter_map(|address| IpNet::new(address.prefix_of, address.prefix_len).ok());
        Policy::new(own.chain(self.config.answering.allow.iter().copied()))
    }

    /// Addresses of the IP versions in use that are beyond duplicate address detection.
    fn usable(&self) -> impl Iterator<Item = &Address> {
        let in_use = |ip: IpAddr| self.config.groups.iter().any(|group| group.is_ipv4() == ip.is_ipv4());
        let addresses = self.live.iter().flat_map(|live| &live.addresses);
        addresses.filter(move |address| in_use(address.ip) && !address.tentative && !address.duplicate)
    }

    /// This host's clock, as of the last [`Port::poll`].
    pub fn clock(&self) -> ClockState {
        self.clock
    }

    /// The error estimate that goes with this host's stamps.
    pub fn error_estimate(&self) -> ErrorEstimate {
        error_estimate(&self.clock)
    }

    /// The sockets of one IP version; `None` while the interface is gone or the version is not in use.
    pub fn sockets(&self, v6: bool) -> Option<&Sockets> {
        self.live.as_ref()?.sockets.of(v6)
    }

    /// Sends one probe; T1 is the kernel's stamp of it, where the device gives one.
    ///
    /// # Errors
    /// The socket's, or that the interface is gone.
    pub fn send(&mut self, to: IpAddr, ssid: u16, seq: u32) -> io::Result<()> {
        self.wall.follow(WallOffset::now());
        let error = self.error_estimate();
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the interface is gone");
        let v6 = to.is_ipv6();
        let live = self.live.as_ref().ok_or_else(gone)?;
        let sockets = live.sockets.of(v6).ok_or_else(gone)?;
        let (sent_ns, sent_mono_ns) = (realtime_ns(), monotonic_ns());
        let transmit = NtpTime::from_unix_ns(sent_ns);
        let stamp = match &self.key {
            Some(key) => {
                let mut probe = authenticated::probe(seq, transmit, error, ssid);
                key.sign(&mut probe);
                sockets.send_probe(&probe, to, self.config.test_port)?
            }
            None => {
                let mut probe = stamp::probe(seq, error, ssid);
                probe[stamp::TIMESTAMP..][..8].copy_from_slice(&transmit.to_be_bytes());
                sockets.send_probe(&probe, to, self.config.test_port)?
            }
        };
        self.counts.sent += 1;
        let probe = Probe {
            destination: to,
            wire: transmit.0,
            sent_ns,
            sent_mono_ns,
            stamped: false,
        };
        self.in_flight
            .insert((ssid, seq), (v6, stamp.unwrap_or_default()), probe);
        Ok(())
    }

    /// What became of a probe that has no reply: one that the device never stamped, though it stamps others, did not leave.
    pub fn fate(&mut self, ssid: u16, seq: u32) -> Fate {
        self.take_stamps();
        match self.in_flight.get((ssid, seq)) {
            Some(probe) if !probe.stamped && self.counts.stamped > 0 => Fate::NeverLeft,
            _ => Fate::Unanswered,
        }
    }

    /// Returns when there may be replies. Cancel safe.
    ///
    /// # Errors
    /// The runtime's.
    pub async fn ready(&self) -> io::Result<()> {
        let ready = async |v6| match self.sockets(v6).and_then(Sockets::replies) {
            Some(socket) => socket.ready().await,
            None => std::future::pending().await,
        };
        tokio::select! {
            ready = ready(false) => ready,
            ready = ready(true) => ready,
        }
    }

    /// Takes the replies that are there.
    pub fn drain(&mut self, mut each: impl FnMut(&Reply)) {
        self.wall.follow(WallOffset::now());
        let mut packet = [0; MAX_PACKET];
        for v6 in [false, true] {
            for _ in 0..MAX_AT_ONCE {
                let Some(socket) = self.sockets(v6).and_then(Sockets::replies) else {
                    break;
                };
                // Where nothing can be read, the next look at the interface tells why.
                let Ok(Some(received)) = socket.try_receive(&mut packet) else {
                    break;
                };
                // A reply comes after its probe has left, and so does the stamp.
                self.take_stamps();
                match self.reply(&packet[..received.len], &received) {
                    Some(reply) => {
                        self.counts.received += 1;
                        each(&reply);
                    }
                    None => self.counts.unmatched += 1,
                }
            }
        }
        self.take_stamps();
    }

    fn reply(&self, packet: &[u8], received: &Received) -> Option<Reply> {
        let source = received.from.ip();
        if received.from.port() != self.config.test_port {
            return None;
        }
        let wire = WireReply::read(packet, self.key.as_ref())?;
        let (id, probe) = self.in_flight.answered(source, &wire)?;
        let t4_ns = received.stamp_ns.unwrap_or_else(realtime_ns);
        Some(wire.observation(source, id, &probe, t4_ns, &self.wall, self.clock))
    }

    fn take_stamps(&mut self) {
        for v6 in [false, true] {
            while let Some(socket) = self.sockets(v6).and_then(Sockets::replies) {
                let Ok(Some(stamp)) = socket.sent_stamp() else {
                    break;
                };
                let at_mono_ns = self.wall.monotonic_ns(stamp.stamp_ns);
                if self.in_flight.left((v6, stamp.id), stamp.stamp_ns, at_mono_ns) {
                    self.counts.stamped += 1;
                }
            }
        }
    }

    /// What was counted, by name.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let Counts {
            sent,
            stamped,
            received,
            unmatched,
        } = self.counts;
        BTreeMap::from([
            ("socket_sent", sent),
            ("socket_stamped", stamped),
            ("socket_received", received),
            ("unmatched", unmatched),
        ])
    }

    /// Looks after the interface: call it twice a second. Says what has changed; what fails is said once and tried again
    /// at the next call.
    pub async fn poll(&mut self) -> Vec<PortEvent> {
        self.clock = clock_state();
        let mut events = Vec::new();
        let outcome = self.look_after(&mut events).await;
        let trouble = outcome.err().map(|error| error.to_string());
        if let Some(trouble) = trouble.as_ref().filter(|new| self.trouble.as_ref() != Some(new)) {
            warn!("{trouble}; trying again");
        }
        self.trouble = trouble;
        events
    }

    async fn look_after(&mut self, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let link = self.netlink.link_by_name(&self.config.interface).await?;
        let known = self.live.as_ref().map(|live| live.link.index);
        if known.is_some() && link.as_ref().map(|link| link.index) != known {
            // The sockets are bound to an index that is no more.
            self.live = None;
            self.in_flight.forget_stamps();
            events.push(PortEvent::Deleted);
        }
        match (link, &mut self.live) {
            (Some(link), Some(live)) => {
                if self.running != link.running {
                    self.running = link.running;
                    events.push(if link.running { PortEvent::Up } else { PortEvent::Down });
                }
                live.addresses = self.netlink.addresses(link.index).await?;
                live.link = link;
                live.open_missing(&self.config)
            }
            (Some(link), None) if link.up => {
                self.live = Some(Live::open(&self.netlink, &self.config).await?);
                self.running = true;
                events.push(PortEvent::Back);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Live {
    async fn open(netlink: &Netlink, config: &PortConfig) -> Result<Self, PortError> {
        let name = &config.interface;
        let link = netlink.link_by_name(name).await?;
        let link = link.ok_or_else(|| PortError::NoInterface(name.clone()))?;
        if link.loopback {
            return Err(PortError::Refused {
                interface: name.clone(),
                refusal: "it leads to this host only, where there is nothing to measure".to_owned(),
            });
        }
        if !link.up {
            return Err(PortError::Down(name.clone()));
        }
        let mut live = Self {
            addresses: netlink.addresses(link.index).await?,
            link,
            sockets: SocketPair::default(),
        };
        live.open_missing(config)?;
        Ok(live)
    }

    /// Each IP version in use needs an address.
    fn check_addresses(&self, config: &PortConfig) -> Result<(), PortError> {
        let lacks_address = |is_v4| !self.addresses.iter().any(|address| address.ip.is_ipv4() == is_v4);
        match config.groups.iter().find(|group| lacks_address(group.is_ipv4())) {
            None => Ok(()),
            Some(group) => Err(PortError::NoAddress {
                interface: config.interface.clone(),
                family: if group.is_ipv4() { "IPv4" } else { "IPv6" },
            }),
        }
    }

    fn open_missing(&mut self, config: &PortConfig) -> Result<(), PortError> {
        let addresses: Vec<IpAddr> = self.addresses.iter().map(|address| address.ip).collect();
        let interface = (config.interface.as_str(), self.link.index);
        self.sockets
            .open_missing(interface, config.test_port, &config.groups, &addresses, Stamps::Socket)?;
        Ok(())
    }
}
