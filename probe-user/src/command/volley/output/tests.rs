use probe_core::volley::difference;

use super::*;
use crate::output::fixtures;

pub fn start() -> VolleyStart {
    let start = fixtures::start();
    VolleyStart {
        version: start.version.clone(),
        interface: "port1".to_owned(),
        peer: fixtures::ip("10.1.1.6"),
        peer_name: Some("h2:<port2>".to_owned()),
        port: 1910,
        mode: Mode::Volley,
        mode_reason: "the device takes frames from XDP programs".to_owned(),
        path: path(Mode::Volley),
        peer_attach: Some(AttachMode::XdpNative),
        volley_limit: Some(100_000),
        forced: false,
        rate_limit: Some(100_000),
        balls: Some(16),
        batch: None,
        burst: Some(BurstFields {
            probes: 25,
            period_ns: 250_000,
        }),
        timeout_ns: 1_000_000_000,
        duration_ns: 5_000_000_000,
        every_ns: 1_000_000_000,
        samples_every: None,
        clock: start.clock,
        kernel: start.kernel.clone(),
        time: start.time,
    }
}

/// A run up to `at_ns`: so many replies of 2 and 9 µs, and lost probes.
pub fn snapshot(at_ns: u64, [fast, slow, lost, pending]: [u64; 4]) -> Snapshot {
    let mut rtt = Histogram::default();
    (0..fast).for_each(|_| rtt.record(2_000));
    (0..slow).for_each(|_| rtt.record(9_000));
    let totals = Totals {
        sent: fast + slow + lost + pending,
        received: fast + slow,
        lost,
        lost_forward: lost,
        pending,
        duplicates: 1,
        ..Totals::default()
    };
    Snapshot {
        at_ns,
        totals,
        residence: rtt.clone(),
        forward: Some(rtt.clone()),
        backward: Some(rtt.clone()),
        rtt,
        clock_step_ns: None,
    }
}

pub fn results() -> VolleyResults {
    let part = difference(
        &snapshot(2_000_000_000, [200, 20, 3, 4]),
        &snapshot(1_000_000_000, [100, 10, 0, 2]),
    );
    let start = fixtures::start().time;
    let end = Utc {
        unix_ns: start.unix_ns + 1_000_000_000,
    };
    VolleyResults::new(fixtures::ip("10.1.1.6"), Mode::Volley, &part, 2, (start, end))
}

pub fn summary() -> VolleySummary {
    VolleySummary {
        results: results(),
        cpu_ns: Some(57_500),
        self_queueing: true,
        notes: vec!["a note".to_owned()],
    }
}

pub fn sample() -> SampleFields {
    let sample = VolleySample {
        sequence: 7,
        t1_ns: 1_000,
        t2_ns: 1_200,
        t3_ns: 1_500,
        t4_ns: 1_700,
        rtt_ns: Some(400),
    };
    SampleFields::new(fixtures::ip("10.1.1.6"), Mode::Train, &sample)
}

fn written(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_row_has_what_came_in_its_interval() {
    let counts = results().counts;
    assert_eq!((counts.sent, counts.received, counts.lost), (115, 110, 3));
    assert_eq!((counts.pending, counts.pending_before), (4, 2));
    assert_eq!(
        counts.sent + counts.pending_before,
        counts.received + counts.lost + counts.pending
    );
    assert_eq!((counts.lost_forward, counts.duplicates), (3, 0));
    let rtt = results().rtt_ns.unwrap();
    assert_eq!((results().rate, rtt.count), (115, 110));
    assert!(rtt.p50.abs_diff(2_000) < 20, "{rtt:?}");
}

#[test]
fn text_says_mode_agreement_and_self_queueing() {
    let text = written(|out| text::start(&start(), out));
    assert_eq!(
        text,
        "VOLLEY 10.1.1.6 (h2:<port2>) port 1910 by port1: it agrees to 100000 probes a second\n\
         mode volley: the device takes frames from XDP programs\n\
         at most 100000 probes a second, 16 probes in flight, bursts of 25 each 250 µs, for 5s\n\n     \
         until       sent     lost   probes/s    RTT min        p50        p99      p99.9        max\n"
    );
    let forced = VolleyStart {
        volley_limit: None,
        rate_limit: None,
        balls: None,
        burst: None,
        ..start()
    };
    let text = written(|out| text::start(&forced, out));
    assert!(text.contains("it did not say whether it agrees (--force)"), "{text}");
    assert!(text.contains("no rate limit, continuous, for 5s"), "{text}");
    let row = written(|out| text::row(&results(), 2_000_000_000, out));
    assert!(row.starts_with("    2.00 s        115        3        115 "), "{row}");
    let mut summary = summary();
    summary.results.counts.refused.wrong_t1 = 2;
    let few = written(|out| text::summary(&start(), &summary, out));
    assert!(!few.contains("CPU time"), "{few}");
    summary.results.counts.sent = 200_000;
    summary.cpu_ns = Some(100_000_000);
    let text = written(|out| text::summary(&start(), &summary, out));
    for words in [
        "--- 10.1.1.6 port 1910: volley ---",
        "200000 probes sent, 110 replies, <0.01 % lost (3 forward, 0 backward, 0 unknown), 4 still waiting\n",
        "packets that answered no probe: 2 with a wrong T1\n",
        "115 probes a second, 0.50 s of CPU time per million on this machine, all processes included\n",
        "rtt min/mean/p50/p99/p99.9/max/stddev = ",
        "forward (same clock) min/",
        "note: a note\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn the_page_is_self_contained_and_escapes_peer_names() {
    let mut map = heat::HeatMap::new(10_000_000);
    for tick in 0..200 {
        let slow = if tick % 50 == 49 { 40 } else { 1 };
        map.add(
            tick * 10_000_000,
            1_000,
            tick / 190,
            [(2_000, 1_000 - slow), (9_000, slow)].into_iter(),
        );
    }
    let page = written(|out| html::write(&start(), &summary(), &map, out));
    assert!(page.contains("&lt;port2&gt;") && !page.contains("<port2>") && !page.contains("<script"));
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg ").count(), 2);
    assert!(page.contains("var(--h7)") && page.contains("a note") && !page.contains("#010"));
    let page = written(|out| html::write(&start(), &summary(), &heat::HeatMap::new(1), out));
    assert!(!page.contains("<svg ") && page.contains("</html>"));
}
