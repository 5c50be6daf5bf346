//! An agent names a late processor as the cause of an outlier, and does not blame it for a slow line.
//!
//! Two hosts with a port each, all in namespaces: `port1` – `leg1` – `br0` – `u1` – `u2` – `br0` – `leg2` – `port2`. What arrives at
//! `u2` is received by processor 1, and all else by processor 0.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../probe-io/tests/support/processor.rs"]
mod processor;
mod support;

use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use processor::{go_first, stay_on, steer};
use serde_json::Value;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use support::{FAR_V4, Pair, Running, command, count, in_namespace, ip, run};

/// Longest wait of a test.
const LIMIT: Duration = Duration::from_secs(60);

struct Path {
    ends: Pair,
    hosts: [String; 2],
    /// The namespace of `hog`, a device that leads nowhere.
    hog: String,
}

impl Path {
    fn new() -> Option<Self> {
        let ends = Pair::new()?;
        let hosts = [&ends.near, &ends.far].map(|end| format!("{end}h"));
        let hog = format!("{}b", ends.near);
        for namespace in hosts.iter().chain([&hog]) {
            run(&format!("ip netns add {namespace}"));
        }
        let path = Self { ends, hosts, hog };
        let [near, far] = [&path.ends.near, &path.ends.far];
        let [one, two] = &path.hosts;
        ip(near, "link delete port1");
        run(&format!(
            "ip link add u1 netns {one} type veth peer name u2 netns {two}"
        ));
        for (number, end, host, addresses) in [
            (1, near, one, ["10.1.1.5/24", "fd01::5/64 nodad"]),
            (2, far, two, ["10.1.1.6/24", "fd01::6/64 nodad"]),
        ] {
            run(&format!(
                "ip link add port{number} netns {end} type veth peer name leg{number} netns {host}"
            ));
            for address in addresses {
                ip(end, &format!("address add {address} dev port{number}"));
            }
            ip(end, &format!("link set port{number} up"));
            ip(host, "link add br0 type bridge");
            for device in [format!("leg{number}"), format!("u{number}")] {
                ip(host, &format!("link set {device} master br0 up"));
            }
            ip(host, "link set br0 up");
        }
        steer(one, "u1", 0);
        steer(two, "u2", 1);
        run(&format!(
            "ip link add hog netns {} mtu 9000 type veth peer name sink netns {far}",
            path.hog
        ));
        ip(far, "link set sink mtu 9000 up");
        ip(&path.hog, "address add 192.0.2.1/24 dev hog");
        ip(&path.hog, "link set hog arp off up");
        Some(path)
    }

    /// kstamp at one end, on processor 0.
    fn start(&self, end: usize, arguments: &str) -> Running {
        let namespace = [&self.ends.near, &self.ends.far][end];
        let line = format!("{arguments} --hops --host-netns /run/netns/{}", self.hosts[end]);
        thread::scope(|scope| {
            let start = || {
                stay_on(0);
                self.ends.started(namespace, &line)
            };
            scope.spawn(start).join().unwrap()
        })
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().chain([&self.hog]) {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// Lets `u1` send 23 probes a second, of which eight wait at most; the others are lost. Not every kernel here has netem. Returns
/// whether this one has what it takes.
fn slow_down(namespace: &str) -> bool {
    let tc = format!("tc -n {namespace}");
    let added = command(&format!("{tc} qdisc add dev u1 root handle 1: htb")).output();
    if !added.unwrap().status.success() {
        return false;
    }
    for line in [
        "class add dev u1 parent 1: classid 1:1 htb rate 16kbit burst 100 cburst 100 quantum 1500",
        "qdisc add dev u1 parent 1:1 pfifo limit 8",
        // By the length of the IP packet. All else is sent at once, as questions about the far half are.
        "filter add dev u1 parent 1: protocol ip u32 match u16 72 0xffff at 2 flowid 1:1",
    ] {
        run(&format!("{tc} {line}"));
    }
    true
}

/// Sends packets that take long to leave. The sender's processor runs no softirq meanwhile.
struct Hog {
    sender: UdpSocket,
    /// Gets a copy of each packet before it leaves, and drops it by its filter.
    filter: Socket,
}

impl Hog {
    const BUSY: Duration = Duration::from_millis(4);
    /// Netlink attributes of four bytes, of type 1.
    const ATTRIBUTES: usize = 2_200;
    /// Ethernet, IPv4 and UDP.
    const HEADERS: u32 = 42;

    /// In the namespace of this thread.
    fn new() -> Self {
        let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let hog = Self {
            sender: UdpSocket::bind(("192.0.2.1", 0)).unwrap(),
            filter: Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap(),
        };
        let takes_long = [16, 64, 256, 1_000, 2_000].into_iter().any(|searches| {
            hog.search(searches);
            // A single one may have been interrupted.
            (0..3).all(|_| hog.send() >= Self::BUSY)
        });
        assert!(takes_long, "a packet leaves in {:?}", hog.send());
        hog
    }

    /// Lets the filter look through the attributes of each packet for one of type 2 so many times.
    fn search(&self, searches: usize) {
        const SEARCH: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_NLATTR).cast_unsigned();
        let op = |code: u32, value| SockFilter::new(code as u16, 0, 0, value);
        let mut filter = vec![op(libc::BPF_LDX | libc::BPF_IMM, 2)];
        for _ in 0..searches {
            filter.push(op(libc::BPF_LD | libc::BPF_IMM, Self::HEADERS));
            filter.push(op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, SEARCH));
        }
        filter.push(op(libc::BPF_RET | libc::BPF_K, 0));
        self.filter.attach_filter(&filter).unwrap();
    }

    /// How long it took.
    fn send(&self) -> Duration {
        let attribute = [4_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat();
        let start = Instant::now();
        self.sender
            .send_to(&attribute.repeat(Self::ATTRIBUTES), ("192.0.2.2", 9))
            .unwrap();
        start.elapsed()
    }
}

/// Does `work` while processor 1 runs no softirq for some time again and again: for at most the nanoseconds that `work` is handed.
fn beside_a_hog(path: &Path, work: impl FnOnce(&AtomicU64)) {
    let (is_over, longest_ns) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            in_namespace(&path.hog);
            stay_on(1);
            go_first();
            let hog = Hog::new();
            // Also ends if `work` fails.
            let end = Instant::now() + LIMIT * 2;
            while !is_over.load(Ordering::Relaxed) && Instant::now() < end {
                longest_ns.fetch_max(hog.send().as_nanos() as u64, Ordering::Relaxed);
                thread::sleep(Hog::BUSY);
            }
        });
        work(&longest_ns);
        is_over.store(true, Ordering::Relaxed);
    });
}

/// The records of a kind that are wanted, once there are so many.
fn await_records(agent: &Running, kind: &str, number: usize, is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let end = Instant::now() + LIMIT;
    loop {
        let records = agent.records().into_iter();
        let all: Vec<_> = records.filter(|record| record["type"] == kind).collect();
        let wanted: Vec<_> = all.iter().filter(|record| is_wanted(record)).cloned().collect();
        if wanted.len() >= number {
            println!("{} of {} {kind} records are wanted", wanted.len(), all.len());
            return wanted;
        }
        assert!(
            Instant::now() < end,
            "{} of {} {kind} records are wanted; the last: {:#?}\n{}",
            wanted.len(),
            all.len(),
            all.last(),
            agent.stderr()
        );
        thread::sleep(Duration::from_millis(100));
    }
}

fn sent(outlier: &Value) -> SystemTime {
    humantime::parse_rfc3339(outlier["time"].as_str().unwrap()).unwrap()
}

#[test]
fn a_late_processor_is_named_and_is_not_blamed_for_a_slow_line() {
    let processors = sched_getaffinity(Pid::from_raw(0)).unwrap();
    if ![0, 1].iter().all(|processor| processors.is_set(*processor).unwrap()) {
        println!("SKIPPED: needs processors 0 and 1");
        return;
    }
    let Some(path) = Path::new() else { return };
    let _far = path.start(1, "reflect --iface port2");
    let probing = "--no-group --family v4 --interval 20ms --timeout 1s --report 500ms --outlier 1ms";
    let near = path.start(0, &format!("agent --iface port1 --peer {FAR_V4} {probing}"));
    // Then the ordinary times of segments are known.
    await_records(&near, "hops", 3, |hops| count(hops, "both_halves") > 0);

    let start = SystemTime::now();
    beside_a_hog(&path, |longest_ns| {
        await_records(&near, "outlier", 10, |outlier| {
            let is_there = outlier["cause"] == "cpu" && outlier["cpu_host"] == "far";
            is_there && sent(outlier) > start && outlier["largest_segment"] == "underlay" && {
                let wait_ns = count(outlier, "cpu_wait_ns");
                wait_ns * 2 >= count(outlier, "largest_ns") && wait_ns <= longest_ns.load(Ordering::Relaxed)
            }
        });
    });

    if !slow_down(&path.hosts[0]) {
        println!("SKIPPED: this kernel has no HTB to slow the line down");
        return;
    }
    let start = SystemTime::now();
    let slow = await_records(&near, "outlier", 10, |outlier| {
        sent(outlier) > start && outlier["largest_segment"] == "underlay" && count(outlier, "largest_ns") >= 100_000_000
    });
    for outlier in slow {
        assert_eq!(outlier["cause"], "underlay", "{outlier:#}");
    }
}
