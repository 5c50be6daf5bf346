//! What the programs at the tracepoints of softirqs cost a softirq. Test runs of raw tracepoints do not repeat, and leave out
//! the way from the tracepoint to the program. So the programs are attached, and packets are sent over the loopback device.

use std::fs;
use std::net::UdpSocket;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::PerCpuArray;
use aya::programs::RawTracePoint;
use aya::programs::raw_trace_point::RawTracePointLink;
use probe_io::hops::SOFTIRQ;

use crate::bench::{Bench, map};
use crate::figures::{ROUNDS, SOFTIRQ_BATCH, SOFTIRQ_BATCHES, median};
use crate::subject::In;

/// The programs that run at the tracepoints while packets are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Attached {
    Nothing,
    /// An empty program at each tracepoint.
    Empty,
    Kstamp,
}

impl Attached {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Empty, Self::Kstamp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no program",
            Self::Empty => "empty programs",
            Self::Kstamp => "hops, softirq",
        }
    }

    /// Attaches the programs until the links are dropped.
    fn attach(self, bench: &mut Bench) -> Result<Vec<RawTracePointLink>> {
        let attach = |ebpf: &mut Ebpf, program, tracepoint| {
            let program: &mut RawTracePoint = ebpf.program_mut(program).context("no program")?.try_into()?;
            let link = program.attach(tracepoint)?;
            Ok(program.take_link(link)?)
        };
        let links = SOFTIRQ.into_iter().map(|(program, tracepoint)| match self {
            Self::Nothing => Ok(None),
            Self::Empty => attach(bench.object(In::Bench), "empty_raw_tracepoint", tracepoint).map(Some),
            Self::Kstamp => attach(bench.object(In::Hops), program, tracepoint).map(Some),
        });
        links.filter_map(Result::transpose).collect()
    }
}

/// Nanoseconds per packet, by round and [`Attached`].
pub(crate) fn rounds(bench: &mut Bench) -> Result<Vec<[f64; 3]>> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..=ROUNDS {
        let mut figures = [0.0; 3];
        for attached in Attached::ALL {
            let before_ns = last_seen_ns(bench)?;
            let links = attached.attach(bench)?;
            figures[attached as usize] = packets(&sender)?;
            drop(links);
            let is_watched = last_seen_ns(bench)? != before_ns;
            ensure!(
                is_watched == (attached == Attached::Kstamp),
                "{}: softirqs were watched: {is_watched}",
                attached.name()
            );
        }
        // The receiver's buffer is full and caches are warm after the first round.
        if round > 0 {
            rounds.push(figures);
        }
    }
    Ok(rounds)
}

/// Real time, because that of a softirq is none of this thread on some kernels.
fn packets(sender: &UdpSocket) -> Result<f64> {
    let before = net_rx()?;
    let mut batches = Vec::with_capacity(SOFTIRQ_BATCHES);
    for _ in 0..SOFTIRQ_BATCHES {
        let start = Instant::now();
        for _ in 0..SOFTIRQ_BATCH {
            sender.send(&[0; 44])?;
        }
        batches.push(start.elapsed().as_nanos() as f64 / f64::from(SOFTIRQ_BATCH));
    }
    let sent = SOFTIRQ_BATCHES as u64 * u64::from(SOFTIRQ_BATCH);
    let softirqs = net_rx()? - before;
    // A packet that comes while another is received shares its softirq.
    ensure!(
        softirqs * 100 >= sent * 99,
        "{softirqs} softirqs received {sent} packets"
    );
    Ok(median(&batches))
}

/// Softirqs that received packets, on all processors.
fn net_rx() -> Result<u64> {
    let counts = fs::read_to_string("/proc/softirqs")?;
    let line = counts.lines().find_map(|line| line.trim().strip_prefix("NET_RX:"));
    let counts = line.context("no NET_RX in /proc/softirqs")?.split_whitespace();
    Ok(counts.map(str::parse::<u64>).sum::<Result<_, _>>()?)
}

/// Until when kstamp's programs take it that packets of the last wait are received, on the processor where that is latest.
fn last_seen_ns(bench: &mut Bench) -> Result<u64> {
    let softirqs: PerCpuArray<_, [u64; 4]> = map(bench.object(In::Hops), "HOP_SOFTIRQ")?;
    let of_processors = softirqs.get(&0, 0)?;
    let last_ns = of_processors.iter().map(|[.., until_ns]| *until_ns).max();
    last_ns.context("no processor")
}
