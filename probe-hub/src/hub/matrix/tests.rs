use proptest::prelude::*;

use super::*;

const S: u64 = 1_000_000_000;

/// A window of ten seconds. `lost`: forward, backward, unknown.
fn cell(to: u32, end_s: u64, received: u64, lost: [u64; 3], rtt_ns: u64) -> Cell {
    let [lost_forward, lost_backward, lost_unknown] = lost;
    let counts = WireCounts {
        sent: received + lost.iter().sum::<u64>(),
        received,
        lost_forward,
        lost_backward,
        lost_unknown,
        ..WireCounts::default()
    };
    let end_ns = end_s * S;
    Cell::new(PortId(to), end_ns - 10 * S, end_ns, &counts, Some((rtt_ns, 2 * rtt_ns)))
}

fn quiet(to: u32, end_s: u64) -> Cell {
    cell(to, end_s, 10, [0; 3], 100)
}

fn taken(matrix: &mut Matrix, from: u32, cells: &[Cell]) -> Vec<u32> {
    let mut cells = cells.to_vec();
    matrix.take(PortId(from), &mut cells);
    cells.iter().map(|cell| cell.to.0).collect()
}

#[test]
fn a_newer_window_takes_the_place_of_an_older_one() {
    let mut matrix = Matrix::default();
    assert_eq!(taken(&mut matrix, 1, &[quiet(3, 100), quiet(2, 100)]), [2, 3]);
    let before = matrix.version();
    assert_eq!(
        taken(&mut matrix, 1, &[quiet(2, 100), quiet(3, 110), quiet(4, 90)]),
        [3, 4]
    );
    assert_eq!(taken(&mut matrix, 1, &[quiet(2, 90), quiet(3, 100)]), [0; 0]);
    let ends = |matrix: &Matrix| {
        matrix
            .row(PortId(1))
            .iter()
            .map(|cell| cell.end_ns / S)
            .collect::<Vec<_>>()
    };
    assert_eq!(ends(&matrix), [100, 110, 90]);
    let changed: Vec<_> = matrix
        .cells_since(before)
        .map(|(from, cell)| (from.0, cell.to.0))
        .collect();
    assert_eq!(changed, [(1, 3), (1, 4)]);
    assert_eq!(matrix.cells_since(matrix.version()).count(), 0);
    assert_eq!(matrix.cell(PortId(1), PortId(3)).map(|cell| cell.end_ns), Some(110 * S));
    assert_eq!(matrix.cell(PortId(3), PortId(1)), None);
    assert_eq!(matrix.len(), 3);
    matrix.forget(100 * S + FORGET_NS);
    assert_eq!(ends(&matrix), [100, 110]);
}

#[test]
fn the_addresses_of_a_peer_are_one_pair() {
    let mut matrix = Matrix::default();
    taken(
        &mut matrix,
        0,
        &[
            cell(1, 100, 8, [1, 0, 1], 500),
            quiet(2, 100),
            cell(1, 101, 10, [0, 1, 0], 300),
        ],
    );
    let cell = matrix.cell(PortId(0), PortId(1)).copied().unwrap();
    assert_eq!((cell.sent, cell.received, cell.lost()), (21, 18, 3));
    assert_eq!((cell.start_ns(), cell.end_ns), (90 * S, 101 * S));
    assert_eq!((cell.p50_ns(), cell.p99_ns()), (Some(500), Some(1000)));
    assert_eq!(cell.loss(), Some(3.0 / 21.0));
}

#[test]
fn losses_have_the_direction_of_most_of_them() {
    use Direction::{Backward, Forward, Unknown};
    for (lost, want) in [
        ([0, 0, 0], None),
        ([1, 0, 0], Some(Forward)),
        ([1, 2, 0], Some(Backward)),
        ([2, 2, 1], Some(Forward)),
        ([1, 2, 3], Some(Unknown)),
    ] {
        assert_eq!(cell(1, 100, 5, lost, 1).direction(), want, "{lost:?}");
    }
}

#[test]
fn a_pair_without_new_windows_has_no_data() {
    let cell = quiet(1, 100);
    assert_eq!(cell.age_ns(130 * S), 30 * S);
    assert!(!cell.is_stale(130 * S));
    assert!(cell.is_stale(131 * S));
    let minute = Cell {
        length_ns: 60 * S,
        ..cell
    };
    assert!(!minute.is_stale(280 * S));
    assert!(minute.is_stale(281 * S));
    let nothing = Cell::new(PortId(1), 0, 10 * S, &WireCounts::default(), None);
    assert_eq!((nothing.loss(), nothing.p50_ns(), nothing.p99_ns()), (None, None, None));
}

#[test]
fn a_pair_of_hosts_shows_its_worst_ports() {
    let mut matrix = Matrix::default();
    // Ports 0 and 1 are of host 0, and so on; port 9 is of none.
    let host = |port: PortId| (port.0 < 9).then_some(port.0 / 2);
    let slow = cell(3, 100, 10, [0; 3], 900);
    taken(&mut matrix, 0, &[quiet(2, 100), slow, quiet(4, 100), quiet(9, 100)]);
    let before = matrix.version();
    let lossy = cell(2, 100, 9, [1, 0, 0], 50);
    taken(&mut matrix, 1, &[lossy, quiet(3, 100)]);
    taken(&mut matrix, 9, &[quiet(0, 100)]);
    let hosts = |since, now_s| {
        let mut pairs = matrix.hosts_since(since, now_s * S, host);
        pairs.sort_by_key(|pair| (pair.from, pair.to));
        let shown = pairs
            .iter()
            .map(|pair| (pair.from, pair.to, pair.port.0, pair.worst.to.0, pair.pairs));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(hosts(0, 100), [(0, 1, 1, 2, 4), (0, 2, 0, 4, 1)]);
    assert_eq!(hosts(before, 100), [(0, 1, 1, 2, 4)]);
    // What has data is worse than what has none.
    taken(&mut matrix, 0, &[quiet(2, 150)]);
    let pairs = matrix.hosts_since(0, 150 * S, host);
    let fresh = pairs.iter().find(|pair| pair.to == 1).unwrap();
    assert_eq!((fresh.port.0, fresh.worst.to.0), (0, 2));
}

#[test]
fn a_port_has_so_many_peers() {
    let mut matrix = Matrix::default();
    let all = MAX_PEERS as u32;
    let cells: Vec<_> = (0..all).map(|to| quiet(to, 100 + u64::from(to % 7))).collect();
    assert_eq!(taken(&mut matrix, 0, &cells).len(), MAX_PEERS);
    assert_eq!(taken(&mut matrix, 0, &[quiet(all, 99)]), [0; 0]);
    assert_eq!(taken(&mut matrix, 0, &[quiet(all, 101)]), [all]);
    assert_eq!(matrix.len(), MAX_PEERS);
    assert_eq!(matrix.cell(PortId(0), PortId(0)), None);
}

#[test]
fn a_cell_is_as_large_as_it_says() {
    assert_eq!(size_of::<Cell>(), 64);
}

fn batches() -> impl Strategy<Value = Vec<(u32, Vec<Cell>)>> {
    let lost = || prop::array::uniform3(0..3_u64);
    let window = (0..5_u32, 100..104_u64, 0..3_u64, lost(), 1..3_u64);
    let window = window.prop_map(|(to, end, received, lost, rtt)| cell(to, end, received, lost, rtt));
    prop::collection::vec((0..4_u32, prop::collection::vec(window, 0..6)), 1..12)
}

proptest! {
    #[test]
    fn batches_in_any_order_and_number_give_the_same_matrix(
        (batches, again) in batches().prop_flat_map(|batches| {
            let twice = [batches.clone(), batches.clone()].concat();
            (Just(batches), Just(twice).prop_shuffle())
        })
    ) {
        let matrix = |batches: &[(u32, Vec<Cell>)]| {
            let mut matrix = Matrix::default();
            for (from, cells) in batches {
                taken(&mut matrix, *from, cells);
            }
            let unversioned = matrix.cells().map(|(from, cell)| (from, Cell { version: 0, ..*cell }));
            unversioned.collect::<Vec<_>>()
        };
        prop_assert_eq!(matrix(&batches), matrix(&again));
    }
}
