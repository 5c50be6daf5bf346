//! One run of two agents, while the lab hurts one segment after the other: to build a lab for each takes longer than to measure.

use std::io::{self, Write as _};
use std::ops::Range;
use std::slice;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use serde_json::Value;
use xtask::exec;
use xtask::lab::{Datapath, Harm, Hurt, Lab, Options, Segment, Topology};

use crate::run::{Run, Running, hop_options};
use crate::support::switch::{Switch, utc_ns};
use crate::support::{can_run, count, is_emulated, lab_with};

/// Packets of agent1. One of 50 asks for the other half, and the others are probes.
const PACKETS: u64 = 820;
const PACKETS_WITH_LOSS: u64 = 2_200;

const PHASE_TIMEOUT: Duration = Duration::from_secs(60);

/// After a change, all probes of before arrive, and questions that were lost meanwhile are asked again.
const PAUSE: Duration = Duration::from_secs(1);

const LOSS: f64 = 0.1;

/// How long a switch stands still.
const STALL: Duration = Duration::from_millis(100);
const STALLS: usize = 8;

/// Emulated processors need longer for everything.
pub fn delay() -> Duration {
    Duration::from_millis(if is_emulated() { 40 } else { 5 })
}

pub struct Measured {
    run: Run,
    /// Those of the datapath.
    pub segments: Vec<Segment>,
    /// When nothing is hurt. All times are those at which probes are sent, in UTC since 1970.
    unhurt_ns: Range<u64>,
    delayed_ns: Vec<(Segment, Range<u64>)>,
    lossy_ns: Vec<(Segment, Range<u64>)>,
    /// With the userspace datapath: known flows pass the kernel's without ovs-vswitchd.
    pub far_switch_stalls_ns: Option<Vec<Range<u64>>>,
}

impl Measured {
    pub fn get() -> Option<&'static Self> {
        // After a failure it is not measured again.
        static MEASURED: LazyLock<Option<Measured>> = LazyLock::new(Measured::new);
        MEASURED.as_ref()
    }

    /// `None` if `segment` cannot be hurt here.
    pub fn with(segment: Segment) -> Option<&'static Self> {
        let measured = Self::get()?;
        if !measured.segments.contains(&segment) {
            println!("SKIPPED: the userspace datapath has no tunnel devices");
            return None;
        }
        Some(measured)
    }

    fn new() -> Option<Self> {
        let has_tunnel_device = can_run() && Datapath::detect() == Datapath::Kernel;
        let is_encapsulation =
            |segment: &Segment| [Segment::OwnEncapsulation, Segment::FarEncapsulation].contains(segment);
        let is_here = |segment: &Segment| has_tunnel_device || !is_encapsulation(segment);
        let segments: Vec<_> = Segment::value_variants().iter().copied().filter(is_here).collect();
        let harm = Harm::Delay(Duration::ZERO);
        let options = Options {
            hurts: segments.iter().map(|&segment| Hurt { segment, harm }).collect(),
            ..Options::default()
        };
        let mut lab = lab_with(Topology::Vxlan, &options)?;
        let switches = lab.pair().map(|agent| Switch::of(&lab, agent));
        if !has_tunnel_device {
            // In the path of each probe are processes. Otherwise a busy machine would delay it by more than the lab does.
            switches.iter().for_each(Switch::use_realtime);
        }
        let running = Running::start(&lab, &hop_options(&lab, 1));
        running.await_both_halves();
        let unhurt_ns = phase(&mut lab, None, PACKETS);
        // Losses come last: they also take questions, which are then behind for a while.
        let far_switch_stalls_ns = (!has_tunnel_device).then(|| stalls(&switches[1]));
        let mut hurt_each = |harm, packets| {
            let hurt = |&segment| (segment, phase(&mut lab, Some(Hurt { segment, harm }), packets));
            segments.iter().map(hurt).collect()
        };
        let delayed_ns = hurt_each(Harm::Delay(delay()), PACKETS);
        let lossy_ns = hurt_each(Harm::Loss(LOSS), PACKETS_WITH_LOSS);
        lab.hurt(&[]).unwrap();
        report_progress("nothing");
        let run = running.end();
        lab.down().unwrap();
        run.assert_sums();
        run.assert_losses_add_up();
        Some(Self {
            run,
            segments,
            unhurt_ns,
            delayed_ns,
            lossy_ns,
            far_switch_stalls_ns,
        })
    }

    /// With the stamps of both hosts.
    pub fn unhurt(&self) -> Vec<&Value> {
        self.split(slice::from_ref(&self.unhurt_ns))
    }

    /// With the stamps of both hosts.
    pub fn delayed(&self, segment: Segment) -> Vec<&Value> {
        self.split(slice::from_ref(of_segment(&self.delayed_ns, segment)))
    }

    pub fn lost(&self, segment: Segment) -> Vec<&Value> {
        self.of_times(slice::from_ref(of_segment(&self.lossy_ns, segment)), "lost")
    }

    /// The answered probes of some times that have stamps of both hosts.
    pub fn split(&self, sent_ns: &[Range<u64>]) -> Vec<&Value> {
        let answered = self.of_times(sent_ns, "ok");
        let split: Vec<_> = answered
            .iter()
            .copied()
            .filter(|probe| probe["far_half"] == true && probe["rest_ns"] == 0)
            .collect();
        assert!(
            split.len() * 100 >= answered.len() * 95 && !split.is_empty(),
            "{} of {} have both halves; {:#?}",
            split.len(),
            answered.len(),
            self.run.near
        );
        split
    }

    fn of_times(&self, sent_ns: &[Range<u64>], state: &str) -> Vec<&Value> {
        let is_sent_then = |probe: &Value| sent_ns.iter().any(|range| range.contains(&count(probe, "sent_ns")));
        let probes = self.run.hop_samples().iter();
        probes
            .filter(|probe| probe["state"] == state && is_sent_then(probe))
            .collect()
    }
}

fn of_segment(phases: &[(Segment, Range<u64>)], segment: Segment) -> &Range<u64> {
    let mut phases = phases.iter();
    let (_, sent_ns) = phases.find(|(of, _)| *of == segment).unwrap();
    sent_ns
}

/// Hurts the lab in this way only, until agent1 has sent so many packets, which takes longer on a busy machine.
fn phase(lab: &mut Lab, hurt: Option<Hurt>, packets: u64) -> Range<u64> {
    lab.hurt(hurt.as_slice()).unwrap();
    report_progress(&hurt.map_or_else(|| "nothing".to_owned(), |hurt| hurt.to_string()));
    sleep(PAUSE);
    let begin_ns = utc_ns();
    let (first, limit) = (packets_sent(lab), Instant::now() + PHASE_TIMEOUT);
    while packets_sent(lab) < first + packets {
        assert!(Instant::now() < limit, "{} packets sent", packets_sent(lab) - first);
        sleep(Duration::from_millis(100));
    }
    let end_ns = utc_ns();
    // The last ones have yet to arrive.
    sleep(PAUSE / 4);
    begin_ns..end_ns
}

/// A guest that prints nothing for 90 s is given up. What a test prints with macros comes at its end.
fn report_progress(hurt: &str) {
    let line = format!("hurt: {hurt}\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The times at which a switch stands still.
fn stalls(switch: &Switch) -> Vec<Range<u64>> {
    let stall = |_| {
        let stalled_ns = switch.stall(STALL);
        // It takes all that waits.
        sleep(STALL * 4);
        stalled_ns
    };
    (0..STALLS).map(stall).collect()
}

fn packets_sent(lab: &Lab) -> u64 {
    let file = "/sys/class/net/port1/statistics/tx_packets";
    let text = exec::capture(&mut lab.command("agent1", "cat", [file])).unwrap();
    text.trim().parse().unwrap()
}
