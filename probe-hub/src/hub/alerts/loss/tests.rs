use super::*;
use crate::message::windows::WireCounts;

const S: u64 = 1_000_000_000;
const FROM: PortId = PortId(1);
const TO: PortId = PortId(2);
const PAIR: Pair = (FROM, TO);

/// The window of ten seconds that ends at `end_s`, of 100 probes.
fn window(end_s: u64, lost_forward: u64) -> Cell {
    let counts = WireCounts {
        sent: 100,
        received: 100 - lost_forward,
        lost_forward,
        ..WireCounts::default()
    };
    Cell::new(TO, (end_s - 10) * S, end_s * S, &counts, None)
}

/// The verdict after each window.
fn verdicts(watch: &mut LossWatch, windows: &[(u64, u64)]) -> Vec<Option<Verdict>> {
    let take = |&(end_s, lost): &(u64, u64)| {
        watch.take(FROM, &window(end_s, lost));
        watch.verdicts().remove(&PAIR)
    };
    windows.iter().map(take).collect()
}

fn above(lost: u64, of: u64, since_s: u64) -> Option<Verdict> {
    Some(Verdict::Above(Lossy {
        direction: Direction::Forward,
        lost,
        of,
        since_ns: since_s * S,
    }))
}

#[test]
fn losses_of_three_windows_are_added_up() {
    let below = Some(Verdict::Below);
    for (losses, want) in [
        // 2 % are none too many.
        (&[0, 2, 2, 2][..], &[None, None, None, None][..]),
        (&[2, 4, 3, 0], &[None, None, None, None]),
        (&[9, 0, 0, 9], &[None, None, None, None]),
        (&[0, 10, 3], &[None, above(10, 100, 20), None]),
        (&[4, 3, 3], &[None, None, above(10, 300, 10)]),
        (&[5, 5, 0, 0, 0], &[None, above(10, 200, 10), None, None, below]),
        // It has to fall to half of the limit.
        (
            &[50, 2, 2, 2, 1, 1, 1],
            &[above(50, 100, 10), None, None, None, None, None, below],
        ),
        (
            &[50, 0, 0, 0, 50],
            &[above(50, 100, 10), None, None, below, above(50, 100, 50)],
        ),
    ] {
        let mut watch = LossWatch::default();
        let windows: Vec<_> = losses
            .iter()
            .zip(2..)
            .map(|(&lost, number)| (10 * number, lost))
            .collect();
        assert_eq!(verdicts(&mut watch, &windows), want, "{losses:?}");
    }
}

#[test]
fn only_pairs_with_losses_take_memory() {
    let mut watch = LossWatch::default();
    verdicts(&mut watch, &[(20, 0)]);
    assert!(watch.tracks.is_empty());
    verdicts(&mut watch, &[(30, 1)]);
    assert_eq!(watch.tracks.len(), 1);
    verdicts(&mut watch, &[(40, 0), (50, 0), (60, 0)]);
    assert!(watch.tracks.is_empty());
    verdicts(&mut watch, &[(70, 1)]);
    watch.restarted(TO, 70 * S);
    watch.forget(70 * S + FORGET_NS + 1);
    assert!(watch.tracks.is_empty() && watch.restarts.is_empty());
}

#[test]
fn a_restart_of_either_port_is_no_loss() {
    for port in [FROM, TO] {
        let mut watch = LossWatch::default();
        watch.restarted(port, 15 * S);
        assert_eq!(verdicts(&mut watch, &[(20, 50), (30, 50)]), [None, above(50, 100, 20)]);
        // What was above the limit before may be so again.
        watch.restarted(port, 35 * S);
        assert_eq!(verdicts(&mut watch, &[(40, 50), (50, 50)]), [None, above(50, 100, 40)]);
    }
}

#[test]
fn a_silent_pair_answers_in_a_window_without_loss() {
    let mut watch = LossWatch::default();
    let silent = HashSet::from([PAIR]);
    assert_eq!(verdicts(&mut watch, &[(20, 100)]), [above(100, 100, 10)]);
    watch.set_silent(&silent, 25 * S);
    assert_eq!(
        verdicts(&mut watch, &[(30, 100), (40, 0)]),
        [None, Some(Verdict::Answers { start_ns: 30 * S })]
    );
    // The windows of the silence do not count afterwards.
    watch.set_silent(&HashSet::new(), 45 * S);
    assert_eq!(verdicts(&mut watch, &[(50, 60), (60, 60)]), [None, above(60, 100, 50)]);
}
