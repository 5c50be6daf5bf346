//! Observers in namespaces that stand for two hosts: which devices they find, what they stamp, and what they leave behind.
//!
//! Needs root; otherwise every test prints `SKIPPED` and passes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "volley_programs/line.rs"]
#[expect(dead_code, reason = "of the line between two ports, only the commands are used")]
mod line;
#[path = "support/processor.rs"]
mod processor;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, ptr, thread};

use aya::programs::tc::{self, NlOptions, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use line::{command, enter};
use probe_common::hops::MIN_WAIT_NS;
use probe_common::stamp::{BASE_LEN, SENDER_SEQUENCE, SSID};
use probe_core::direction::Direction;
use probe_core::hops::{HopStamp, Role};
use probe_host::clock::monotonic_ns;
use probe_io::hops::{HopConfig, HopError, Observers};
use processor::{go_first, stay_on, steer};

const PORT: u16 = 862;
const SESSION: u16 = 0x4b53;
const OWN: [[&str; 2]; 2] = [["10.1.1.5", "fd01::5"], ["10.1.1.6", "fd01::6"]];

/// Two hosts, each with a port in a namespace of its own: `port1` – `leg1` – `br0` – (`vxlan0` –) `u1` – `u2` – … – `port2`.
struct Hosts {
    id: String,
}

impl Hosts {
    /// `None` without permission, which is printed.
    fn new(has_tunnel: bool) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || env::var_os("KSTAMP_NO_ROOT").is_some() {
            println!("SKIPPED: needs root for namespaces and eBPF");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("ko{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let hosts = Self { id };
        for end in 1..=2 {
            let (port, host) = (hosts.port(end), hosts.host(end));
            command(&format!("ip netns add {port}"));
            command(&format!("ip netns add {host}"));
            command(&format!(
                "ip link add port{end} netns {port} type veth peer name leg{end} netns {host}"
            ));
            command(&format!("ip -n {host} link add br0 type bridge"));
            for address in OWN[end - 1] {
                let prefix = if address.contains(':') { "64 nodad" } else { "24" };
                let (length, flags) = prefix.split_once(' ').unwrap_or((prefix, ""));
                command(&format!(
                    "ip -n {port} address add {address}/{length} dev port{end} {flags}"
                ));
            }
            command(&format!("ip -n {port} link set port{end} up"));
        }
        let [one, two] = [1, 2].map(|end| hosts.host(end));
        command(&format!(
            "ip link add u1 netns {one} type veth peer name u2 netns {two}"
        ));
        for (end, other) in [(1, 2), (2, 1)] {
            let host = hosts.host(end);
            command(&format!("ip -n {host} link set u{end} up"));
            if has_tunnel {
                command(&format!("ip -n {host} address add 172.31.1.{end}/24 dev u{end}"));
                hosts.add_tunnel(end, other);
            } else {
                command(&format!("ip -n {host} link set u{end} master br0"));
            }
            command(&format!("ip -n {host} link set leg{end} master br0 up"));
            command(&format!("ip -n {host} link set br0 up"));
        }
        Some(hosts)
    }

    fn add_tunnel(&self, end: usize, other: usize) {
        let host = self.host(end);
        command(&format!(
            "ip -n {host} link add vxlan0 type vxlan id 42 dstport 4789 local 172.31.1.{end} remote 172.31.1.{other}"
        ));
        command(&format!("ip -n {host} link set vxlan0 master br0 up"));
    }

    /// The namespace of a port.
    fn port(&self, end: usize) -> String {
        format!("{}p{end}", self.id)
    }

    /// The namespace of a host.
    fn host(&self, end: usize) -> String {
        format!("{}h{end}", self.id)
    }

    fn config(&self, end: usize) -> HopConfig {
        HopConfig {
            host_netns: Some(PathBuf::from(format!("/run/netns/{}", self.host(end)))),
            port: format!("port{end}"),
            addresses: addresses(end),
            test_ports: vec![PORT, 1910],
        }
    }

    fn observe(&self, end: usize) -> Observers {
        let config = self.config(end);
        within(&self.port(end), || Observers::attach(config)).unwrap()
    }

    /// Resolves addresses.
    fn warm_up(&self) {
        let start = Instant::now();
        while self.exchange(0..2) < 2 {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the hosts do not reach each other"
            );
        }
        // Packets that had to wait arrive.
        thread::sleep(Duration::from_millis(200));
    }

    /// Sends probes one by one, and answers those that arrive. Returns how many replies came back.
    fn exchange(&self, sequences: impl Iterator<Item = u32>) -> usize {
        let socket = |end: usize, address: &str, port| {
            let socket = within(&self.port(end), || UdpSocket::bind((address, port))).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            socket
        };
        let pairs: Vec<[UdpSocket; 2]> = (0..2)
            .map(|family| [socket(1, OWN[0][family], 0), socket(2, OWN[1][family], PORT)])
            .collect();
        let mut received = 0;
        for sequence in sequences {
            let [prober, reflector] = &pairs[sequence as usize % 2];
            let mut packet = [0; BASE_LEN];
            packet[..4].copy_from_slice(&sequence.to_be_bytes());
            packet[SSID..][..2].copy_from_slice(&SESSION.to_be_bytes());
            prober.send_to(&packet, reflector.local_addr().unwrap()).unwrap();
            let Ok((_, from)) = reflector.recv_from(&mut packet) else {
                continue;
            };
            packet[SENDER_SEQUENCE..][..4].copy_from_slice(&sequence.to_be_bytes());
            packet[..4].fill(0xff);
            reflector.send_to(&packet, from).unwrap();
            received += usize::from(prober.recv(&mut packet).is_ok());
        }
        received
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for end in 1..=2 {
            for namespace in [self.port(end), self.host(end)] {
                let _ = Command::new("ip").args(["netns", "delete", &namespace]).output();
            }
        }
    }
}

/// Does `work` in a namespace, on a thread of its own.
fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            work()
        });
        thread.join().unwrap()
    })
}

fn addresses(end: usize) -> Vec<IpAddr> {
    OWN[end - 1].map(|address| address.parse().unwrap()).to_vec()
}

fn drain(observers: &mut Observers) -> Vec<HopStamp> {
    let mut stamps = Vec::new();
    observers.drain(|stamp| stamps.push(stamp));
    stamps
}

fn hooks(observers: &Observers) -> BTreeMap<&str, Role> {
    let hooks = observers.hooks().iter();
    hooks.map(|hook| (hook.device.as_str(), hook.role)).collect()
}

/// Lets the observers follow the devices until `is_done`.
fn follow(observers: &mut Observers, end: usize, mut is_done: impl FnMut(&mut Observers) -> bool) {
    let start = Instant::now();
    while !is_done(observers) {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing has happened");
        observers.upkeep(monotonic_ns(), &addresses(end));
        thread::sleep(Duration::from_millis(50));
    }
}

/// The devices in a namespace at which kstamp has programs.
fn observed(namespace: &str) -> Vec<String> {
    let listed = command(&format!("ip -n {namespace} -o link"));
    let names = listed
        .lines()
        .filter_map(|line| line.split([':', '@']).nth(1))
        .map(str::trim);
    let has_tcx = KernelVersion::current().unwrap() >= KernelVersion::new(6, 6, 0);
    let is_observed = |name: &&str| {
        let of_hook = |hook, word| match has_tcx {
            true => SchedClassifier::query_tcx(name, hook).is_ok_and(|(_, programs)| !programs.is_empty()),
            false => command(&format!("tc filter show dev {name} {word}")).contains("kstamp_hops"),
        };
        of_hook(TcAttachType::Ingress, "ingress") || of_hook(TcAttachType::Egress, "egress")
    };
    within(namespace, || names.filter(is_observed).map(str::to_owned).collect())
}

/// A child that another test has forked holds a link until its exec.
fn assert_none_observed(namespace: &str) {
    let start = Instant::now();
    loop {
        let left = observed(namespace);
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{left:?}");
    }
}

/// What a probe passes on its way forth, as device and direction at each host.
const BARE: [(usize, &str, bool); 4] = [(1, "leg1", false), (1, "u1", true), (2, "u2", false), (2, "leg2", true)];
const TUNNEL: [(usize, &str, bool); 6] = [
    (1, "leg1", false),
    (1, "vxlan0", true),
    (1, "u1", true),
    (2, "u2", false),
    (2, "vxlan0", false),
    (2, "leg2", true),
];

fn probes_are_stamped(has_tunnel: bool, path: &[(usize, &str, bool)]) {
    const PROBES: u32 = 40;
    let Some(hosts) = Hosts::new(has_tunnel) else { return };
    hosts.warm_up();
    let mut ends = [1, 2].map(|end| hosts.observe(end));
    let count = path.len() / 2;
    assert_eq!(observed(&hosts.host(1)).len(), count + 1, "and the bridge");
    assert_eq!(hosts.exchange(1_000..1_000 + PROBES), PROBES as usize);
    // By direction and probe: time, host, device, and whether it left by that.
    type Passed = (u64, usize, String, bool);
    let mut seen: BTreeMap<(bool, u32), Vec<Passed>> = BTreeMap::new();
    for (end, observers) in (1..).zip(&mut ends) {
        for stamp in drain(observers) {
            let family = stamp.seq as usize % 2;
            let [prober, reflector] = [0, 1].map(|end: usize| OWN[end][family].parse::<IpAddr>().unwrap());
            assert_eq!(
                (stamp.prober, stamp.reflector, stamp.ssid),
                (prober, reflector, SESSION)
            );
            let device = observers.hooks()[usize::from(stamp.hook.0)].device.clone();
            let is_back = stamp.direction == Direction::Backward;
            let passed = (stamp.mono_ns, end, device, stamp.egress);
            seen.entry((is_back, stamp.seq)).or_default().push(passed);
        }
        assert_eq!(observers.lost(), 0);
    }
    assert_eq!(seen.len(), 2 * PROBES as usize);
    for ((is_back, sequence), mut passed) in seen {
        passed.sort();
        let mut expected = path.to_vec();
        if is_back {
            expected.reverse();
            expected.iter_mut().for_each(|(_, _, egress)| *egress = !*egress);
        }
        let passed: Vec<_> = passed
            .iter()
            .map(|(_, end, name, egress)| (*end, name.as_str(), *egress))
            .collect();
        assert_eq!(passed, expected, "probe {sequence}, back: {is_back}");
    }
    let roles = hooks(&ends[0]);
    assert_eq!(roles["leg1"], Role::Leg);
    if has_tunnel {
        assert_eq!((roles["vxlan0"], roles["u1"]), (Role::Tunnel, Role::Nic));
    }
    drop(ends);
    for end in 1..=2 {
        assert_none_observed(&hosts.host(end));
    }
}

#[test]
fn bare_probes_are_stamped_in_the_order_of_the_path() {
    probes_are_stamped(false, &BARE);
}

#[test]
fn probes_in_a_tunnel_are_stamped_inside_and_outside() {
    probes_are_stamped(true, &TUNNEL);
}

#[test]
fn probes_with_their_payload_in_pages_are_stamped_too() {
    let Some(hosts) = Hosts::new(true) else { return };
    let mut observers = hosts.observe(1);
    hosts.warm_up();
    let socket = within(&hosts.port(1), || UdpSocket::bind((OWN[0][0], 0))).unwrap();
    socket.connect((OWN[1][0], PORT)).unwrap();
    let mut packet = [0; BASE_LEN];
    packet[..4].copy_from_slice(&7_777_u32.to_be_bytes());
    send_pages(&socket, &packet);
    thread::sleep(Duration::from_millis(200));
    let stamps = drain(&mut observers);
    let hooks = observers.hooks();
    let path = stamps.iter().filter(|stamp| stamp.seq == 7_777);
    assert_eq!(
        path.map(|stamp| hooks[usize::from(stamp.hook.0)].device.as_str())
            .collect::<Vec<_>>(),
        ["leg1", "vxlan0", "u1"]
    );
}

/// Sends a datagram without copying it: only its headers are in the linear part of the packet.
fn send_pages(socket: &UdpSocket, payload: &[u8]) {
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(payload).unwrap();
    let (from, to) = (read.as_raw_fd(), socket.as_raw_fd());
    // SAFETY: without offsets, the call takes integers alone.
    let sent = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), payload.len(), 0) };
    assert_eq!(sent, payload.len() as isize);
}

#[test]
fn a_device_that_goes_and_comes_back_is_observed_again_by_a_thread_without_other_privileges() {
    let Some(hosts) = Hosts::new(true) else { return };
    let mut observers = hosts.observe(1);
    hosts.exchange(0..8);
    let number = |observers: &Observers| observers.hooks().iter().position(|hook| hook.device == "vxlan0");
    let tunnel = |observers: &mut Observers| {
        let stamps = drain(observers);
        stamps
            .iter()
            .filter(|stamp| Some(usize::from(stamp.hook.0)) == number(observers))
            .count()
    };
    assert!(tunnel(&mut observers) > 0);
    let before = number(&observers);
    command(&format!("ip -n {} link delete vxlan0", hosts.host(1)));
    follow(&mut observers, 1, |_| {
        !observed(&hosts.host(1)).contains(&"vxlan0".to_owned())
    });
    hosts.exchange(8..10);
    assert_eq!(tunnel(&mut observers), 0);
    hosts.add_tunnel(1, 2);
    follow(&mut observers, 1, |_| {
        observed(&hosts.host(1)).contains(&"vxlan0".to_owned())
    });
    follow(&mut observers, 1, |observers| {
        hosts.exchange(10..14);
        tunnel(observers) > 0
    });
    assert_eq!(number(&observers), before);
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let name = |path: &PathBuf| fs::read_to_string(path.join("comm")).unwrap_or_default();
    let watchers: Vec<_> = threads
        .map(|thread| thread.path())
        .filter(|path| name(path) == "kstamp-hops\n")
        .collect();
    let admin = format!("CapPrm:\t{:016x}\nCapEff:\t{0:016x}\n", 1 << 12);
    let is_reduced = |path: &PathBuf| {
        fs::read_to_string(path.join("status"))
            .unwrap_or_default()
            .contains(&admin)
    };
    assert!(watchers.iter().any(is_reduced), "{watchers:?}");
}

/// Loads the program that delays each packet by a millisecond as it leaves. Meanwhile the sender's processor receives none. The
/// kernel takes long to verify it.
fn load_hog() -> Ebpf {
    static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-test-programs"));
    let mut loader = EbpfLoader::new();
    loader.override_global(aya_log::LEVEL, &0_u8, false);
    let mut ebpf = loader.load(PROGRAMS).unwrap();
    hog(&mut ebpf).load().unwrap();
    ebpf
}

fn hog(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    ebpf.program_mut("hog").unwrap().try_into().unwrap()
}

/// The kernel gives a filter without a priority 49,152 or less. It asks programs without one, in TCX, before all of them.
const AFTER_OBSERVERS: u16 = 60_000;

/// Attaches the program to all packets that leave by `device` in `namespace`, until the device is deleted.
fn hold_up(program: &mut SchedClassifier, namespace: &str, device: &str) {
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: AFTER_OBSERVERS,
        ..NlOptions::default()
    });
    within(namespace, || {
        // Observers may have added it before.
        let _ = tc::qdisc_add_clsact(device);
        let link = program
            .attach_with_options(device, TcAttachType::Egress, options)
            .unwrap();
        // Dropping the link would look for the program in another namespace.
        std::mem::forget(program.take_link(link).unwrap());
    });
}

/// The time of each probe from `u1` to `u2`, and the wait for the processor that its stamp reports, in nanoseconds. Unless the line
/// between these two devices is slow, a packet waits for nothing but the processor that receives it.
fn waits(hosts: &Hosts, ends: &mut [Observers; 2], sequences: std::ops::Range<u32>) -> Vec<(u64, u64)> {
    ends.iter_mut().for_each(|end| drop(drain(end)));
    thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(0);
            hosts.exchange(sequences.clone());
        });
    });
    let [left, came] = [(0, "u1", true), (1, "u2", false)].map(|(end, device, egress)| {
        let stamps = drain(&mut ends[end]);
        let hooks = ends[end].hooks();
        let is_there = |stamp: &HopStamp| {
            stamp.direction == Direction::Forward
                && stamp.egress == egress
                && hooks[usize::from(stamp.hook.0)].device == device
        };
        let there = stamps.into_iter().filter(is_there);
        there
            .map(|stamp| (stamp.seq, stamp))
            .collect::<BTreeMap<u32, HopStamp>>()
    });
    let both = sequences.filter_map(|seq| left.get(&seq).zip(came.get(&seq)));
    both.map(|(left, came)| (came.mono_ns.saturating_sub(left.mono_ns), came.softirq_ns))
        .collect()
}

/// As [`waits`], while a thread that sends by `socket` keeps the far host's processor busy.
fn waits_beside(
    socket: &UdpSocket,
    hosts: &Hosts,
    ends: &mut [Observers; 2],
    sequences: std::ops::Range<u32>,
) -> Vec<(u64, u64)> {
    let (is_busy, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            stay_on(1);
            go_first();
            while !is_over.load(Ordering::Relaxed) {
                socket.send_to(&[0; 64], ("192.0.2.2", 9)).unwrap();
                is_busy.store(true, Ordering::Relaxed);
            }
        });
        while !is_busy.load(Ordering::Relaxed) && !busy.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        let waits = waits(hosts, ends, sequences);
        is_over.store(true, Ordering::Relaxed);
        waits
    })
}

fn delayed(waits: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let delayed = waits.iter().filter(|(took_ns, _)| *took_ns >= 4 * MIN_WAIT_NS);
    delayed.copied().collect()
}

/// How many of the probes have a wait that explains their time. A probe may have come during the wait, which may then be longer.
fn told(waits: &[(u64, u64)]) -> usize {
    let told = waits.iter().filter(|(took_ns, wait_ns)| wait_ns * 2 >= *took_ns);
    told.count()
}

#[test]
fn a_processor_that_is_late_is_told_from_a_slow_line() {
    if thread::available_parallelism().unwrap().get() < 2 {
        println!("SKIPPED: needs two processors");
        return;
    }
    let Some(hosts) = Hosts::new(false) else { return };
    hosts.warm_up();
    let mut ends = [1, 2].map(|end| hosts.observe(end));
    // Packets that arrive at u2 are received by the other processor.
    steer(&hosts.host(2), "u2", 1);
    let port = hosts.port(2);
    command(&format!("ip -n {port} link add hog type veth peer name sink"));
    command(&format!("ip -n {port} link set sink up"));
    command(&format!("ip -n {port} address add 192.0.2.1/24 dev hog"));
    command(&format!("ip -n {port} link set hog arp off up"));
    let mut hog_program = load_hog();
    hold_up(hog(&mut hog_program), &port, "hog");
    let socket = within(&hosts.port(2), || UdpSocket::bind(("192.0.2.1", 0))).unwrap();
    let late = delayed(&waits_beside(&socket, &hosts, &mut ends, 0..100));
    let told_late = told(&late);
    let took_ns: u64 = late.iter().map(|(took_ns, _)| took_ns).sum();
    let told_ns: u64 = late.iter().map(|(took_ns, wait_ns)| took_ns.min(wait_ns)).sum();
    println!(
        "explained: {told_late} of {} late probes, {told_ns} of {took_ns} ns",
        late.len()
    );
    // An emulated processor may itself stop for some time, before the softirq is raised. Then most of the time must be explained.
    let is_told = match line::is_emulated() {
        true => told_ns * 2 >= took_ns,
        false => told_late * 10 >= late.len() * 9,
    };
    assert!(late.len() >= 3 && is_told, "{late:?}");
    let prompt = waits(&hosts, &mut ends, 100..200);
    let wrong = prompt
        .iter()
        .filter(|&&(took_ns, wait_ns)| wait_ns > took_ns + MIN_WAIT_NS)
        .count();
    assert!(wrong * 20 <= prompt.len(), "{prompt:?}");
    // The observers stamp probes before the program delays them.
    hold_up(hog(&mut hog_program), &hosts.host(1), "u1");
    let slow = delayed(&waits(&hosts, &mut ends, 200..300));
    let wrong = told(&slow);
    println!("wrongly explained: {wrong} of {} probes on a slow line", slow.len());
    assert!(slow.len() >= 90 && wrong * 20 <= slow.len(), "{slow:?}");
}

#[test]
fn probes_of_others_are_not_recorded() {
    let Some(hosts) = Hosts::new(false) else { return };
    let mut observers = hosts.observe(1);
    observers.upkeep(monotonic_ns(), &["10.1.1.77".parse().unwrap()]);
    hosts.exchange(0..4);
    assert_eq!(drain(&mut observers), []);
    observers.upkeep(monotonic_ns(), &addresses(1));
    hosts.exchange(4..8);
    assert!(!drain(&mut observers).is_empty());
}

#[test]
fn of_many_devices_those_without_probes_make_room() {
    let Some(hosts) = Hosts::new(true) else { return };
    let host = hosts.host(1);
    for number in 0..20 {
        command(&format!("ip -n {host} link add other{number} type bridge"));
        command(&format!("ip -n {host} link set other{number} up"));
    }
    let mut observers = hosts.observe(1);
    let first = observed(&host);
    assert_eq!(first.len(), 16);
    follow(&mut observers, 1, |observers| {
        hosts.exchange(0..2);
        drain(observers);
        observed(&host).contains(&"other19".to_owned())
    });
    let path = ["leg1", "vxlan0", "u1"];
    for (device, is_first) in path
        .iter()
        .map(|device| (*device, true))
        .chain([("other1", true), ("other19", false)])
    {
        assert_eq!(first.contains(&device.to_owned()), is_first, "{device}");
    }
    assert_eq!(
        hooks(&observers).into_keys().collect::<Vec<_>>(),
        ["leg1", "u1", "vxlan0"]
    );
    let now = observed(&host);
    assert!(
        path.iter().all(|device| now.contains(&(*device).to_owned())) && now.len() <= 16,
        "{now:?}"
    );
}

#[test]
fn filters_of_others_stay_and_take_packets_only_after_the_observer() {
    let Some(hosts) = Hosts::new(true) else { return };
    let host = hosts.host(2);
    hosts.warm_up();
    // A device that is down drops what is redirected to it.
    command(&format!("ip -n {host} link add sink type bridge"));
    command(&format!("tc -n {host} qdisc add dev u2 clsact"));
    command(&format!(
        "tc -n {host} filter add dev u2 ingress prio 10 u32 match u32 0 0 action mirred egress redirect dev sink"
    ));
    let filters = || command(&format!("tc -n {host} filter show dev u2 ingress"));
    let before = filters();
    let mut observers = hosts.observe(2);
    assert_eq!(hosts.exchange(10..20), 0, "they are redirected");
    let stamps = drain(&mut observers);
    assert_eq!(
        (stamps.len(), hooks(&observers).into_keys().collect::<Vec<_>>()),
        (10, vec!["u2"])
    );
    drop(observers);
    assert_eq!(filters(), before);
}

#[test]
fn a_namespace_that_cannot_be_entered_is_an_error_and_nothing_is_attached() {
    let Some(hosts) = Hosts::new(false) else { return };
    for (path, why) in [
        ("/run/netns/no-such-host", "No such file"),
        ("/proc/self/ns/mnt", "ip netns"),
    ] {
        let config = HopConfig {
            host_netns: Some(path.into()),
            ..hosts.config(1)
        };
        match within(&hosts.port(1), || Observers::attach(config)) {
            Err(error @ HopError::Netns(_)) => {
                let line = error.to_string();
                assert!(line.contains(path) && line.contains(why), "{line}");
            }
            other => panic!("{path}: {:?}", other.err()),
        }
    }
    // By default it is that of process 1 or the port's own, where the port itself is not observed.
    let config = HopConfig {
        host_netns: Some(PathBuf::from(format!("/run/netns/{}", hosts.port(1)))),
        ..hosts.config(1)
    };
    let observers = within(&hosts.port(1), || Observers::attach(config)).unwrap();
    assert_eq!(observed(&hosts.port(1)), [""; 0]);
    assert_eq!(observers.hooks(), []);
}

/// Where [`a_killed_process_leaves_nothing_that_stays`] has its observers.
const CHILD: &str = "KSTAMP_OBSERVERS_CHILD";

#[test]
fn a_killed_process_leaves_nothing_that_stays() {
    if let Ok(id) = env::var(CHILD) {
        // Not to be dropped: that would remove the namespaces.
        let hosts = std::mem::ManuallyDrop::new(Hosts { id });
        let _observers = hosts.observe(1);
        println!("attached");
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let Some(hosts) = Hosts::new(false) else { return };
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_leaves_nothing_that_stays", "--nocapture"])
        .env(CHILD, &hosts.id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("attached")));
    assert_eq!(observed(&hosts.host(1)).len(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    // Before TCX, the next process removes the filters of the killed one.
    let next = hosts.observe(1);
    drop(next);
    assert_none_observed(&hosts.host(1));
}
