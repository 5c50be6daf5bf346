use probe_host::process::Usage;

use super::*;
use crate::message::windows;

const S: u64 = 1_000_000_000;
const NOW: u64 = 1_000_000 * S;

fn window(peer: &str, received: u64, lost_forward: u64) -> windows::Window {
    windows::Window {
        address: vec![10, 0, 0, 1],
        peer: peer.to_owned(),
        counts: Some(WireCounts {
            sent: received + lost_forward,
            received,
            lost_forward,
            ..WireCounts::default()
        }),
        rtt: Some(windows::Delay {
            min: 900,
            p50: 1000,
            p99: 2000,
            count: received,
            histogram: Some(windows::Histogram {
                schema: 6,
                positive: vec![-1000, 1, 1, 1, 2, 1, 1, 5],
                positive_counts: vec![1, 2, 3, 4, 3, 2, 1, 1],
                ..windows::Histogram::default()
            }),
            ..windows::Delay::default()
        }),
        probes: vec![windows::Probe::default(); 2],
        ..windows::Window::default()
    }
}

fn batch(windows: Vec<windows::Window>) -> windows::Batch {
    windows::Batch {
        boot: 1,
        number: 1,
        start_ns: NOW - 10 * S,
        end_ns: NOW,
        windows,
    }
}

/// `pN/p` has the number N.
fn id(name: &PortName) -> Option<PortId> {
    name.host.as_str().strip_prefix('p')?.parse().ok().map(PortId)
}

fn read(reader: &mut Reader, batch: &windows::Batch) -> Result<Vec<u32>, Wrong> {
    reader.read(batch.encode_to_vec().into(), PortId(0), id, NOW)?;
    Ok(reader.cells.iter().map(|cell| cell.to.0).collect())
}

#[test]
fn a_batch_gives_the_cells_of_the_ports_that_are_known() {
    let mut reader = Reader::default();
    let group = windows::Window {
        group: true,
        ..window("p4/p", 1, 0)
    };
    let windows = ["p1/p", "x/p", "", "p0/p", "p2/p", "no name"].map(|peer| window(peer, 9, 1));
    let batch = batch([windows.to_vec(), vec![group]].concat());
    for _ in 0..2 {
        assert_eq!(read(&mut reader, &batch), Ok(vec![1, 2]));
        assert_eq!(reader.unknown, 3);
    }
    let cell = reader.cells[0];
    assert_eq!((cell.sent, cell.received, cell.lost_forward), (10, 9, 1));
    assert_eq!((cell.start_ns(), cell.end_ns), (NOW - 10 * S, NOW));
    assert_eq!((cell.p50_ns(), cell.p99_ns()), (Some(1000), Some(2000)));
}

#[test]
fn impossible_batches_are_refused() {
    let right = batch(vec![window("p1/p", 9, 1)]);
    let change = |change: fn(&mut windows::Batch)| {
        let mut batch = right.clone();
        change(&mut batch);
        batch
    };
    let future = NOW + CLOCK_TOLERANCE_NS;
    assert!(future == NOW + 10 * S);
    for (batch, want) in [
        (right.clone(), Ok(vec![1])),
        (change(|batch| batch.end_ns = NOW + 10 * S), Ok(vec![1])),
        (change(|batch| batch.end_ns = NOW + 10 * S + 1), Err(Wrong::Times)),
        (change(|batch| batch.end_ns = batch.start_ns), Err(Wrong::Times)),
        (change(|batch| batch.end_ns = batch.start_ns - 1), Err(Wrong::Times)),
        (change(|batch| batch.start_ns -= 3600 * S), Err(Wrong::Times)),
        (change(|batch| (batch.start_ns, batch.end_ns) = (1, 2)), Ok(vec![])),
        (
            change(|batch| batch.windows[0].counts.as_mut().unwrap().sent -= 1),
            Err(Wrong::Counts),
        ),
        (
            change(|batch| batch.windows[0].counts.as_mut().unwrap().lost_unknown = u64::MAX),
            Err(Wrong::Counts),
        ),
        (
            change(|batch| batch.windows = vec![batch.windows[0].clone(); MAX_WINDOWS + 1]),
            Err(Wrong::Windows),
        ),
    ] {
        assert_eq!(
            read(&mut Reader::default(), &batch),
            want,
            "{:?} {:?}",
            batch.start_ns,
            batch.end_ns
        );
    }
    let mut reader = Reader::default();
    for wrong in [&b"no batch"[..], &right.encode_to_vec()[..40]] {
        assert_eq!(
            reader.read(Bytes::copy_from_slice(wrong), PortId(0), id, NOW),
            Err(Wrong::Form)
        );
    }
    assert_eq!(read(&mut reader, &right), Ok(vec![1]));
}

/// Says how much CPU time 1,000 batches of 32 windows take: those of a second in a fleet of 10,000 ports.
#[test]
#[ignore = "a figure, to be read from a release build"]
fn time_of_a_second_of_batches() {
    let windows = (1..=32).map(|peer| window(&format!("p{peer}/port1"), 100, 0));
    let bytes = Bytes::from(batch(windows.collect()).encode_to_vec());
    let (mut reader, mut matrix) = (Reader::default(), crate::hub::Matrix::default());
    let mut losses = crate::hub::alerts::loss::LossWatch::default();
    let cpu = || Usage::now().unwrap().cpu;
    let before = cpu();
    for port in 0..10_000 {
        reader.read(bytes.clone(), PortId(100 + port), id, NOW).unwrap();
        matrix.take(PortId(100 + port), &mut reader.cells);
        for cell in &reader.cells {
            losses.take(PortId(100 + port), cell);
        }
    }
    let spent = (cpu() - before) / 10;
    println!("{} bytes a batch; {spent:?} of a CPU for 1,000 batches", bytes.len());
}
