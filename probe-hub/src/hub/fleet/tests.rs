use super::assignments::Due;
use super::*;
use crate::hub::neighbours;
use crate::message::presence::{NETWORK, Presence, RACK, ZONE};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// Enough for all that rests on liveness.
const UTC: u64 = 1_800_000_000 * SECOND;

fn at(seconds: u64) -> Now {
    Now {
        monotonic_ns: 1000 * SECOND + seconds * SECOND,
        utc_ns: UTC + seconds * SECOND,
    }
}

/// All hosts but `stranger` are enrolled, with 10.0.0.0/8 and 2001:db8::/32.
fn allowed(host: &HostName) -> Option<Vec<IpNet>> {
    let prefixes = ["10.0.0.0/8", "2001:db8::/32"];
    (host.as_str() != "stranger").then(|| prefixes.map(|prefix| prefix.parse().unwrap()).to_vec())
}

fn presence(port: &str, addresses: &[&str]) -> Presence {
    let mut presence = Port::new(port.parse().unwrap(), 0).presence;
    presence.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    presence.udp_port = 1910;
    presence.max_peers = 64;
    presence
}

fn key(port: &str) -> String {
    port.replace('/', ".")
}

/// Each presence has a revision of its own.
fn set(fleet: &mut Fleet, presence: &Presence, now: Now) -> bool {
    let content = serde_json::to_vec(presence).unwrap();
    let revision = fleet
        .ports
        .iter()
        .flatten()
        .map(|port| port.revision)
        .max()
        .unwrap_or(0)
        + 1;
    fleet.offer(&presence.port.tokens(), Some(&content), revision, now);
    fleet.settle(&allowed, now)
}

fn hear(fleet: &mut Fleet, port: &str, boot: u64, generation: u64, ahead_ns: i64, now: Now) {
    let heartbeat = Heartbeat {
        boot,
        sent_ns: now.utc_ns.wrapping_add_signed(ahead_ns),
        generation,
        ..Heartbeat::default()
    };
    fleet.hear(&key(port), heartbeat, now);
}

fn fleet(ports: u32) -> Fleet {
    let mut fleet = Fleet::default();
    for index in 0..ports {
        let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
        set(&mut fleet, &presence(&format!("h{index}/p"), &[&address]), at(0));
    }
    fleet.set_loaded();
    fleet
}

fn choose(fleet: &mut Fleet) {
    let (ids, candidates): (Vec<_>, Vec<_>) = fleet.candidates().into_iter().unzip();
    let chosen: Vec<_> = ids.into_iter().zip(neighbours::choose(&candidates, 4, 0)).collect();
    fleet.plan(&chosen);
}

/// Writes what is due, as the bucket would have it from `revision` on.
fn write(fleet: &mut Fleet, mut revision: u64, now: Now) -> Vec<(String, Vec<u8>, u64)> {
    let mut written = Vec::new();
    for Due { assignment, .. } in fleet.due(PortId(0), usize::MAX, now) {
        let content = serde_json::to_vec(&assignment).unwrap();
        fleet.take_assignment(&assignment.port.tokens(), &content, revision, now);
        written.push((assignment.port.tokens(), content, revision));
        revision += 1;
    }
    written
}

fn kinds(fleet: &Fleet) -> Vec<(String, ProblemKind)> {
    fleet
        .problems()
        .iter()
        .map(|(port, kind, _)| (port.to_string(), kind))
        .collect()
}

fn addresses(fleet: &Fleet, port: &str) -> Vec<String> {
    let port = fleet.id(&port.parse().unwrap()).and_then(|id| fleet.port(id));
    port.map_or_else(Vec::new, |port| {
        port.presence.addresses.iter().map(IpAddr::to_string).collect()
    })
}

#[test]
fn presences_that_a_host_may_not_write_are_refused() {
    let right = presence("h/p", &["10.0.0.1"]);
    let labels = |number: usize, length| {
        (0..number)
            .map(|index| (format!("l{index}"), "x".repeat(length)))
            .collect()
    };
    let table = [
        ("h/p", right.clone(), None),
        (
            "stranger/p",
            presence("stranger/p", &["10.0.0.1"]),
            Some(ProblemKind::NotEnrolled),
        ),
        (
            "h/p",
            presence("other/p", &["10.0.0.1"]),
            Some(ProblemKind::BadPresence),
        ),
        (
            "h/p",
            Presence {
                labels: labels(33, 1),
                ..right.clone()
            },
            Some(ProblemKind::BadPresence),
        ),
        (
            "h/p",
            Presence {
                labels: labels(1, 129),
                ..right.clone()
            },
            Some(ProblemKind::BadPresence),
        ),
        (
            "h/p",
            Presence {
                kernel: "x".repeat(20_000),
                ..right.clone()
            },
            Some(ProblemKind::BadPresence),
        ),
        (
            "h/p",
            presence("h/p", &["10.0.0.1"; 17]),
            Some(ProblemKind::BadPresence),
        ),
        (
            "h/p",
            presence("h/p", &["10.0.0.1", "192.0.2.1"]),
            Some(ProblemKind::ForeignAddress),
        ),
        // They are of no use to others, and no fault.
        (
            "h/p",
            presence("h/p", &["10.0.0.1", "fe80::1", "127.0.0.1", "::"]),
            None,
        ),
    ];
    for (port, presence, kind) in table {
        let mut fleet = Fleet::default();
        fleet.offer(&key(port), Some(&serde_json::to_vec(&presence).unwrap()), 1, at(0));
        fleet.settle(&allowed, at(0));
        let found: Vec<_> = kinds(&fleet).into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(found, Vec::from_iter(kind), "{port} {presence:?}");
        let is_taken = kind.is_none_or(|kind| kind == ProblemKind::ForeignAddress);
        assert_eq!(
            addresses(&fleet, port),
            if is_taken { vec!["10.0.0.1"] } else { vec![] }
        );
        assert_eq!(fleet.problems_mut().take_notices().len(), usize::from(kind.is_some()));
    }
    let mut fleet = Fleet::default();
    fleet.offer("h.p", Some(b"{"), 1, at(0));
    fleet.offer("no port", Some(b"{"), 2, at(0));
    fleet.settle(&allowed, at(0));
    assert_eq!(kinds(&fleet), [("h/p".to_owned(), ProblemKind::BadPresence)]);
}

#[test]
fn a_refusal_is_over_when_it_was_mended() {
    let mut fleet = Fleet::default();
    set(&mut fleet, &presence("h/p", &["192.0.2.1"]), at(0));
    assert_eq!(kinds(&fleet).len(), 1);
    assert!(fleet.candidates().is_empty());
    set(&mut fleet, &presence("h/p", &["10.0.0.1"]), at(1));
    assert_eq!(kinds(&fleet), []);
    assert_eq!(fleet.candidates().len(), 1);
}

#[test]
fn enrolments_that_change_are_followed() {
    let mut fleet = Fleet::default();
    set(&mut fleet, &presence("h/p", &["10.0.0.1", "10.0.0.2"]), at(0));
    let mut follow = |prefix: Option<&str>, left: &[&str], problem: Option<ProblemKind>| {
        let prefixes = prefix.map(|prefix| vec![prefix.parse::<IpNet>().unwrap()]);
        let allowed = |_: &HostName| prefixes.clone();
        fleet.review(&allowed, at(1));
        assert!(fleet.settle(&allowed, at(1)));
        assert_eq!(addresses(&fleet, "h/p"), left);
        assert_eq!(fleet.candidates().len(), left.len().min(1));
        assert_eq!(
            kinds(&fleet),
            Vec::from_iter(problem.map(|kind| ("h/p".to_owned(), kind)))
        );
        let owned = ["10.0.0.1", "10.0.0.2"].map(|address| fleet.id_of_address("", address.parse().unwrap()));
        assert_eq!(owned.into_iter().flatten().count(), left.len());
    };
    follow(Some("10.0.0.2/32"), &["10.0.0.2"], Some(ProblemKind::ForeignAddress));
    follow(None, &[], Some(ProblemKind::NotEnrolled));
    follow(Some("10.0.0.0/24"), &["10.0.0.1", "10.0.0.2"], None);
}

#[test]
fn a_host_cannot_fill_the_list_of_problems() {
    let mut fleet = Fleet::default();
    for index in 0..1000 {
        fleet.offer(&format!("h.p{index}"), Some(b"{"), index + 1, at(index));
        fleet.settle(&allowed, at(index));
    }
    assert_eq!((fleet.problems().iter().count(), fleet.ports().count()), (128, 0));
    fleet.offer("other.p", Some(b"{"), 2000, at(1000));
    fleet.settle(&allowed, at(1000));
    assert!(kinds(&fleet).contains(&("other/p".to_owned(), ProblemKind::BadPresence)));
}

#[test]
fn the_first_port_keeps_an_address_while_it_lives() {
    let mut fleet = Fleet::default();
    set(&mut fleet, &presence("a/p", &["10.0.0.1"]), at(0));
    set(&mut fleet, &presence("b/p", &["10.0.0.1", "10.0.0.2"]), at(1));
    let mut elsewhere = presence("c/p", &["10.0.0.1"]);
    elsewhere.labels.insert(NETWORK.to_owned(), "other".to_owned());
    set(&mut fleet, &elsewhere, at(1));
    assert_eq!(kinds(&fleet), [("b/p".to_owned(), ProblemKind::AddressConflict)]);
    assert_eq!(addresses(&fleet, "b/p"), ["10.0.0.2"]);
    assert_eq!(addresses(&fleet, "c/p"), ["10.0.0.1"]);

    // a is silent: b gets it, and keeps it when a comes back.
    hear(&mut fleet, "b/p", 1, 0, 0, at(14));
    assert!(!fleet.settle(&allowed, at(14)));
    assert!(fleet.settle(&allowed, at(16)));
    assert_eq!(addresses(&fleet, "a/p"), Vec::<String>::new());
    assert_eq!(addresses(&fleet, "b/p"), ["10.0.0.1", "10.0.0.2"]);
    hear(&mut fleet, "a/p", 1, 0, 0, at(17));
    fleet.settle(&allowed, at(17));
    assert_eq!(kinds(&fleet), [("a/p".to_owned(), ProblemKind::AddressConflict)]);
    let owner = |fleet: &Fleet| fleet.id_of_address("", "10.0.0.1".parse().unwrap());
    assert_eq!(owner(&fleet), fleet.id(&"b/p".parse().unwrap()));

    // Both are silent: it stays where it is.
    assert!(!fleet.settle(&allowed, at(100)) && !fleet.settle(&allowed, at(101)));
    assert_eq!(owner(&fleet), fleet.id(&"b/p".parse().unwrap()));
}

#[test]
fn a_host_has_a_bounded_number_of_ports() {
    let mut fleet = Fleet::default();
    for index in 0..100 {
        let presence = presence(&format!("h/p{index}"), &["10.0.0.1"]);
        fleet.offer(
            &presence.port.tokens(),
            Some(&serde_json::to_vec(&presence).unwrap()),
            index + 1,
            at(0),
        );
    }
    fleet.settle(&allowed, at(0));
    assert_eq!(fleet.ports().count(), MAX_PORTS_PER_HOST);
    let surplus = fleet.take_surplus();
    assert_eq!(
        (surplus.len(), surplus.get("h.p99")),
        (100 - MAX_PORTS_PER_HOST, Some(&100))
    );
    // A port that is deleted still counts, for a day.
    fleet.offer("h.p0", None, 200, at(1));
    fleet.settle(&allowed, at(1));
    set(&mut fleet, &presence("h/new", &["10.0.0.2"]), at(2));
    assert_eq!(fleet.id(&"h/new".parse().unwrap()), None);
    assert_eq!(fleet.gone(DAY, at(86_401).monotonic_ns).len(), MAX_PORTS_PER_HOST);
    assert_eq!(fleet.gone(DAY, at(86_399).monotonic_ns), []);
    for (id, ..) in fleet.gone(DAY, at(86_401).monotonic_ns) {
        fleet.forget(id);
    }
    assert_eq!((fleet.hosts().count(), fleet.problems().iter().count()), (0, 37));
    set(&mut fleet, &presence("h/new", &["10.0.0.2"]), at(86_402));
    assert_eq!(addresses(&fleet, "h/new"), ["10.0.0.2"]);
}

#[test]
fn entries_that_cannot_be_read_count_as_ports() {
    let mut fleet = Fleet::default();
    let number = MAX_PORTS_PER_HOST as u64;
    for index in 0..number + 10 {
        fleet.offer(&format!("h.p{index}"), Some(b"{}"), index + 1, at(0));
        fleet.settle(&allowed, at(0));
    }
    fleet.offer("h.=zz", Some(b"{}"), 1000, at(0));
    let surplus = fleet.take_surplus();
    assert_eq!((surplus.len(), surplus.get("h.=zz")), (11, Some(&1000)));
    assert_eq!((fleet.keys().len() as u64, fleet.ports().count()), (number, 0));
    // They have room for others when they are gone, or are right.
    fleet.offer("h.p0", None, 1001, at(100));
    set(&mut fleet, &presence("h/p1", &["10.0.0.1"]), at(100));
    set(&mut fleet, &presence("h/new", &["10.0.0.2"]), at(100));
    assert_eq!((fleet.ports().count(), fleet.take_surplus().len()), (2, 0));
}

#[test]
fn no_port_is_silent_while_the_hub_has_no_connection() {
    let mut fleet = fleet(1);
    let id = fleet.id(&"h0/p".parse().unwrap()).unwrap();
    fleet.set_deaf(at(2 * 86_400));
    let monotonic_ns = at(2 * 86_400 + 10).monotonic_ns;
    assert!(fleet.is_alive(id, monotonic_ns) && fleet.gone(DAY, monotonic_ns).is_empty());
    assert!(!fleet.is_alive(id, monotonic_ns + 5 * SECOND));
}

#[test]
fn a_port_whose_agent_was_stopped_is_gone_sooner() {
    let mut fleet = fleet(2);
    let ended = Presence {
        ended: true,
        ..presence("h0/p", &["10.0.0.1"])
    };
    set(&mut fleet, &ended, at(1));
    let gone = |seconds| {
        fleet
            .gone(DAY, at(seconds).monotonic_ns)
            .into_iter()
            .map(|(_, key, _)| key)
    };
    assert_eq!(gone(599).count(), 0);
    assert_eq!(gone(601).collect::<Vec<_>>(), ["h0.p"]);
}

#[test]
fn a_port_that_changes_often_is_looked_at_rarely() {
    let mut fleet = fleet(1);
    let changes = (1..100).filter(|second| {
        let address = format!("10.1.0.{second}");
        set(&mut fleet, &presence("h0/p", &[&address]), at(*second))
    });
    assert_eq!(changes.count(), 5 + 9);
}

#[test]
fn two_processes_of_one_name_and_a_wrong_clock_are_noticed_once() {
    let mut fleet = fleet(1);
    // A restart is no conflict.
    for (second, boot) in [(0, 1), (5, 1), (10, 2), (15, 2)] {
        hear(&mut fleet, "h0/p", boot, 0, 0, at(second));
    }
    assert_eq!(kinds(&fleet), []);
    for second in 4..40 {
        hear(&mut fleet, "h0/p", 2 + second % 2, 0, 0, at(second * 5));
    }
    assert_eq!(kinds(&fleet), [("h0/p".to_owned(), ProblemKind::NameConflict)]);
    assert_eq!(fleet.problems_mut().take_notices().len(), 1);
    fleet.settle(&allowed, at(40 * 5 + 61));
    assert_eq!(kinds(&fleet), []);

    for (second, ahead_ns, is_problem) in [
        (300, 2_000_000_000, false),
        (305, 2_000_000_000, false),
        // They have waited, and come together.
        (305, 7_000_000_000, false),
        (305, 7_000_000_000, false),
        (310, 2_000_000_000, true),
        (315, 2_000_000_000, true),
        (320, 900_000_000, false),
        (325, -2_000_000_000, false),
    ] {
        hear(&mut fleet, "h0/p", 3, 0, ahead_ns, at(second));
        assert_eq!(kinds(&fleet).len(), usize::from(is_problem), "after {second} s");
    }
    assert_eq!(fleet.problems_mut().take_notices().len(), 1);
}

#[test]
fn a_clock_that_is_set_from_one_wrong_time_to_another_is_reported_anew() {
    let mut fleet = fleet(1);
    let hour_ns = 3_600_000_000_000;
    let mut second = 0;
    let mut hear_three = |fleet: &mut Fleet, boot, ahead_ns| {
        for _ in 0..3 {
            second += 5;
            hear(fleet, "h0/p", boot, 0, ahead_ns, at(10_000 + second));
        }
        let notices = fleet.problems_mut().take_notices();
        let text = fleet
            .problems()
            .iter()
            .next()
            .map(|(_, _, problem)| problem.text.clone());
        (notices.len(), text.unwrap_or_default())
    };
    let (notices, text) = hear_three(&mut fleet, 1, hour_ns);
    assert!(notices == 1 && text.contains("3600.0 s ahead of"), "{text}");
    // It drifts.
    let (notices, text) = hear_three(&mut fleet, 1, hour_ns + 2_000_000_000);
    assert!(notices == 0 && text.contains("3600.0 s ahead of"), "{text}");
    let (notices, text) = hear_three(&mut fleet, 2, -hour_ns);
    assert!(notices == 1 && text.contains("3600.0 s behind"), "{text}");
    assert_eq!(hear_three(&mut fleet, 2, 0), (0, String::new()));
}

#[test]
fn a_host_that_is_no_longer_enrolled_leaves_when_it_is_silent() {
    let mut fleet = fleet(2);
    let gone = |fleet: &Fleet, seconds| -> Vec<_> {
        let gone = fleet.gone(DAY, at(seconds).monotonic_ns).into_iter();
        gone.map(|(_, key, _)| key).collect()
    };
    for port in ["h0/p", "h1/p"] {
        hear(&mut fleet, port, 1, 0, 0, at(100));
    }
    let without_first = |host: &HostName| allowed(host).filter(|_| host.as_str() != "h0");
    fleet.review(&without_first, at(101));
    assert_eq!(gone(&fleet, 114), Vec::<String>::new());
    assert_eq!(gone(&fleet, 116), [key("h0/p")]);
    // It is enrolled again.
    fleet.review(&allowed, at(116));
    assert_eq!(gone(&fleet, 116), Vec::<String>::new());
}

#[test]
fn assignments_are_written_once_and_another_hub_finds_the_same() {
    let mut first = fleet(40);
    choose(&mut first);
    let written = write(&mut first, 1, at(1));
    assert_eq!(written.len(), 40);
    choose(&mut first);
    assert_eq!(first.due(PortId(0), usize::MAX, at(2)), []);

    // It has learned of the ports in another order.
    let mut second = Fleet::default();
    for (_, port) in first.ports().collect::<Vec<_>>().into_iter().rev() {
        set(&mut second, &port.presence, at(2));
    }
    choose(&mut second);
    assert_eq!(second.due(PortId(0), usize::MAX, at(2)).len(), 40);
    for (key, content, revision) in &written {
        second.take_assignment(key, content, *revision, at(2));
    }
    assert_eq!(second.due(PortId(0), usize::MAX, at(2)), []);

    // One comes: it and few others change.
    set(&mut second, &presence("new/p", &["10.9.0.1"]), at(3));
    choose(&mut second);
    let due = second.due(PortId(0), usize::MAX, at(3));
    assert!((2..25).contains(&due.len()), "{}", due.len());
}

#[test]
fn assignments_may_come_before_the_ports_that_they_name() {
    let mut first = fleet(6);
    choose(&mut first);
    let written = write(&mut first, 1, at(1));
    let ports: Vec<_> = first.ports().map(|(_, port)| port.presence.clone()).collect();
    let names = |fleet: &Fleet, ids: &[PortId]| -> BTreeSet<String> {
        let ports = ids.iter().filter_map(|id| fleet.port(*id));
        ports.map(|port| port.name.to_string()).collect()
    };
    for early in 0..=ports.len() {
        let mut second = Fleet::default();
        let (before, after) = ports.split_at(ports.len() - early);
        for port in before {
            set(&mut second, port, at(2));
        }
        for (key, content, revision) in &written {
            second.take_assignment(key, content, *revision, at(2));
            // Those of older revisions change nothing.
            second.take_assignment(key, b"", 0, at(2));
        }
        for (key, content, _) in &written {
            let generation = serde_json::from_slice::<Assignment>(content).unwrap().generation;
            hear(&mut second, &key.replace('.', "/"), 1, generation, 0, at(2));
        }
        // Each comes in a turn of its own.
        for port in after {
            set(&mut second, port, at(3));
        }
        for (key, content, _) in &written {
            let assignment: Assignment = serde_json::from_slice(content).unwrap();
            hear(&mut second, &key.replace('.', "/"), 1, assignment.generation, 0, at(4));
            let (id, known) = (
                second.id(&assignment.port).unwrap(),
                first.id(&assignment.port).unwrap(),
            );
            assert_eq!(
                names(&second, second.targets(id)),
                names(&first, first.targets(known)),
                "{early} {key}"
            );
            assert!(second.is_confirmed(id), "{early} {key}");
            for prober in &assignment.probers {
                assert!(second.expects(id, second.id(&prober.port).unwrap()), "{early} {key}");
            }
        }
        assert!(second.early.is_empty());
        choose(&mut second);
        assert_eq!(second.due(PortId(0), usize::MAX, at(4)), [], "{early}");
    }

    // One that is deleted before its port is known does not come back.
    let mut third = Fleet::default();
    let (key, content, revision) = &written[0];
    third.take_assignment(key, content, *revision, at(2));
    third.take_assignment(key, b"", revision + 1, at(2));
    for port in &ports {
        set(&mut third, port, at(3));
    }
    let id = third.id(&ports[0].port).unwrap();
    assert!(third.targets(id).is_empty() && third.early.is_empty());
}

#[test]
fn silent_ports_stay_neighbours_and_deleted_ones_do_not() {
    let mut fleet = fleet(3);
    choose(&mut fleet);
    write(&mut fleet, 1, at(0));
    let silent = fleet.id(&"h0/p".parse().unwrap()).unwrap();
    assert!(fleet.is_alive(silent, at(14).monotonic_ns) && !fleet.is_alive(silent, at(15).monotonic_ns));
    assert!(!fleet.settle(&allowed, at(3600)));
    assert_eq!(fleet.candidates().len(), 3);
    fleet.offer("h0.p", None, 9, at(3601));
    assert!(fleet.settle(&allowed, at(3601)));
    choose(&mut fleet);
    let due = fleet.due(PortId(0), usize::MAX, at(3601));
    let left: Vec<_> = due
        .iter()
        .map(|due| (due.assignment.port.to_string(), due.assignment.targets.len()))
        .collect();
    assert_eq!(
        left,
        [("h0/p".to_owned(), 0), ("h1/p".to_owned(), 1), ("h2/p".to_owned(), 1)]
    );
}

#[test]
fn an_assignment_that_is_not_confirmed_is_written_again_ever_more_rarely() {
    let mut fleet = fleet(2);
    choose(&mut fleet);
    let mut revision = write(&mut fleet, 1, at(0)).len() as u64;
    let id = fleet.id(&"h0/p".parse().unwrap()).unwrap();
    let first = fleet.port(id).unwrap().assigned.generation;
    let mut times = Vec::new();
    for second in 1..500 {
        // The other one is never heard: nothing is written again for it.
        hear(&mut fleet, "h0/p", 1, 0, 0, at(second));
        if !write(&mut fleet, revision + 1, at(second)).is_empty() {
            revision += 1;
            times.push(second);
        }
    }
    assert_eq!(times, [15, 45, 105, 225, 465]);
    fleet.port_mut(id).unwrap().assigned.tries = 1000;
    assert_eq!(fleet.due(PortId(0), usize::MAX, at(500)), []);
    let generation = fleet.port(id).unwrap().assigned.generation;
    assert!(generation > first);
    assert!(!fleet.is_confirmed(id));
    hear(&mut fleet, "h0/p", 1, generation, 0, at(500));
    assert!(fleet.is_confirmed(id));
    assert_eq!(fleet.due(PortId(0), usize::MAX, at(5000)), []);

    // It lets the other one probe it, and does not yet know of a third.
    let others = ["h1/p", "new/p"].map(|name| {
        set(&mut fleet, &presence("new/p", &["10.9.0.1"]), at(5000));
        fleet.id(&name.parse().unwrap()).unwrap()
    });
    choose(&mut fleet);
    write(&mut fleet, revision + 1, at(5001));
    let expected = |fleet: &Fleet| others.map(|other| fleet.expects(id, other));
    assert_eq!(expected(&fleet), [true, false]);
    let generation = fleet.port(id).unwrap().assigned.generation;
    hear(&mut fleet, "h0/p", 1, generation, 0, at(5002));
    assert_eq!(expected(&fleet), [true, true]);
}

#[test]
fn generations_grow_whatever_the_clock_does() {
    let mut fleet = fleet(2);
    let id = fleet.id(&"h0/p".parse().unwrap()).unwrap();
    let now = UTC / 1_000_000;
    for (assigned, confirmed, generation) in [
        (0, 0, now),
        (now + 5000, 0, now + 5001),
        (7, now + 9, now + 10),
        // No hub has given that.
        (7, u64::MAX, now),
    ] {
        hear(&mut fleet, "h0/p", 1, confirmed, 0, at(0));
        let port = fleet.port_mut(id).unwrap();
        port.assigned.generation = assigned;
        assert_eq!(port.next_generation(UTC), generation);
    }
}
#[test]
#[ignore = "measures; run it alone, with --release"]
fn ten_thousand_ports_cost_little() {
    const PORTS: u32 = 10_000;
    let mut fleet = Fleet::default();
    let mut measure = |what: &str, work: &mut dyn FnMut(&mut Fleet) -> u64| {
        let started = std::time::Instant::now();
        let number = work(&mut fleet);
        println!("{what}: {:?}, {number}", started.elapsed());
    };
    measure("presences taken", &mut |fleet| {
        for index in 0..PORTS {
            let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
            let mut presence = presence(&format!("host-{index:05}/port0"), &[&address]);
            presence.labels.insert(RACK.to_owned(), format!("rack{}", index % 250));
            presence.labels.insert(ZONE.to_owned(), format!("zone{}", index % 4));
            let content = serde_json::to_vec(&presence).unwrap();
            fleet.offer(&presence.port.tokens(), Some(&content), u64::from(index) + 1, at(0));
        }
        fleet.settle(&allowed, at(0));
        fleet.ports().count() as u64
    });
    measure("neighbours chosen", &mut |fleet| {
        let (ids, candidates): (Vec<_>, Vec<_>) = fleet.candidates().into_iter().unzip();
        let chosen: Vec<_> = ids.into_iter().zip(neighbours::choose(&candidates, 32, 0)).collect();
        fleet.plan(&chosen);
        chosen.len() as u64
    });
    measure("assignments made and taken, bytes", &mut |fleet| {
        let mut bytes = 0;
        loop {
            let due = fleet.due(PortId(0), 512, at(1));
            if due.is_empty() {
                return bytes;
            }
            for Due {
                assignment, revision, ..
            } in due
            {
                let content = serde_json::to_vec(&assignment).unwrap();
                fleet.take_assignment(&assignment.port.tokens(), &content, revision + 1, at(1));
                bytes += content.len() as u64;
            }
        }
    });
    measure("a tick without changes", &mut |fleet| {
        u64::from(fleet.settle(&allowed, at(2))) + fleet.due(PortId(0), 512, at(2)).len() as u64
    });
    measure("enrolments reviewed", &mut |fleet| {
        fleet.review(&allowed, at(3));
        0
    });
    measure("heartbeats of a minute", &mut |fleet| {
        for index in 0..12 * PORTS {
            hear(fleet, &format!("host-{:05}/port0", index % PORTS), 1, 7, 0, at(4));
        }
        u64::from(12 * PORTS)
    });
}
