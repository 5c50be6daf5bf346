use super::*;

const S: u64 = 1_000_000_000;

fn port(name: &str) -> PortName {
    name.parse().unwrap()
}

fn silent(from: &str, to: &str, direction: Option<Direction>) -> Silent {
    Silent {
        from: port(from),
        to: port(to),
        since_ns: S,
        direction,
        has_restarted: false,
    }
}

/// Hosts and for how many seconds they have been silent.
fn hosts(silent_s: &[(&str, u64)]) -> BTreeMap<HostName, HostLife> {
    let life = |&(host, silent_s): &(&str, u64)| {
        let silent_ns = silent_s * S;
        (host.parse().unwrap(), HostLife { silent_ns })
    };
    silent_s.iter().map(life).collect()
}

fn well(_: &PortName, _: &PortName) -> PairLife {
    PairLife {
        is_present: true,
        is_measured: true,
    }
}

/// What has changed: `+` raised or `-` resolved, kind and subject.
fn changes(alerts: &mut Alerts) -> Vec<String> {
    let line = |change: &Change| {
        let sign = if matches!(change, Change::Raised(_)) { '+' } else { '-' };
        let alert = change.alert();
        let end = alert.end.map(|end| format!(" {end:?}")).unwrap_or_default();
        format!("{sign}{} {}{end}", alert.kind, alert.subject)
    };
    alerts.changes().iter().map(line).collect()
}

const ALIVE: &[(&str, u64)] = &[("a", 1), ("b", 1)];
const B_DOWN: &[(&str, u64)] = &[("a", 1), ("b", 16)];

#[test]
fn a_silent_pair_is_raised_once_with_its_direction() {
    let mut alerts = Alerts::default();
    alerts.silent(silent("a/p", "b/p", Some(Direction::Backward)), 5 * S);
    alerts.silent(silent("a/p", "b/p", Some(Direction::Forward)), 6 * S);
    let raised: Vec<_> = alerts.raised().cloned().collect();
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0].direction, Some(Direction::Backward));
    assert_eq!(raised[0].text, "b/p does not answer a/p: its replies do not come back");
    assert_eq!(raised[0].id, "silent a/p -> b/p 1000000000");
    alerts.tick(&hosts(ALIVE), well, 7 * S);
    assert_eq!(changes(&mut alerts), ["+silent a/p -> b/p"]);
    alerts.answering(port("a/p"), port("b/p"), 9 * S, 9 * S);
    alerts.answering(port("a/p"), port("b/p"), 10 * S, 10 * S);
    assert_eq!(changes(&mut alerts), ["-silent a/p -> b/p Recovered"]);
    assert_eq!(alerts.raised().count(), 0);
    assert_eq!(alerts.resolved().next().and_then(|alert| alert.until_ns), Some(9 * S));
}

#[test]
fn old_news_resolve_nothing() {
    let mut alerts = Alerts::default();
    alerts.silent(silent("a/p", "b/p", Some(Direction::Backward)), 5 * S);
    alerts.answering(port("a/p"), port("b/p"), S, 6 * S);
    assert_eq!(alerts.raised().count(), 1);
    alerts.answering(port("a/p"), port("b/p"), S + 1, 6 * S);
    assert_eq!(alerts.raised().count(), 0);
}

#[test]
fn a_peer_that_could_not_be_asked_is_shown_when_it_lives_or_after_a_time() {
    let heard = |alerts: &mut Alerts, beat_s: u64, now_s: u64| {
        alerts.tick(&hosts(&[("a", 1), ("b", now_s - beat_s)]), well, now_s * S);
        !alerts.changes().is_empty()
    };
    let held = || {
        let mut alerts = Alerts::default();
        alerts.silent(silent("a/p", "b/p", None), 5 * S);
        assert_eq!(alerts.raised().count(), 0);
        alerts
    };
    let mut alerts = held();
    assert!(!heard(&mut alerts, 4, 9));
    assert!(heard(&mut alerts, 9, 9));
    // Its heartbeats are late, but not late enough for a host that is down.
    let mut alerts = held();
    assert!(!heard(&mut alerts, 5, 20));
    alerts.answering(port("a/p"), port("b/p"), 20 * S, 20 * S);
    assert!(!heard(&mut alerts, 12, 25));
    let mut alerts = held();
    assert!(heard(&mut alerts, 12, 25));
}

#[test]
fn a_peer_that_has_restarted_has_time_to_answer() {
    let mut alerts = Alerts::default();
    let restarted = Silent {
        has_restarted: true,
        ..silent("a/p", "b/p", Some(Direction::Forward))
    };
    alerts.silent(restarted, 5 * S);
    alerts.tick(&hosts(ALIVE), well, 24 * S);
    assert_eq!(changes(&mut alerts), [""; 0]);
    alerts.tick(&hosts(ALIVE), well, 25 * S);
    assert_eq!(changes(&mut alerts), ["+silent a/p -> b/p"]);
}

#[test]
fn one_alert_stands_for_all_pairs_to_a_host_that_is_down() {
    let mut alerts = Alerts::default();
    alerts.silent(silent("a/p", "b/p", Some(Direction::Forward)), 5 * S);
    alerts.silent(silent("a/q", "b/p", None), 5 * S);
    assert_eq!(changes(&mut alerts), ["+silent a/p -> b/p"]);
    alerts.tick(&hosts(B_DOWN), well, 16 * S);
    assert_eq!(changes(&mut alerts), ["+host_down b", "-silent a/p -> b/p Folded"]);
    alerts.silent(silent("a/r", "b/p", Some(Direction::Forward)), 17 * S);
    alerts.loss(port("a/s"), port("b/p"), Some(lossy()), 17 * S);
    alerts.tick(&hosts(B_DOWN), well, 18 * S);
    assert_eq!(changes(&mut alerts), [""; 0]);
    let raised: Vec<_> = alerts.raised().map(|alert| (alert.kind, alert.pairs)).collect();
    assert_eq!(raised, [(Kind::HostDown, 4)]);
    // Some answer when it is back; the others are shown after a while.
    alerts.tick(&hosts(ALIVE), well, 30 * S);
    for from in ["a/p", "a/q"] {
        alerts.answering(port(from), port("b/p"), 32 * S, 32 * S);
    }
    alerts.loss(port("a/s"), port("b/p"), None, 32 * S);
    alerts.tick(&hosts(ALIVE), well, 49 * S);
    assert_eq!(changes(&mut alerts), ["-host_down b Recovered"]);
    alerts.tick(&hosts(ALIVE), well, 50 * S);
    assert_eq!(changes(&mut alerts), ["+silent a/r -> b/p"]);
}

#[test]
fn pairs_that_are_no_longer_measured_have_no_alert() {
    let gone = |_: &PortName, _: &PortName| PairLife {
        is_present: false,
        is_measured: true,
    };
    let unmeasured = |_: &PortName, _: &PortName| PairLife {
        is_present: true,
        is_measured: false,
    };
    let raised = || {
        let mut alerts = Alerts::default();
        alerts.silent(silent("a/p", "b/p", Some(Direction::Forward)), 5 * S);
        alerts.changes();
        alerts
    };
    let mut alerts = raised();
    alerts.tick(&hosts(ALIVE), gone, 6 * S);
    assert_eq!(changes(&mut alerts), ["-silent a/p -> b/p Left"]);
    let mut alerts = raised();
    alerts.tick(&hosts(ALIVE), unmeasured, 6 * S);
    assert_eq!(changes(&mut alerts), ["-silent a/p -> b/p NotMeasured"]);
    let mut alerts = raised();
    alerts.tick(&hosts(&[("a", 16), ("b", 1)]), well, 6 * S);
    assert_eq!(changes(&mut alerts), ["+host_down a", "-silent a/p -> b/p NotMeasured"]);
    alerts.tick(&hosts(&[("b", 1)]), well, 7 * S);
    assert_eq!(changes(&mut alerts), ["-host_down a Left"]);
}

fn lossy() -> Lossy {
    Lossy {
        direction: Direction::Forward,
        lost: 30,
        of: 300,
        since_ns: S,
    }
}

#[test]
fn a_silent_pair_is_not_lossy_as_well() {
    let mut alerts = Alerts::default();
    let loss = |alerts: &mut Alerts, lossy| alerts.loss(port("a/p"), port("b/p"), lossy, 5 * S);
    loss(&mut alerts, Some(lossy()));
    let text = alerts.raised().next().map(|alert| alert.text.clone());
    assert_eq!(text.unwrap(), "a/p -> b/p: 30 of 300 probes were lost (10.0 %)");
    alerts.silent(silent("a/p", "b/p", Some(Direction::Forward)), 6 * S);
    loss(&mut alerts, Some(lossy()));
    let want = ["+loss a/p -> b/p", "-loss a/p -> b/p Folded", "+silent a/p -> b/p"];
    assert_eq!(changes(&mut alerts), want);
    alerts.answering(port("a/p"), port("b/p"), 7 * S, 7 * S);
    loss(&mut alerts, Some(lossy()));
    loss(&mut alerts, None);
    let want = [
        "-silent a/p -> b/p Recovered",
        "+loss a/p -> b/p",
        "-loss a/p -> b/p Recovered",
    ];
    assert_eq!(changes(&mut alerts), want);
}

#[test]
fn problems_are_resolved_when_they_are_gone() {
    let mut alerts = Alerts::default();
    let problem = Problem {
        since_ns: S,
        last_ns: S,
        text: "its clock is off".to_owned(),
    };
    let name = port("a/p");
    let list = [(&name, ProblemKind::Clock, &problem)];
    alerts.problems(list.into_iter(), true, S);
    alerts.problems(list.into_iter(), true, 2 * S);
    assert_eq!(
        alerts.raised().next().map(|alert| alert.text.as_str()),
        Some("a/p: its clock is off")
    );
    let changed = Problem {
        text: "its clock is off by more".to_owned(),
        ..problem.clone()
    };
    alerts.problems([(&name, ProblemKind::Clock, &changed)].into_iter(), true, 2 * S);
    assert_eq!(
        alerts.raised().next().map(|alert| alert.text.as_str()),
        Some("a/p: its clock is off by more")
    );
    // A hub that has just begun has not heard of it yet.
    alerts.problems([].into_iter(), false, 3 * S);
    assert_eq!(changes(&mut alerts), ["+clock a/p"]);
    alerts.problems([].into_iter(), true, 3 * S);
    assert_eq!(changes(&mut alerts), ["-clock a/p Recovered"]);
}

#[test]
fn many_alerts_are_counted() {
    let mut alerts = Alerts::default();
    let pair = |number: usize| (format!("a{}/p", number % 100), format!("b{}/p", number / 100));
    for number in 0..MAX_KEPT + 5 {
        let (from, to) = pair(number);
        alerts.silent(silent(&from, &to, Some(Direction::Forward)), 5 * S);
    }
    let figures = |alerts: &Alerts| (alerts.raised().count(), alerts.more(), alerts.dropped());
    assert_eq!(figures(&alerts), (MAX_SHOWN, MAX_KEPT - MAX_SHOWN, 5));
    assert_eq!(alerts.changes().len(), MAX_SHOWN);
    let (from, to) = pair(0);
    alerts.answering(port(&from), port(&to), 6 * S, 6 * S);
    alerts.tick(&hosts(ALIVE), well, 7 * S);
    assert_eq!(figures(&alerts), (MAX_SHOWN, MAX_KEPT - MAX_SHOWN - 1, 5));
    assert_eq!(alerts.changes().len(), 2);
}

#[test]
fn one_host_does_not_hide_the_alerts_of_others() {
    let mut alerts = Alerts::default();
    let mut say = |from: &str, to: usize| {
        alerts.silent(silent(from, &format!("b{to}/p"), Some(Direction::Forward)), 5 * S);
    };
    for number in 0..2 * MAX_SHOWN {
        say("a/p", number);
    }
    say("c/p", 0);
    let of = |alerts: &Alerts, host: &str| alerts.shown_of(&host.parse().unwrap());
    assert_eq!([of(&alerts, "a"), of(&alerts, "c")], [MAX_OF_HOST, 1]);
    for number in [0, 1] {
        alerts.answering(port("a/p"), port(&format!("b{number}/p")), 6 * S, 6 * S);
    }
    // There is room for others, but the host has had its share.
    for (now_s, shown) in [
        (10, MAX_OF_HOST - 2),
        (11, MAX_OF_HOST - 1),
        (17, MAX_OF_HOST),
        (60, MAX_OF_HOST),
    ] {
        alerts.tick(&hosts(ALIVE), well, now_s * S);
        assert_eq!([of(&alerts, "a"), of(&alerts, "c")], [shown, 1], "{now_s} s");
    }
}

/// The host reports false silences, each of which ends at once.
#[test]
fn a_host_that_changes_its_mind_raises_few_alerts() {
    let mut alerts = Alerts::default();
    let by = |alerts: &mut Alerts, host: &str| {
        let raised = alerts.changes().into_iter().filter(|change| match change {
            Change::Raised(alert) => alert.subject.host().as_str() == host,
            Change::Resolved(_) => false,
        });
        raised.count()
    };
    for number in 0..6000 {
        let now_ns = 5 * S + number * S / 100;
        let silent = Silent {
            since_ns: now_ns,
            ..silent("a/p", "b/p", Some(Direction::Forward))
        };
        alerts.silent(silent, now_ns);
        alerts.answering(port("a/p"), port("b/p"), now_ns + 1, now_ns + 1);
    }
    let minute = (60 * S / RAISE_INTERVAL_NS) as usize;
    assert_eq!(by(&mut alerts, "a"), MAX_OF_HOST + minute - 1);
    // Others are raised at once, and so is that the host is down.
    alerts.silent(silent("c/p", "b/p", Some(Direction::Forward)), 65 * S);
    assert_eq!(by(&mut alerts, "c"), 1);
    alerts.silent(silent("a/p", "b/p", Some(Direction::Forward)), 65 * S);
    alerts.tick(&hosts(&[("a", 60), ("b", 1), ("c", 1)]), well, 65 * S);
    let raised: Vec<_> = alerts.raised().map(|alert| alert.subject.to_string()).collect();
    assert_eq!(raised, ["a", "c/p -> b/p"]);
}

/// The peer decides how often it answers, but the share is that of the host that probes it.
#[test]
fn a_peer_that_comes_and_goes_does_not_hide_another_that_is_silent() {
    let mut alerts = Alerts::default();
    let silent_since = |to: &str, since_s: u64| Silent {
        since_ns: since_s * S,
        ..silent("a/p", to, Some(Direction::Forward))
    };
    let flapping: Vec<String> = (0..64).map(|number| format!("b/p{number}")).collect();
    for to in flapping.iter().cycle().take(MAX_OF_HOST) {
        alerts.silent(silent_since(to, 4), 5 * S);
        alerts.answering(port("a/p"), port(to), 5 * S, 5 * S);
    }
    alerts.silent(silent_since("c/p", 4), 5 * S);
    for to in &flapping {
        alerts.silent(silent_since(to, 6), 6 * S);
    }
    assert_eq!((alerts.raised().count(), alerts.more()), (0, 65));
    alerts.tick(&hosts(&[("a", 1), ("b", 1), ("c", 1)]), well, 12 * S);
    let raised: Vec<_> = alerts.raised().map(|alert| alert.subject.to_string()).collect();
    assert_eq!(raised, ["a/p -> c/p"]);
}

#[test]
fn what_a_host_says_does_not_hide_that_it_is_down() {
    let mut alerts = Alerts::default();
    for number in 0..MAX_KEPT_OF_HOST {
        alerts.silent(silent("a/p", &format!("b{number}/p"), Some(Direction::Forward)), 5 * S);
    }
    alerts.tick(&hosts(&[("a", 60), ("b", 1)]), well, 65 * S);
    let raised: Vec<_> = alerts.raised().map(|alert| alert.subject.to_string()).collect();
    assert_eq!((raised, alerts.dropped()), (vec!["a".to_owned()], 0));
}

#[test]
fn one_host_does_not_fill_what_is_kept() {
    let mut alerts = Alerts::default();
    let mut say = |from: &str, to: usize| {
        alerts.silent(silent(from, &format!("b{to}/p"), Some(Direction::Forward)), 5 * S);
    };
    for number in 0..MAX_KEPT {
        say("a/p", number);
    }
    say("c/p", 0);
    let kept = |alerts: &Alerts| alerts.silent_pairs().count();
    assert_eq!(
        (kept(&alerts), alerts.dropped()),
        (MAX_KEPT_OF_HOST + 1, (MAX_KEPT - MAX_KEPT_OF_HOST) as u64)
    );
    // When one ends there is room for another.
    alerts.answering(port("a/p"), port("b0/p"), 6 * S, 6 * S);
    alerts.silent(silent("a/p", "new/p", Some(Direction::Forward)), 7 * S);
    alerts.silent(silent("a/p", "newer/p", Some(Direction::Forward)), 7 * S);
    assert_eq!(kept(&alerts), MAX_KEPT_OF_HOST + 1);
}

#[test]
fn a_hub_that_takes_over_neither_repeats_nor_loses_alerts() {
    let raised = |name: &str| Alert::new(Kind::Silent, pair(name), String::new(), S);
    fn pair(name: &str) -> Subject {
        Subject::Pair {
            from: port(name),
            to: port("b/p"),
        }
    }
    let mut alerts = Alerts::default();
    for name in ["a/both", "a/new", "a/over"] {
        let direction = Some(Direction::Forward);
        alerts.silent(silent(name, "b/p", direction), 5 * S);
    }
    alerts.silent(silent("a/held", "b/p", None), 5 * S);
    alerts.answering(port("a/over"), port("b/p"), 6 * S, 6 * S);
    let stored = ["a/both", "a/held", "a/over", "a/unknown"].map(raised);
    alerts.adopt(stored.to_vec(), 7 * S);
    let want = ["-silent a/over -> b/p Recovered", "+silent a/new -> b/p"];
    assert_eq!(changes(&mut alerts), want);
    let shown: Vec<_> = alerts.raised().map(|alert| alert.subject.to_string()).collect();
    assert_eq!(
        shown,
        ["a/both", "a/held", "a/new", "a/unknown"].map(|name| format!("{name} -> b/p"))
    );
    for name in ["a/both", "a/held", "a/new", "a/unknown"] {
        alerts.answering(port(name), port("b/p"), 8 * S, 8 * S);
    }
    assert_eq!((alerts.changes().len(), alerts.shown), (4, 0));
}

#[test]
fn an_alert_is_written_and_read() {
    let mut alerts = Alerts::default();
    alerts.silent(silent("a/p", "b/p", Some(Direction::Forward)), 5 * S);
    let changes = alerts.changes();
    let text = serde_json::to_string(&changes[0]).unwrap();
    let want = concat!(
        r#"{"state":"raised","id":"silent a/p -> b/p 1000000000","kind":"silent","from":"a/p","to":"b/p","#,
        r#""direction":"forward","text":"b/p does not answer a/p: probes do not reach it","since_ns":1000000000}"#
    );
    assert_eq!(text, want);
    assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), changes[0]);
    for (kind, name) in [
        (Kind::HostDown, "\"host_down\""),
        (Kind::Problem(ProblemKind::NameConflict), "\"name_conflict\""),
    ] {
        assert_eq!(serde_json::to_string(&kind).unwrap(), name);
        assert_eq!(serde_json::from_str::<Kind>(name).unwrap(), kind);
    }
}
