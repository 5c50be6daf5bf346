//! Every frame that passes an interface of a namespace, with the stamp that packet sockets get (what tcpdump shows):
//! an account of the links that owes nothing to the programs and the controller under test.

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

/// EtherType of LLDP.
const LLDP: [u8; 2] = [0x88, 0xcc];

/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;

/// Watches until it is dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// LLDP frames that went out and have not come in yet: by which port, when.
    out: BTreeMap<Vec<u8>, (String, i64)>,
    /// One-way delays in ns, by the port out of which and the port into which.
    delays: BTreeMap<(String, String), Vec<i64>>,
    /// Broadcast frames that were sent, by port.
    broadcasts: BTreeMap<String, u64>,
    /// All frames that were sent.
    frames: u64,
}

impl Observer {
    /// Watches all interfaces that `namespace` has now.
    pub fn start(namespace: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let end = Arc::new(AtomicBool::new(false));
        let path = Path::new("/run/netns").join(namespace);
        let (noted, told) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            watch(&noted, &told);
        });
        Self {
            seen,
            end,
            thread: Some(thread),
        }
    }

    /// The median one-way delay of LLDP frames from port `out` to port `into`, in ns.
    pub fn delay_ns(&self, out: &str, into: &str) -> i64 {
        let seen = self.seen.lock().unwrap();
        let delays = seen.delays.get(&(out.to_owned(), into.to_owned()));
        let mut delays = delays.unwrap_or_else(|| panic!("no LLDP from {out} to {into}")).clone();
        delays.sort_unstable();
        delays[delays.len() / 2]
    }

    /// Frames sent so far: all, and those to everybody by the port that sent most of them.
    pub fn frames(&self) -> (u64, u64) {
        let seen = self.seen.lock().unwrap();
        (seen.frames, seen.broadcasts.values().copied().max().unwrap_or(0))
    }

    /// Frames to everybody that were sent so far, by port.
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
    let names: BTreeMap<usize, String> = if_nameindex()
        .unwrap()
        .iter()
        .map(|interface| {
            (
                interface.index() as usize,
                interface.name().to_string_lossy().into_owned(),
            )
        })
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
        let stamp = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        });
        let (Some(from), Some(stamp)) = (message.address, stamp) else {
            continue;
        };
        let length = message.bytes;
        if let Some(name) = names.get(&from.ifindex()) {
            let stamp_ns = i64::try_from(stamp.as_nanos()).unwrap();
            note(
                &mut seen.lock().unwrap(),
                name,
                from.pkttype(),
                stamp_ns,
                &buffer[..length],
            );
        }
    }
}

fn note(seen: &mut Seen, port: &str, kind: u8, stamp_ns: i64, frame: &[u8]) {
    let is_lldp = frame.get(12..14) == Some(&LLDP);
    if kind == OUTGOING {
        seen.frames += 1;
        if frame.starts_with(&[0xff; 6]) {
            *seen.broadcasts.entry(port.to_owned()).or_default() += 1;
        }
        if is_lldp {
            seen.out.insert(frame.to_vec(), (port.to_owned(), stamp_ns));
        }
    } else if is_lldp && let Some((out, sent_ns)) = seen.out.remove(frame) {
        let delays = seen.delays.entry((out, port.to_owned())).or_default();
        delays.push(stamp_ns - sent_ns);
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
