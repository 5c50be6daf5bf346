//! Links of a network: what the controller's records contain, and what packet sockets see independently of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::net::if_::if_nameindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::sockopt::{ReceiveTimeout, ReceiveTimestampns};
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde_json::Value;

const LLDP: [u8; 2] = [0x88, 0xcc];

/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;

/// No link is used in paths or for broadcast unless its delay is known and not negative.
pub fn assert_only_edges_are_used(records: &[Value]) {
    let mut links = 0;
    for link in records.iter().filter(|record| record["type"] == "link") {
        links += 1;
        assert!(is_edge(link) || link["weight_ns"].is_null(), "{link:#}");
    }
    assert!(links > 0, "no links in {records:#?}");
    // In each report, links precede paths.
    let mut states = BTreeMap::new();
    for record in records {
        match record["type"].as_str() {
            Some("link") => {
                states.insert(link_key(record), record);
            }
            Some("path") => {
                for hop in record["hops"].as_array().unwrap() {
                    let link = states[&link_key(hop)];
                    assert!(is_edge(link), "{record:#} uses {link:#}");
                }
            }
            _ => {}
        }
    }
}

pub fn is_edge(link: &Value) -> bool {
    link["state"] == "valid" || link["state"] == "below_resolution"
}

/// The ports at both ends, in a fixed order.
fn link_key(link: &Value) -> (String, String) {
    let port = |end: &Value| format!("{}/{}", end["switch"].as_str().unwrap(), end["port"]);
    let (from, to) = (port(&link["from"]), port(&link["to"]));
    if from < to { (from, to) } else { (to, from) }
}

/// Every report of the link between two switches.
pub fn links_between<'a>(records: &'a [Value], one: &str, other: &str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| {
        let switches = [&record["from"]["switch"], &record["to"]["switch"]];
        record["type"] == "link" && (switches == [one, other] || switches == [other, one])
    })
}

/// The last report of each link.
pub fn latest(records: &[Value]) -> BTreeMap<(String, String), &Value> {
    let links = records.iter().filter(|record| record["type"] == "link");
    links.map(|link| (link_key(link), link)).collect()
}

/// Watches every frame of all interfaces of a namespace, with the timestamp of packet sockets, until it is dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// LLDP frames on their way: the port that sent them, and when.
    in_flight: BTreeMap<Vec<u8>, (String, i64)>,
    /// One-way delays in ns by sending and receiving port.
    delays: BTreeMap<(String, String), Vec<i64>>,
    /// Number of broadcast frames sent by each port.
    broadcasts: BTreeMap<String, u64>,
}

impl Observer {
    /// Watches all interfaces that `namespace` has now.
    pub fn start(namespace: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let end = Arc::new(AtomicBool::new(false));
        let path = Path::new("/run/netns").join(namespace);
        let (shared, ended) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            watch(&shared, &ended);
        });
        Self {
            seen,
            end,
            thread: Some(thread),
        }
    }

    /// The median one-way delay of LLDP frames from port `from` to port `to`, in ns.
    pub fn delay_ns(&self, from: &str, to: &str) -> i64 {
        let seen = self.seen.lock().unwrap();
        let delays = seen.delays.get(&(from.to_owned(), to.to_owned()));
        let mut delays = delays.unwrap_or_else(|| panic!("no LLDP from {from} to {to}")).clone();
        delays.sort_unstable();
        delays[delays.len() / 2]
    }

    /// Number of broadcast frames sent by each port so far.
    pub fn broadcasts(&self) -> BTreeMap<String, u64> {
        self.seen.lock().unwrap().broadcasts.clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(seen: &Mutex<Seen>, end: &AtomicBool) {
    let name = |interface: &nix::net::if_::Interface| interface.name().to_string_lossy().into_owned();
    let names: BTreeMap<usize, String> = if_nameindex()
        .unwrap()
        .iter()
        .map(|interface| (interface.index() as usize, name(interface)))
        .collect();
    let socket = open();
    setsockopt(&socket, ReceiveTimestampns, &true).unwrap();
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(50)).unwrap();
    let mut buffer = [0; 2048];
    let mut control = nix::cmsg_space!(libc::timespec);
    while !end.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
        let Ok(message) = received else { continue };
        let timestamp = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(timestamp) => Some(Duration::from(timestamp)),
            _ => None,
        });
        let (Some(address), Some(timestamp)) = (message.address, timestamp) else {
            continue;
        };
        let length = message.bytes;
        if let Some(port) = names.get(&address.ifindex()) {
            let time_ns = i64::try_from(timestamp.as_nanos()).unwrap();
            let mut seen = seen.lock().unwrap();
            seen.record(port, address.pkttype(), time_ns, &buffer[..length]);
        }
    }
}

impl Seen {
    fn record(&mut self, port: &str, kind: u8, time_ns: i64, frame: &[u8]) {
        let is_lldp = frame.get(12..14) == Some(&LLDP);
        if kind == OUTGOING {
            if frame.starts_with(&[0xff; 6]) {
                *self.broadcasts.entry(port.to_owned()).or_default() += 1;
            }
            if is_lldp {
                self.in_flight.insert(frame.to_vec(), (port.to_owned(), time_ns));
            }
        } else if is_lldp && let Some((sender, sent_ns)) = self.in_flight.remove(frame) {
            let delays = self.delays.entry((sender, port.to_owned())).or_default();
            delays.push(time_ns - sent_ns);
        }
    }
}

fn open() -> OwnedFd {
    let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: a plain system call; the result is checked, and nobody else owns the descriptor.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol);
        assert!(fd >= 0, "no packet socket: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}
