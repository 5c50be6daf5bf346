//! Upcalls of Open vSwitch's kernel datapath are tied to the probes that waited; skipped where the kernel has none.
//!
//! All clocks here are `CLOCK_MONOTONIC`, so each wait is checked against the times between which it ended.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use probe_core::direction::Direction;
use probe_core::hops::Upcall;
use probe_io::hops::HopConfig;
use probe_io::hops::upcalls::Upcalls;
use support::{can_run, run};
use xtask::lab::{AgentNs, Datapath, Lab, Topology};

/// Probes that wait, and as many that do not.
const PROBES: u32 = 100;

const SSID: u16 = 4711;

/// For a packet to arrive on an emulated machine.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn waits_are_tied_to_their_probes() {
    if can_run() && Datapath::detect() != Datapath::Kernel {
        println!("SKIPPED: this kernel has no openvswitch module");
        return;
    }
    let Some(lab) = support::lab(Topology::Vxlan) else {
        return;
    };
    let switches = [1, 2].map(|number| Switch::of(&lab, number));
    for switch in &switches {
        switch.tell_ports_apart();
    }
    let [near, far] = lab.pair();
    let mut upcalls = Upcalls::attach(&HopConfig {
        host_netns: None,
        port: near.interface.clone(),
        addresses: vec![near.v4.into()],
        test_ports: vec![stamp::PORT],
    })
    .unwrap();
    let receiver = Port::open(&lab, far, stamp::PORT);
    receiver.0.set_read_timeout(Some(LIMIT)).unwrap();
    let warm = Port::open(&lab, near, 40_000);
    // It gets a flow of its own in both datapaths.
    warm.probe(u32::MAX, far, &receiver);
    upcalls.drain(drop);

    let mut waits = BTreeMap::new();
    let mut unexpected = 0;
    for seq in 0..PROBES {
        let switch = &switches[seq as usize % 2];
        let cold = Port::open(&lab, near, 41_000 + u16::try_from(seq).unwrap());
        switch.signal(Signal::SIGSTOP);
        let sent_ns = now_ns();
        cold.send(seq, far);
        sleep(Duration::from_millis(30 + u64::from(seq % 20)));
        // A probe with a flow passes the stopped switch.
        warm.probe(PROBES + seq, far, &receiver);
        let resumed_ns = now_ns();
        switch.signal(Signal::SIGCONT);
        assert_eq!(receiver.receive(), seq);
        let received_ns = now_ns();
        upcalls.drain(|upcall| {
            let ended_ns = upcall.mono_ns + upcall.wait_ns;
            assert_eq!((upcall.prober, upcall.reflector), (near.v4.into(), far.v4.into()));
            assert_eq!(
                (upcall.ssid, upcall.direction),
                (SSID, Direction::Forward),
                "{upcall:?}"
            );
            if upcall.seq != seq || upcall.mono_ns < sent_ns || ended_ns > received_ns {
                unexpected += 1;
                println!("not of probe {seq}, {sent_ns} to {received_ns}: {upcall:?}");
            } else if ended_ns >= resumed_ns && upcall.mono_ns < resumed_ns {
                waits.insert(seq, upcall);
            }
        });
    }
    assert_eq!(upcalls.lost().unwrap(), 0);
    describe(&waits);
    let found = waits.len();
    println!("{found} of {PROBES} waits found, {unexpected} upcalls of others");
    assert!(found * 100 >= PROBES as usize * 95);
    assert!(unexpected * 100 <= PROBES);
    lab.down().unwrap();
}

fn describe(waits: &BTreeMap<u32, Upcall>) {
    let mut waits: Vec<_> = waits.values().map(|upcall| upcall.wait_ns / 1_000).collect();
    waits.sort_unstable();
    if let [shortest, .., longest] = waits[..] {
        println!("waits of {shortest} to {longest} µs");
    }
}

fn now_ns() -> u64 {
    let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into();
    u64::try_from(now.as_nanos()).unwrap()
}

/// A socket of a lab's agent.
struct Port(UdpSocket);

impl Port {
    fn open(lab: &Lab, agent: &AgentNs, port: u16) -> Self {
        Self(
            lab.within(&agent.namespace, || Ok(UdpSocket::bind((agent.v4, port))?))
                .unwrap(),
        )
    }

    fn send(&self, seq: u32, to: &AgentNs) {
        let probe = stamp::probe(seq, ErrorEstimate::new(false, 0), SSID);
        self.0.send_to(&probe, (to.v4, stamp::PORT)).unwrap();
    }

    /// Sends a probe and waits until it has arrived.
    fn probe(&self, seq: u32, to: &AgentNs, receiver: &Self) {
        self.send(seq, to);
        assert_eq!(receiver.receive(), seq);
    }

    /// The sequence number of the next probe.
    fn receive(&self) -> u32 {
        let mut packet = [0; stamp::BASE_LEN];
        self.0.recv(&mut packet).unwrap();
        u32::from_be_bytes(*packet.first_chunk().unwrap())
    }
}

/// The Open vSwitch of one host.
struct Switch {
    directory: PathBuf,
    bridge: String,
    process: Pid,
}

impl Switch {
    fn of(lab: &Lab, number: u8) -> Self {
        let directory = lab.scratch().unwrap().with_file_name(format!("host{number}"));
        let pid = fs::read_to_string(directory.join("ovs-vswitchd.pid")).unwrap();
        Self {
            bridge: format!("ovs{number}"),
            process: Pid::from_raw(pid.trim().parse().unwrap()),
            directory,
        }
    }

    /// Makes the kernel's flows differ by source port: an ordinary switch looks at MAC addresses alone.
    fn tell_ports_apart(&self) {
        let socket = self.directory.join(format!("{}.mgmt", self.bridge));
        let flow = "priority=1,udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],NORMAL";
        run(Command::new("ovs-ofctl")
            .arg("add-flow")
            .arg(format!("unix:{}", socket.display()))
            .arg(flow));
    }

    /// Stops or resumes all threads of ovs-vswitchd.
    fn signal(&self, signal: Signal) {
        kill(self.process, signal).unwrap();
        if signal == Signal::SIGSTOP {
            let tasks = format!("/proc/{}/task", self.process);
            while !all_stopped(Path::new(&tasks)) {
                sleep(Duration::from_millis(1));
            }
        }
    }
}

fn all_stopped(tasks: &Path) -> bool {
    let mut tasks = fs::read_dir(tasks).unwrap();
    tasks.all(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status"));
        // A thread may have ended.
        status.is_ok_and(|status| status.contains("State:\tT"))
    })
}
