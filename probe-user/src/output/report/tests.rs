use std::collections::BTreeMap;

use probe_core::agent::event::Found;
use probe_core::session::Outcome;
use probe_core::stats::report::Path;
use proptest::prelude::*;

use super::model::{MAX_EVENTS, MAX_SESSIONS, Model, ModelError};
use super::page::{File, MAX_NODES, MAX_PLOTTED, write};
use super::record::Record;
use super::session::Source;
use crate::output::fixtures::{self, exported, jsonl};
use crate::output::jsonl::{Jsonl, record};
use crate::output::left_out::{self, LeftOut};
use crate::output::model::hops::{Hops, Outlier};
use crate::output::model::{Event, InterfaceEvent, PeerEvent, Results, Sample};
use crate::output::time::Utc;

fn added(model: &mut Model, lines: &str) {
    for line in lines.lines() {
        let (agent, record) = Record::read(line.as_bytes(), None).unwrap_or_else(|error| panic!("{error}: {line}"));
        model.add(&agent, record).unwrap();
    }
}

fn by(agent: &str, events: impl IntoIterator<Item = Event>) -> String {
    let agent = agent.to_owned();
    exported(Jsonl { agent }, events)
}

/// Results of a window that begins `start_s` after the first one.
fn window(peer: &str, name: Option<&str>, start_s: u64) -> Results {
    let later = |time: Utc, by_s: u64| Utc {
        unix_ns: time.unix_ns + by_s * 1_000_000_000,
    };
    let good = fixtures::good();
    Results {
        peer: fixtures::ip(peer),
        peer_name: name.map(str::to_owned),
        start: later(good.start, start_s),
        end: later(good.start, start_s + 10),
        ..good
    }
}

fn sample(seq: u32, state: Outcome) -> Sample {
    let sent = Utc {
        unix_ns: fixtures::good().start.unix_ns + u64::from(seq) * 1_000_000,
    };
    let mut sample = Sample::new(fixtures::ip("10.1.1.6"), Path::Unicast, seq, Some(sent), None, state);
    sample.rtt_ns = (state == Outcome::Ok).then_some(u64::from(seq));
    sample
}

fn page(model: &Model) -> String {
    let mut out = Vec::new();
    let files = [File {
        name: "a<b>.jsonl".to_owned(),
        records: 7,
    }];
    write(model, &files, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_record_of_an_agent_is_read_back() {
    let peer = |event| fixtures::peer_change(event, Found::Multicast, Some("h2:p2"));
    let events = [
        Event::Start(fixtures::start()),
        Event::Attach(fixtures::attach_change()),
        Event::Interface(fixtures::interface_change(InterfaceEvent::Joined)),
        Event::Peer(peer(PeerEvent::Down)),
        Event::Peer(peer(PeerEvent::Moved)),
        Event::Clock(fixtures::clock_step(None, 1_000)),
        Event::Windows(fixtures::windows(vec![
            fixtures::good(),
            fixtures::troubled(),
            fixtures::silent(),
        ])),
        Event::Hops(fixtures::hops()),
        Event::Hops(fixtures::unseen_hops()),
        Event::Outlier(fixtures::outlier()),
        Event::Outlier(fixtures::unknown_outlier()),
        Event::End(fixtures::end(
            vec![fixtures::good(), fixtures::troubled()],
            [("collected", 1)],
        )),
    ];
    let mut lines = exported(jsonl(), events);
    let mut out = Vec::new();
    left_out::json("h1:p1")(&LeftOut::now(BTreeMap::from([("sample", 3)])), &mut out).unwrap();
    record("sample", "h1:p1", &sample(1, Outcome::Lost), &mut out).unwrap();
    lines += &String::from_utf8(out).unwrap();
    let mut model = Model::default();
    added(&mut model, &lines);
    assert_eq!(model.agents().collect::<Vec<_>>(), ["h1:p1"]);
    let texts: Vec<_> = model.events().0.map(|(event, _)| event.text.clone()).collect();
    for expected in [
        "starts",
        "receives by xdp-generic from now on: p1 dropped the replies that native XDP transmitted",
        "interface p1: joined",
        "peer 10.1.1.6 (h2:p2) down: silent",
        "peer 10.1.1.6 (h2:p2) moved from 10.1.1.7",
        "this host's clock was stepped by 1.00 µs",
        "records left out so far, because the reader was too slow: 3 × sample",
    ] {
        assert!(texts.iter().any(|text| text == expected), "{expected}: {texts:?}");
    }
    let pairs = model.pairs();
    assert_eq!(pairs.len(), 3);
    let good = pairs.iter().find(|pair| pair.to == "h2:p2").unwrap().main();
    let (part, source) = good.total();
    assert_eq!((part.counts.sent, source), (20, Source::Summary));
    assert!(!part.rtt.unwrap().is_merged);
    assert_eq!(good.clock, Some(("same-clock".to_owned(), None)));
}

#[test]
fn each_bad_line_has_its_message() {
    let sound = by("a", [Event::Windows(fixtures::windows(vec![fixtures::good()]))]);
    let sound = sound.trim_end();
    let cases = [
        ("no text".to_owned(), "not a JSON object with `type`: expected ident"),
        ("7".to_owned(), "not a JSON object with `type`: invalid type"),
        ("{}".to_owned(), "missing field `type`"),
        (sound[..40].to_owned(), "the line ends in the middle of a record"),
        (
            sound.replace("\"agent\":\"a\",", ""),
            "no `agent`, because an older kstamp wrote it",
        ),
        (
            r#"{"type":"link","agent":"a"}"#.to_owned(),
            "of type 'link', and kstamp report reads those of agent",
        ),
        (
            r#"{"type":"summary","agent":"a","switches":1}"#.to_owned(),
            "not a 'summary' of kstamp agent, reflect or ping: missing field",
        ),
        (
            sound.replace("\"sent\":20", "\"sent\":21"),
            "`sent` is not `received` + `lost` + `pending`",
        ),
        (
            sound.replace("\"lost\":0", "\"lost\":18446744073709551615"),
            "`sent` is not",
        ),
        (
            sound.replace("\"end\":\"2026", "\"end\":\"2025"),
            "`end` is before `start`",
        ),
        (
            sound.replace("\"end\":\"2026-11", "\"end\":\"2026-13"),
            "is not a time of RFC 3339 after 1970",
        ),
        (sound.replace("10.1.1.6", "h2"), "invalid IP address syntax"),
        (sound.replace("unicast", "broadcast"), "unknown variant `broadcast`"),
    ];
    for (line, expected) in cases {
        let error = Record::read(line.as_bytes(), None).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.lines().count() == 1,
            "{line}: {error}"
        );
    }
    let unnamed = sound.replace("\"agent\":\"a\",", "");
    assert_eq!(Record::read(unnamed.as_bytes(), Some("named")).unwrap().0, "named");
    assert_eq!(
        Record::read(sound.as_bytes(), Some("named")).unwrap().0,
        "a",
        "a record knows better"
    );
    let later = sound.replacen('{', r#"{"of_a_later_version":[1],"#, 1);
    assert!(Record::read(later.as_bytes(), None).is_ok());
}

#[test]
fn files_of_two_agents_become_a_matrix() {
    let mut model = Model::default();
    let windows = |windows| Event::Windows(fixtures::windows(windows));
    added(
        &mut model,
        &by("h1:p1", [windows(vec![window("10.1.1.6", Some("h2:p2"), 0)])]),
    );
    // The other agent knows no names, but its peer's start record has the address.
    added(&mut model, &by("h2:p2", [windows(vec![window("10.1.1.5", None, 0)])]));
    added(&mut model, &by("h1:p1", [Event::Start(fixtures::start())]));
    let pairs: Vec<_> = model
        .pairs()
        .iter()
        .map(|pair| (pair.from.to_owned(), pair.to.clone()))
        .collect();
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(pairs, [pair("h1:p1", "h2:p2"), pair("h2:p2", "h1:p1")]);
    let page = page(&model);
    assert!(page.contains("<th scope=\"row\">h1:p1</th><td></td><td><i"), "{page}");
    assert!(
        page.contains("<a href=\"#pair-2\">161 µs / 1.28 ms</a><br><small>0 % lost</small>"),
        "{page}"
    );
}

#[test]
fn an_address_of_two_agents_names_neither() {
    let mut model = Model::default();
    for agent in ["h1:p1", "h3:p3"] {
        added(&mut model, &by(agent, [Event::Start(fixtures::start())]));
    }
    let windows = Event::Windows(fixtures::windows(vec![window("10.1.1.5", None, 0)]));
    added(&mut model, &by("h2:p2", [windows]));
    assert_eq!(model.pairs()[0].to, "10.1.1.5");
}

#[test]
fn windows_add_up_and_quantiles_of_several_are_marked() {
    let mut model = Model::default();
    let windows = (0..3).map(|n| Event::Windows(fixtures::windows(vec![window("10.1.1.6", None, n * 10)])));
    added(&mut model, &by("h1:p1", windows));
    let pairs = model.pairs();
    let (part, source) = pairs[0].main().total();
    assert_eq!(
        (part.counts.sent, part.counts.received, source),
        (60, 60, Source::Windows)
    );
    let band = part.rtt.unwrap();
    assert!(band.is_merged);
    assert_eq!(
        (band.quantiles.min, band.quantiles.p50, band.quantiles.count),
        (140_200, 161_400, 60)
    );
    assert_eq!(pairs[0].main().delays().len(), 3, "a column for each window");
    assert!(page(&model).contains("<td>~161 µs</td>"));
}

#[test]
fn samples_are_counted_by_state_and_become_a_distribution() {
    let mut model = Model::default();
    let mut out = Vec::new();
    let states = [
        Outcome::Ok,
        Outcome::Ok,
        Outcome::Ok,
        Outcome::Lost,
        Outcome::Late,
        Outcome::Duplicate,
    ];
    for (seq, state) in (1_000..).zip(states) {
        record("sample", "h1:p1", &sample(seq, state), &mut out).unwrap();
    }
    added(&mut model, &String::from_utf8(out).unwrap());
    let pairs = model.pairs();
    let (part, source) = pairs[0].main().total();
    let counts = part.counts;
    assert_eq!(source, Source::Samples);
    assert_eq!(
        (counts.sent, counts.received, counts.lost, counts.unknown),
        (4, 3, 1, 1)
    );
    assert_eq!((counts.late, counts.duplicates), (1, 1));
    let cumulative = pairs[0].main().cumulative();
    assert_eq!(
        cumulative.iter().map(|(delay, _)| *delay).collect::<Vec<_>>(),
        [1_000, 1_001, 1_002]
    );
    assert_eq!(cumulative[2].1, 1.0);
    let without_time = r#"{"type":"sample","agent":"a","peer":"10.1.1.6","path":"unicast","state":"ok"}"#;
    let (agent, record) = Record::read(without_time.as_bytes(), None).unwrap();
    assert_eq!(Model::default().add(&agent, record), Err(ModelError::NoTime));
}

#[test]
fn the_page_shows_everything_and_needs_nothing_else() {
    let mut model = Model::default();
    let events = [
        Event::Start(fixtures::start()),
        Event::Windows(fixtures::windows(vec![
            fixtures::good(),
            fixtures::troubled(),
            fixtures::silent(),
        ])),
        Event::Windows(fixtures::windows(vec![window(
            "10.1.1.9",
            Some("<script>alert(1)</script>"),
            0,
        )])),
    ];
    added(&mut model, &by("h1:p1", events));
    let page = page(&model);
    for expected in [
        "<h2>Matrix</h2>",
        "Loss map",
        "<h2>Events</h2>",
        "<h2>How it was measured</h2>",
        "no reply",
        "a&lt;b&gt;.jsonl",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    // A loss map; over time and a distribution of each pair that had replies.
    assert_eq!(page.matches("<svg ").count(), 1 + 2 * 3);
    assert_eq!(
        page.matches("<svg aria-label=").count(),
        1 + 2 * 3,
        "each picture has a name"
    );
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("@import") && !page.contains("url("));
    assert!(
        !page.replace("http://www.w3.org/2000/svg", "").contains("http"),
        "{page}"
    );
    assert!(!page.contains("#01"), "a colour that the page does not define");
    let empty = self::page(&Model::default());
    assert!(empty.contains("These files have no results"));
}

#[test]
fn sessions_and_events_are_bounded() {
    let mut model = Model::default();
    let line = |peer: usize| {
        format!(
            r#"{{"type":"sample","agent":"a","peer":"10.0.{}.{}","path":"unicast","t1_ns":1,"state":"lost"}}"#,
            peer / 256,
            peer % 256
        )
    };
    let add = |model: &mut Model, line: &str| {
        let (agent, record) = Record::read(line.as_bytes(), None).unwrap();
        model.add(&agent, record)
    };
    (0..MAX_SESSIONS).for_each(|peer| add(&mut model, &line(peer)).unwrap());
    assert_eq!(add(&mut model, &line(MAX_SESSIONS)), Err(ModelError::TooManySessions));
    add(&mut model, &line(0)).unwrap();
    for second in 0..MAX_EVENTS + 5 {
        let time = Utc {
            unix_ns: second as u64 * 1_000_000_000,
        };
        let line = format!(r#"{{"type":"clock","agent":"a","by_ns":1,"time":"{time}"}}"#);
        add(&mut model, &line).unwrap();
    }
    let (events, left_out) = model.events();
    assert_eq!((events.len(), left_out), (MAX_EVENTS, 5));
}

#[test]
fn any_numbers_make_a_page() {
    let extreme = |value: &str, time: &str| {
        format!(
            r#"{{"type":"window","agent":"a","peer":"::1","path":"group","start":"{time}","end":"2554-01-01T00:00:00Z","sent":{value},"received":{value},"lost":0,"pending":0,"lost_forward":{value},"lost_backward":0,"lost_unknown":0,"late":0,"duplicates":0,"reordered":0,"send_failed":0,"rtt_ns":{{"min":-9223372036854775808,"p50":0,"p90":9223372036854775807,"p99":1,"p999":0,"max":9223372036854775807,"count":{value}}}}}"#
        )
    };
    let mut model = Model::default();
    for value in ["18446744073709551615", "0", "18446744073709551615"] {
        added(&mut model, &extreme(value, "1970-01-01T00:00:00Z"));
    }
    added(
        &mut model,
        r#"{"type":"sample","agent":"a","peer":"::1","path":"group","t1_ns":18446744073709551615,"rtt_ns":18446744073709551615,"state":"ok"}"#,
    );
    added(
        &mut model,
        r#"{"type":"sample","agent":"a","peer":"::1","path":"group","t1_ns":0,"rtt_ns":0,"state":"ok"}"#,
    );
    assert!(page(&model).contains("</html>"));
}

proptest! {
    #[test]
    fn no_line_panics(line: Vec<u8>) {
        let _ = Record::read(&line, None);
    }

    #[test]
    fn a_changed_line_is_read_or_refused(at in 0..2_000_usize, byte: u8) {
        let mut line = by("a", [Event::Windows(fixtures::windows(vec![fixtures::troubled()]))]).into_bytes();
        let at = at % line.len();
        line[at] = byte;
        match Record::read(&line, None) {
            Ok((agent, record)) => prop_assert!(Model::default().add(&agent, record).is_ok()),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }
}

#[test]
fn plots_and_the_matrix_are_bounded_and_say_what_is_left_out() {
    let mut model = Model::default();
    for number in 0..MAX_PLOTTED + 5 {
        let results = vec![window("10.9.9.9", Some("aa"), 0)];
        added(
            &mut model,
            &by(
                &format!("agent{number:03}"),
                [Event::Windows(fixtures::windows(results))],
            ),
        );
    }
    let page = page(&model);
    assert_eq!(page.matches("<section id=\"pair-").count(), MAX_PLOTTED);
    assert_eq!(
        page.matches("href=\"#pair-").count(),
        MAX_NODES,
        "a link for each cell of the only peer"
    );
    assert!(page.contains("5 further pairs without plots"));
    let matrix = page
        .split("class=\"matrix\"")
        .nth(1)
        .unwrap()
        .split("</table>")
        .next()
        .unwrap();
    let head = matrix.split("</thead>").next().unwrap();
    assert_eq!(matrix.matches("<th scope=\"row\">").count(), MAX_NODES);
    assert_eq!(head.matches("<th scope=\"col\">").count(), 1 + MAX_NODES);
    // 205 agents in the rows; those and their peer in the columns.
    let hidden = MAX_PLOTTED + 5 - MAX_NODES;
    let line = format!("{hidden} rows and {} columns left out of the matrix", hidden + 1);
    assert!(page.contains(&line), "{line}");
}

#[test]
fn a_report_splits_the_round_trips_and_lists_the_longest() {
    let mut model = Model::default();
    let later = |hops: Hops, by_s: u64| Hops {
        end: Utc {
            unix_ns: hops.end.unix_ns + by_s * 1_000_000_000,
        },
        ..hops
    };
    let mut events = vec![
        Event::Windows(fixtures::windows(vec![fixtures::good()])),
        Event::Hops(fixtures::troubled_hops()),
        Event::Hops(later(fixtures::hops(), 10)),
    ];
    for seq in 0..30 {
        events.push(Event::Outlier(Outlier {
            seq,
            elapsed_ns: 1_000_000 * u64::from(seq + 1),
            ..fixtures::outlier()
        }));
    }
    added(&mut model, &by("h1:p1", events));
    let page = page(&model);
    for wanted in [
        "<div class=\"bar\" role=\"img\" aria-label=\"own switch 24.09 µs",
        "<td class=\"words\">vxlan_sys_4789 → peer's port</td>",
        "<th>backward p99</th>",
        "<td class=\"words\">7 forward, 2 backward</td>",
        "<p class=\"notes\">3 probes lost in an unknown place.</p>",
        "<td>30.00 ms</td><td>600 µs</td><td class=\"words\">4.10 ms in far switch, forward, ordinarily 37.00 µs; cause: upcall of 4.05 ms</td>",
        "<p class=\"notes\">10 faster outliers not listed.</p>",
    ] {
        assert!(page.contains(wanted), "no {wanted} in {page}");
    }
    assert!(!page.contains("<td>10.00 ms</td>"));
    let mut without = Model::default();
    added(
        &mut without,
        &by("h1:p1", [Event::Windows(fixtures::windows(vec![fixtures::good()]))]),
    );
    assert!(!self::page(&without).contains("class=\"bar\""));
}

#[test]
fn parts_of_windows_add_up_to_those_of_the_run() {
    let (mut whole, troubled) = (fixtures::hops(), fixtures::troubled_hops());
    let parts = whole.parts.len();
    whole.add(&troubled);
    assert_eq!((whole.both_halves, whole.lost, whole.outliers), (35, 14, 5));
    assert_eq!(whole.parts.len(), parts, "each once");
    let [before, after] = [fixtures::hops(), whole.clone()].map(|hops| hops.shares());
    assert_eq!(before, after, "the same means");
    // A place where only losses are known.
    let mut near = fixtures::near_hops();
    near.add(&troubled);
    assert_eq!(near.parts.len(), parts);
    assert!(near.parts.is_sorted_by_key(|part| part.part));
}
