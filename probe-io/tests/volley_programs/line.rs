//! Two namespaces with a veth pair between them, and a reflector of kernel programs at the far end.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use probe_core::attach::AttachMode;
use probe_core::engine::Engine;
use probe_core::reflector::policy::Rates;
use probe_io::port::{Answering, Choice, Port, PortConfig};
use probe_io::udp::target::Target;
use tokio::runtime::{Builder, Runtime};

pub(crate) const PORT: u16 = 862;
pub(crate) const NEAR_V4: &str = "10.1.1.5";
pub(crate) const FAR_V4: &str = "10.1.1.6";
pub(crate) const FAR_V6: &str = "fd01::6";

/// Runs a command that must succeed.
pub(crate) fn command(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Moves only this thread into a namespace.
pub(crate) fn enter(namespace: &str) {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}

/// Whether processors are emulated, as in the guests of `cargo xtask test --vm`: programs take a hundred times as long.
pub(crate) fn is_emulated() -> bool {
    std::env::var_os("KSTAMP_EMULATED").is_some()
}

/// Fewer on emulated processors.
pub(crate) fn scaled(number: u64) -> u64 {
    if is_emulated() { number.div_ceil(100) } else { number }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Namespaces `near` and `far`, joined by a veth pair `port1`–`port2`; removed when dropped.
pub(crate) struct Line {
    pub(crate) near: String,
    pub(crate) far: String,
    middle: String,
    _turn: MutexGuard<'static, ()>,
}

/// One line at a time: a volley takes all the CPU time that it gets.
static TURN: Mutex<()> = Mutex::new(());

impl Line {
    /// `None` without permission, which is printed.
    pub(crate) fn new() -> Option<Self> {
        let refused = std::env::var_os("KSTAMP_NO_ROOT").is_some();
        if !nix::unistd::geteuid().is_root() || refused {
            println!("SKIPPED: needs root for namespaces and eBPF");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("kv{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let line = Self {
            near: format!("{id}n"),
            far: format!("{id}f"),
            middle: format!("{id}m"),
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let Self { near, far, .. } = &line;
        command(&format!("ip netns add {near}"));
        command(&format!("ip netns add {far}"));
        command(&format!(
            "ip link add port1 netns {near} type veth peer name port2 netns {far}"
        ));
        line.address();
        Some(line)
    }

    fn address(&self) {
        let Self { near, far, .. } = self;
        for (namespace, port, v4, v6) in [(near, "port1", NEAR_V4, "fd01::5"), (far, "port2", FAR_V4, "fd01::6")] {
            command(&format!("ip -n {namespace} address add {v4}/24 dev {port}"));
            command(&format!("ip -n {namespace} address add {v6}/64 dev {port} nodad"));
            command(&format!("ip -n {namespace} link set {port} up"));
        }
    }

    /// Joins the ends by a third namespace with interfaces `left` and `right`, and a veth pair `detour1`–`detour2`. Returns
    /// its name.
    pub(crate) fn insert_middle(&self) -> String {
        let Self { near, far, middle, .. } = self;
        command(&format!("ip netns add {middle}"));
        command(&format!("ip -n {near} link delete port1"));
        for (end, port, side) in [(near, "port1", "left"), (far, "port2", "right")] {
            command(&format!(
                "ip link add {port} netns {end} type veth peer name {side} netns {middle}"
            ));
        }
        command(&format!(
            "ip link add detour1 netns {middle} type veth peer name detour2 netns {middle}"
        ));
        for interface in ["left", "right", "detour1", "detour2"] {
            command(&format!("ip -n {middle} link set {interface} up"));
        }
        self.address();
        middle.clone()
    }

    /// Adds a second veth pair between the namespaces, with 10.9.9.1 and 10.9.9.2, which carries no probes.
    pub(crate) fn bystander(&self) {
        let Self { near, far, .. } = self;
        command(&format!(
            "ip link add other1 netns {near} type veth peer name other2 netns {far}"
        ));
        for (namespace, port, v4) in [(near, "other1", "10.9.9.1"), (far, "other2", "10.9.9.2")] {
            command(&format!("ip -n {namespace} address add {v4}/24 dev {port}"));
            command(&format!("ip -n {namespace} link set {port} up"));
        }
    }

    /// Reflects in this mode at the far end until it is dropped.
    pub(crate) fn reflector(&self, mode: AttachMode) -> Far {
        let far = self.far.clone();
        let (ready, is_ready) = channel();
        let (end, ended) = channel();
        let thread = thread::spawn(move || {
            enter(&far);
            reflect(mode, &ready, &ended);
        });
        is_ready.recv().unwrap();
        Far {
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Runs `work` in the near namespace, on a thread of its own.
    pub(crate) fn near<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.near);
                runtime().block_on(work())
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far, &self.middle] {
            // The namespace in the middle may not exist.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

fn reflect(mode: AttachMode, ready: &Sender<()>, ended: &Receiver<()>) {
    let runtime = runtime();
    let port = runtime.block_on(Port::open(
        PortConfig {
            interface: "port2".to_owned(),
            test_port: PORT,
            other_ports: Vec::new(),
            other_ports_are_optional: false,
            // Only an IP version with a group is in use.
            groups: vec!["239.255.255.250".parse().unwrap(), "ff0e::10".parse().unwrap()],
            late: Vec::new(),
            choice: Choice::Only(mode),
            probing: false,
            rings: probe_core::rings::Rings::NONE,
            log_level: 0,
            cold: false,
            answering: Answering {
                allow: Vec::new(),
                // Without limits.
                rates: Rates {
                    port: 0,
                    source: 0,
                    group: 0,
                },
            },
        },
        Engine::Ebpf,
        None,
    ));
    let port = port.unwrap();
    ready.send(()).unwrap();
    let _ = ended.recv();
    drop(port);
}

/// A running reflector.
pub(crate) struct Far {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn target(address: &str) -> Target {
    Target {
        to: SocketAddr::new(address.parse::<IpAddr>().unwrap(), PORT),
        dscp: 0,
    }
}
