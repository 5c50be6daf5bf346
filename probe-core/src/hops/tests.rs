//! Two agents with their hooks: one probes, the other reflects, and questions cross the wire.

use std::collections::BTreeMap;

use probe_common::ntp::ErrorEstimate;
use proptest::prelude::*;

use super::*;
use crate::direction::Direction;
use crate::identity::wire::AnswerStamps;
use crate::observation::Reply;
use crate::stats::report::{ClockSteps, Counts, OneWayClock, Patterns, Report};

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;
const START: u64 = 1_000 * S;
const INTERVAL: u64 = 100 * MS;
const TIMEOUT: u64 = 500 * MS;
/// UTC − monotonic of both hosts, whose monotonic clocks agree.
const UTC: i64 = 1_795_000_000_000_000_000;
/// From one device to the next.
const STEP: u64 = 10 * US;
const SSID: u16 = 7;
const FORWARD: Option<Direction> = Some(Direction::Forward);
const BACKWARD: Option<Direction> = Some(Direction::Backward);

fn address(last: u8) -> IpAddr {
    [10, 1, 1, last].into()
}

fn hooks() -> Vec<Hook> {
    [
        ("port1-host", Role::Leg),
        ("vxlan_sys_4789", Role::Tunnel),
        ("eth0", Role::Nic),
    ]
    .map(|(device, role)| Hook {
        device: device.to_owned(),
        role,
    })
    .to_vec()
}

fn config() -> HopsConfig {
    HopsConfig {
        samples: true,
        delays: false,
        outlier_ns: None,
        timeout_ns: TIMEOUT,
    }
}

fn host(config: HopsConfig, last: u8) -> Hops {
    let mut hops = Hops::new(config, START - S);
    hops.set_addresses(&[address(last)]);
    hops.set_hooks(&hooks(), START - S);
    hops
}

/// What befalls one probe. Points on its path: 0 to 2 the own devices, 3 to 5 the far ones, 6 to 8 the far ones on the way
/// back, 9 to 11 the own ones.
#[derive(Debug, Clone, Copy, Default)]
struct Course {
    /// It does not reach this station.
    lost_before: Option<usize>,
    /// It takes longer to this station.
    slow_to: Option<(usize, u64)>,
    /// Stations whose stamp does not reach the table.
    unseen: u16,
    /// The reply comes, but after the timeout.
    is_late: bool,
}

struct World {
    own: Hops,
    far: Hops,
    now: u64,
    seq: u32,
    /// What the agent notes when its time comes.
    events: Vec<(u64, Event)>,
    outcomes: Vec<HopEvent>,
    questions: u32,
    /// The station where the processor receives packets late, and how late.
    softirq_ns: Option<(usize, u64)>,
    /// Whether a question arrives, by its number.
    arrives: fn(u32) -> bool,
    /// In this window.
    window_ns: u64,
    lost: u64,
    sent: u64,
}

impl World {
    fn new(config: HopsConfig) -> Self {
        Self {
            own: host(config, 1),
            far: host(config, 2),
            now: START,
            seq: 0,
            events: Vec::new(),
            outcomes: Vec::new(),
            questions: 0,
            softirq_ns: None,
            arrives: |_| true,
            window_ns: START,
            lost: 0,
            sent: 0,
        }
    }

    fn send(&mut self, course: Course) {
        let (seq, sent_ns) = (self.seq, self.now);
        self.seq += 1;
        self.sent += 1;
        let (mut at_ns, mut t2_ns, mut t3_ns) = (sent_ns, 0, 0);
        let mut is_lost = false;
        for station in 0..12 {
            is_lost |= course.lost_before == Some(station);
            at_ns += STEP
                + course
                    .slow_to
                    .map_or(0, |(to, by_ns)| if to == station { by_ns } else { 0 });
            if station == 6 {
                t3_ns = at_ns - STEP / 2;
            }
            if !is_lost && course.unseen >> station & 1 == 0 {
                self.stamp(station, seq, at_ns);
            }
            if station == 5 {
                t2_ns = at_ns + STEP / 2;
            }
        }
        let received_ns = at_ns + STEP;
        is_lost |= course.lost_before == Some(12);
        let utc = |mono_ns: u64| mono_ns.wrapping_add_signed(UTC);
        let reply = Reply {
            peer: address(2),
            ssid: SSID,
            seq,
            reflector_seq: seq,
            sent_mono_ns: sent_ns,
            received_mono_ns: received_ns,
            t1_ns: utc(sent_ns),
            t2_ns: utc(t2_ns),
            t3_ns: utc(t3_ns),
            t4_ns: utc(received_ns),
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        };
        let outcome = match (is_lost, course.is_late) {
            (true, _) => Outcome::Lost,
            (false, true) => Outcome::Late,
            (false, false) => Outcome::Ok,
        };
        self.lost += u64::from(outcome != Outcome::Ok);
        let event = Event::Sample {
            peer: address(2),
            path: Path::Unicast,
            ssid: SSID,
            seq,
            window_ns: Some(self.window_ns),
            sent_ns: is_lost.then_some(sent_ns),
            reply: (!is_lost).then_some(reply),
            estimated_ns: None,
            outcome,
        };
        let at_ns = if is_lost { sent_ns + TIMEOUT } else { received_ns };
        self.events.push((at_ns, event));
    }

    fn stamp(&mut self, station: usize, seq: u32, mono_ns: u64) {
        let (is_own, hook, egress, direction) = match station {
            // A leg has the packets of its port come in, and those to it go out.
            0 => (true, 0, false, Direction::Forward),
            1 | 2 => (true, station, true, Direction::Forward),
            3 | 4 => (false, 5 - station, false, Direction::Forward),
            5 => (false, 0, true, Direction::Forward),
            6 => (false, 0, false, Direction::Backward),
            7 | 8 => (false, station - 6, true, Direction::Backward),
            9 | 10 => (true, 11 - station, false, Direction::Backward),
            _ => (true, 0, true, Direction::Backward),
        };
        let stamp = HopStamp {
            hook: HookId(hook as u8),
            egress,
            direction,
            prober: address(1),
            reflector: address(2),
            ssid: SSID,
            seq,
            mono_ns,
            softirq_ns: self
                .softirq_ns
                .filter(|&(at, _)| at == station)
                .map_or(0, |(_, wait_ns)| wait_ns),
        };
        let host = if is_own { &mut self.own } else { &mut self.far };
        host.note_stamp(&stamp, self.now);
        // Of a duplicated packet, the first stamp counts.
        let duplicate = HopStamp {
            mono_ns: mono_ns + 1,
            ..stamp
        };
        host.note_stamp(&duplicate, self.now);
    }

    /// Ends the window after the last probe, and starts the next.
    fn roll(&mut self) {
        let counts = Counts {
            sent: self.sent,
            received: self.sent - self.lost,
            lost: self.lost,
            ..Counts::default()
        };
        let report = report(self.window_ns, self.now, counts);
        self.events
            .push((self.now + 2 * TIMEOUT, Event::Window(Box::new(report))));
        (self.window_ns, self.sent, self.lost) = (self.now, 0, 0);
    }

    fn run(&mut self, duration_ns: u64) {
        let end = self.now + duration_ns;
        while self.now < end {
            self.now += 10 * MS;
            self.step();
        }
    }

    fn step(&mut self) {
        let now_ns = self.now;
        let due: Vec<Event> = self
            .events
            .extract_if(.., |(at_ns, _)| *at_ns <= now_ns)
            .map(|(_, event)| event)
            .collect();
        due.iter().for_each(|event| self.own.note_event(event, now_ns));
        self.own.expire(now_ns);
        self.far.expire(now_ns);
        while let Some((peer, question)) = self.own.poll_question(now_ns, u64::from(self.questions)) {
            assert_eq!(peer, address(2));
            self.questions += 1;
            if (self.arrives)(self.questions - 1) {
                self.ask(&question);
            }
        }
        self.outcomes.extend(std::iter::from_fn(|| self.own.poll_event()));
    }

    fn ask(&mut self, question: &Question) {
        let request = wire::question(question, ErrorEstimate(1));
        let read = wire::from_question(&request).unwrap();
        let answer = self.far.answer_for(address(1), &read, UTC, self.now).unwrap();
        let arrival = AnswerStamps {
            receive_ns: 1,
            transmit_ns: 2,
            error: ErrorEstimate(1),
        };
        let reply = wire::answer(&request, &answer, arrival).unwrap();
        let answer = wire::from_answer(&reply).unwrap();
        assert!(self.own.take_answer(&answer, self.now));
        assert!(!self.own.take_answer(&answer, self.now), "once");
    }

    /// Sends probes one after the other, in windows of ten.
    fn send_all(&mut self, courses: impl IntoIterator<Item = Course>) {
        for (number, course) in courses.into_iter().enumerate() {
            if number % 10 == 0 && number > 0 {
                self.roll();
            }
            self.send(course);
            self.run(INTERVAL);
        }
        self.roll();
        self.run(10 * S);
    }

    fn samples(&self) -> Vec<&HopSample> {
        let samples = self.outcomes.iter().filter_map(|event| match event {
            HopEvent::Probe(sample) => Some(&**sample),
            _ => None,
        });
        samples.collect()
    }

    fn windows(&self) -> Vec<&HopWindow> {
        let windows = self.outcomes.iter().filter_map(|event| match event {
            HopEvent::Window(window) => Some(&**window),
            _ => None,
        });
        windows.collect()
    }

    fn outliers(&self) -> Vec<&Outlier> {
        let outliers = self.outcomes.iter().filter_map(|event| match event {
            HopEvent::Outlier(outlier) => Some(&**outlier),
            _ => None,
        });
        outliers.collect()
    }
}

fn report(start_ns: u64, end_ns: u64, counts: Counts) -> Report {
    Report {
        peer: address(2),
        path: Path::Unicast,
        start_ns,
        end_ns,
        counts,
        failures: BTreeMap::new(),
        rtt_ns: None,
        residence_ns: None,
        forward_ns: None,
        backward_ns: None,
        pdv_ns: None,
        ipdv_ns: None,
        forward_pdv_ns: None,
        backward_pdv_ns: None,
        clock: Some(OneWayClock::SameClock),
        steps: ClockSteps::default(),
        patterns: Patterns {
            lost_late: 0,
            lost_refused: None,
            duplicated: 0,
            loss_period: None,
            loss_distance: None,
            reordering_extent: None,
        },
        delays: None,
    }
}

fn lost_before(station: usize) -> Course {
    Course {
        lost_before: Some(station),
        ..Course::default()
    }
}

fn slow_to(station: usize, by_ns: u64) -> Course {
    Course {
        slow_to: Some((station, by_ns)),
        ..Course::default()
    }
}

/// The part before each station; before the last, the port.
const PARTS: [(Segment, Option<Direction>); 13] = [
    (Segment::OwnSwitch, FORWARD),
    (Segment::OwnSwitch, FORWARD),
    (Segment::OwnEncapsulation, FORWARD),
    (Segment::Underlay, FORWARD),
    (Segment::FarEncapsulation, FORWARD),
    (Segment::FarSwitch, FORWARD),
    (Segment::Reflector, None),
    (Segment::FarSwitch, BACKWARD),
    (Segment::FarEncapsulation, BACKWARD),
    (Segment::Underlay, BACKWARD),
    (Segment::OwnEncapsulation, BACKWARD),
    (Segment::OwnSwitch, BACKWARD),
    (Segment::OwnSwitch, BACKWARD),
];

fn part(station: usize) -> Part {
    let (segment, direction) = PARTS[station];
    Part { segment, direction }
}

#[test]
fn both_halves_of_every_probe_meet() {
    let mut world = World::new(config());
    world.send_all([Course::default(); 30]);
    let samples = world.samples();
    assert_eq!(samples.len(), 30);
    for sample in samples {
        let split = sample.split.unwrap();
        assert_eq!(split.rest_ns, 0);
        assert_eq!(split.get(Segment::OwnSwitch, FORWARD), Some(2 * STEP));
        assert_eq!(split.get(Segment::FarSwitch, FORWARD), Some(STEP + STEP / 2));
        assert_eq!(split.get(Segment::OwnSwitch, BACKWARD), Some(2 * STEP));
        assert_eq!(split.underlay_ns, Some(2 * STEP));
        assert_eq!(sample.own.marks.len(), 6);
        assert_eq!(sample.far.as_ref().unwrap().hooks[..], hooks()[..]);
    }
    let windows = world.windows();
    assert_eq!(windows.len(), 3);
    for window in windows {
        assert_eq!(window.halves.both, 10);
        assert_eq!(window.parts.len(), 12, "the underlay in each direction, too");
        assert_eq!((window.lost_at.total(), window.rest_ns), (0, None));
        assert_eq!(
            (&window.own_hooks[..], &window.far_hooks[..]),
            (&hooks()[..], &hooks()[..])
        );
    }
    // Several probes go with one question.
    assert!((8..=11).contains(&world.questions), "{} questions", world.questions);
    world.run(S);
    assert!(world.own.asked.is_empty() && world.own.shared.near.is_empty());
}

#[test]
fn each_loss_is_placed_and_the_ledger_adds_up() {
    for station in 0..=12 {
        let mut world = World::new(config());
        let course = |number: usize| match number % 4 {
            2 => lost_before(station),
            _ => Course::default(),
        };
        world.send_all((0..20).map(course));
        let windows = world.windows();
        assert_eq!(windows.len(), 2);
        for (window, lost) in windows.iter().zip([2, 3]) {
            assert_eq!(
                window.lost_at.at,
                BTreeMap::from([(part(station), lost)]),
                "before {station}"
            );
            assert_eq!(window.lost_at.total(), lost);
        }
    }
}

#[test]
fn a_peer_that_does_not_answer_gives_one_half_and_windows_are_not_held_for_long() {
    let mut world = World::new(config());
    world.arrives = |_| false;
    let course = |number: usize| match number % 5 {
        1 => lost_before(4),
        2 => lost_before(1),
        _ => Course::default(),
    };
    world.send_all((0..200).map(course));
    let windows = world.windows();
    assert_eq!(windows.len(), 20);
    for window in &windows {
        assert_eq!((window.halves.own, window.halves.both), (6, 0));
        assert_eq!((window.lost_at.at[&part(1)], window.lost_at.unknown), (2, 2));
        assert!(window.rest_ns.is_some() && window.far_hooks.is_empty());
    }
    assert_eq!(world.questions, 3);
}

#[test]
fn a_lost_question_costs_nothing() {
    let mut world = World::new(config());
    world.arrives = |number| number % 2 == 1;
    world.send_all([Course::default(); 30]);
    assert_eq!(world.windows().iter().map(|window| window.halves.both).sum::<u64>(), 30);
}

#[test]
fn stamps_that_the_far_host_lost_place_no_loss() {
    let mut world = World::new(config());
    world.send_all([Course::default(); 10]);
    world.send(Course {
        unseen: 0b111 << 3,
        ..lost_before(7)
    });
    world.run(INTERVAL);
    world.far.note_lost(world.now);
    world.roll();
    world.run(10 * S);
    let windows = world.windows();
    // The far leg saw the reply, and the next hook may have seen it.
    assert_eq!((windows[1].lost_at.unknown, windows[1].lost_at.total()), (1, 1));
}

#[test]
fn a_late_answer_is_lost_nowhere() {
    let mut world = World::new(config());
    let late = Course {
        is_late: true,
        ..Course::default()
    };
    world.send_all([Course::default(), late, lost_before(3)]);
    let lost_at = &world.windows()[0].lost_at;
    assert_eq!((lost_at.late, lost_at.unknown, lost_at.total()), (1, 0, 2));
    assert_eq!(lost_at.at[&part(3)], 1);
}

#[test]
fn losses_without_a_sample_are_unknown() {
    let mut world = World::new(config());
    world.lost = 3;
    world.sent = 3;
    world.send_all([lost_before(3)]);
    let lost_at = &world.windows()[0].lost_at;
    assert_eq!((lost_at.unknown, lost_at.total()), (4, 4), "no probe was ever answered");
}

#[test]
fn each_outlier_is_explained_by_its_largest_part() {
    for station in 0..12 {
        let mut world = World::new(config());
        let course = |number: usize| match number {
            25 => slow_to(station, 5 * MS),
            _ => Course::default(),
        };
        world.send_all((0..30).map(course));
        let outliers = world.outliers();
        assert_eq!(outliers.len(), 1, "{station}");
        let Outlier {
            seq,
            threshold_ns,
            split,
            largest,
            cause,
            ..
        } = outliers[0];
        assert_eq!((*seq, split.elapsed_ns), (25, 13 * STEP + 5 * MS));
        assert!((4 * 13 * STEP).abs_diff(*threshold_ns) < STEP);
        let Excess {
            part: largest,
            took_ns,
            ordinary_ns,
        } = largest.unwrap();
        let want = part(station);
        assert_eq!(largest, want);
        assert!(took_ns.abs_diff(ordinary_ns.unwrap() + 5 * MS) < STEP / 10);
        let want = match want.segment {
            Segment::OwnSwitch | Segment::OwnEncapsulation => Cause::Queue,
            Segment::FarSwitch | Segment::FarEncapsulation => Cause::FarSwitch,
            Segment::Underlay => Cause::Underlay,
            Segment::Reflector => Cause::Reflector,
        };
        assert_eq!(*cause, Some(want));
    }
}

#[test]
fn an_upcall_at_either_host_is_the_cause_of_its_probe_and_no_other() {
    for is_own in [true, false] {
        let mut world = World::new(HopsConfig {
            outlier_ns: Some(MS),
            ..config()
        });
        let station = if is_own { 1 } else { 5 };
        world.send(slow_to(station, 4 * MS));
        let upcall = Upcall {
            direction: Direction::Forward,
            prober: address(1),
            reflector: address(2),
            ssid: SSID,
            seq: 0,
            mono_ns: world.now,
            wait_ns: 4 * MS,
        };
        let host = if is_own { &mut world.own } else { &mut world.far };
        host.note_upcall(&upcall, world.now);
        world.run(INTERVAL);
        world.send_all([slow_to(station, 4 * MS)]);
        let causes: Vec<_> = world.outliers().iter().map(|outlier| outlier.cause).collect();
        let other = if is_own { Cause::Queue } else { Cause::FarSwitch };
        let upcall = Cause::Upcall {
            wait_ns: 4 * MS,
            direction: Direction::Forward,
            far: !is_own,
        };
        assert_eq!(causes, [Some(upcall), Some(other)]);
    }
}

#[test]
fn where_an_upcall_may_have_been_lost_a_wait_in_that_switch_has_no_known_cause() {
    for (station, is_own, known) in [
        (1, true, None),
        (5, false, None),
        (1, false, Some(Cause::Queue)),
        (5, true, Some(Cause::FarSwitch)),
        (2, true, Some(Cause::Queue)),
    ] {
        let mut world = World::new(HopsConfig {
            outlier_ns: Some(MS),
            ..config()
        });
        world.send_all([Course::default(); 10]);
        world.send(slow_to(station, 4 * MS));
        world.run(INTERVAL);
        let host = if is_own { &mut world.own } else { &mut world.far };
        host.note_lost(world.now);
        world.roll();
        world.run(10 * S);
        let causes: Vec<_> = world.outliers().iter().map(|outlier| outlier.cause).collect();
        assert_eq!(causes, [known], "{station}, {is_own}");
    }
}

#[test]
fn a_processor_of_either_host_is_the_cause_of_its_probe_and_no_other() {
    for (station, segment, direction, far) in [
        (3, Segment::Underlay, Direction::Forward, true),
        (4, Segment::FarEncapsulation, Direction::Forward, true),
        (9, Segment::Underlay, Direction::Backward, false),
        (0, Segment::OwnSwitch, Direction::Forward, false),
    ] {
        let mut world = World::new(HopsConfig {
            outlier_ns: Some(MS),
            ..config()
        });
        for wait_ns in [4 * MS, 40 * MS, MS] {
            world.softirq_ns = Some((station, wait_ns));
            world.send(slow_to(station, 4 * MS));
        }
        world.run(S);
        let [late, came_during_wait, other] = world.outliers()[..] else {
            panic!("not three outliers")
        };
        assert_eq!(late.largest.unwrap().part.segment, segment, "{station}");
        let cpu = |wait_ns| Cause::Cpu {
            wait_ns,
            direction,
            far,
        };
        assert_eq!(late.cause, Some(cpu(4 * MS)));
        let took_ns = came_during_wait.largest.unwrap().took_ns;
        assert_eq!(came_during_wait.cause, Some(cpu(took_ns)));
        assert!(
            !matches!(other.cause, Some(Cause::Cpu { .. })),
            "it explains too little"
        );
    }
}

#[test]
fn another_threshold_and_timeout_hold_from_then_on() {
    let mut world = World::new(config());
    world.arrives = |number| number > 2;
    world.send_all([slow_to(1, MS); 12]);
    assert_eq!(world.outliers().len(), 0, "all are alike");
    let (outlier_ns, timeout_ns) = (Some(MS), 2 * TIMEOUT);
    let other = HopsConfig {
        outlier_ns,
        timeout_ns,
        ..config()
    };
    world.own.reconfigure(other, world.now);
    world.send_all([slow_to(1, MS); 12]);
    assert_eq!(world.outliers().len(), 12);
}

#[test]
fn outliers_of_a_window_are_bounded_and_counted() {
    let mut world = World::new(HopsConfig {
        outlier_ns: Some(1),
        ..config()
    });
    (0..40).for_each(|_| world.send(Course::default()));
    world.roll();
    world.run(10 * S);
    let windows = world.windows();
    assert_eq!((windows[0].outliers, windows[0].outliers_left_out), (40, 24));
    assert_eq!(world.outliers().len(), 16);
}

#[test]
fn only_its_own_probes_are_told_to_an_asker_and_answers_are_bounded() {
    let mut world = World::new(config());
    world.send(Course::default());
    let question = Question {
        nonce: 1,
        ssid: SSID,
        probes: vec![0],
    };
    let mut told = |asker| {
        let answer = world.far.answer_for(asker, &question, UTC, world.now);
        answer.map(|answer| answer.probes[0].1.marks().count())
    };
    assert_eq!(told(address(1)), Some(6));
    assert_eq!(told(address(3)), Some(0));
    let answers = (0..10_000).filter(|_| told(address(1)).is_some()).count();
    assert!((1..500).contains(&answers), "{answers} answers at once");
}

#[test]
fn an_answer_about_other_probes_than_the_question_gives_no_half() {
    let mut world = World::new(config());
    world.send(Course::default());
    world.run(S / 2);
    let now_ns = world.now + S;
    world.own.expire(now_ns);
    world.own.poll_question(now_ns, 99).unwrap();
    let answer = Answer {
        nonce: 99,
        hooks: hooks(),
        complete_ns: u64::MAX,
        probes: vec![(1, Stamps::default()), (0, Stamps::default())],
    };
    let guessed = Answer {
        nonce: 98,
        ..answer.clone()
    };
    assert!(!world.own.take_answer(&guessed, now_ns));
    assert!(world.own.take_answer(&answer, now_ns));
    world.outcomes.extend(std::iter::from_fn(|| world.own.poll_event()));
    assert_eq!(world.samples()[0].far, None);
}

#[test]
fn another_offset_of_utc_voids_what_was_written_by_the_last() {
    // Also if nobody has asked before.
    let bound_ns = SAME_CLOCK_BOUND_NS as i64;
    for (earlier, set_by_ns, is_void) in [(3, bound_ns + 1, true), (0, -bound_ns - 1, true), (0, bound_ns, false)] {
        let mut world = World::new(config());
        world.far.set_utc_offset(UTC, world.now);
        world.send_all(vec![Course::default(); earlier]);
        let question = Question {
            nonce: 1,
            ssid: SSID,
            probes: vec![world.seq],
        };
        world.send(Course::default());
        let answer = world
            .far
            .answer_for(address(1), &question, UTC + set_by_ns, world.now)
            .unwrap();
        assert_eq!(
            (answer.complete_ns == 0, answer.probes[0].1.is_empty()),
            (is_void, is_void)
        );
    }
}

#[test]
fn an_idle_peer_is_forgotten() {
    let mut world = World::new(config());
    world.send_all([Course::default()]);
    assert_eq!(world.own.peers.len(), 1);
    world.run(IDLE_NS);
    assert_eq!((world.own.peers.len(), world.own.next_deadline()), (0, None));
    assert_eq!(world.far.next_deadline(), None);
}

#[test]
fn the_end_settles_what_is_open() {
    let mut world = World::new(config());
    world.send(Course::default());
    world.roll();
    let events = std::mem::take(&mut world.events);
    events
        .iter()
        .for_each(|(_, event)| world.own.note_event(event, world.now));
    assert!(!world.own.is_settled());
    world.own.finish(world.now);
    assert!(world.own.is_settled());
    world.step();
    assert_eq!((world.samples().len(), world.windows().len()), (1, 1));
}

#[test]
fn devices_in_other_places_start_over() {
    let mut world = World::new(config());
    world.send_all([Course::default(); 5]);
    world.send(Course::default());
    let mut other = hooks();
    other.reverse();
    world.own.set_hooks(&other, world.now);
    world.run(2 * S);
    assert!(world.samples().last().unwrap().own.marks.is_empty());
}

#[test]
fn the_sizes_are_those_of_the_table_in_the_description() {
    let of_probe = (table::PROBE_BYTES, size_of::<(u32, Resolved)>());
    assert_eq!((of_probe, size_of::<ordinary::Quantiles>()), ((192, 120), 224));
    // The guide has the table, too.
    let guide = include_str!("../../../docs/src/guide/hops.md");
    for bytes in [of_probe.0, of_probe.1] {
        assert!(guide.contains(&format!("| {bytes} bytes |")), "{bytes}");
    }
}

fn any_course() -> impl Strategy<Value = Course> {
    let lost_before = prop_oneof![3 => Just(None), 1 => (0usize..=12).prop_map(Some)];
    let unseen = prop_oneof![4 => Just(0), 1 => any::<u16>()];
    (
        lost_before,
        unseen,
        any::<bool>(),
        prop::option::of((0usize..12, 0..MS)),
    )
        .prop_map(|(lost_before, unseen, is_late, slow_to)| Course {
            lost_before,
            slow_to,
            unseen,
            is_late: is_late && unseen % 3 == 1,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(24)))]

    #[test]
    fn whatever_happens_the_ledger_adds_up_and_every_split_is_whole(
        courses in prop::collection::vec(any_course(), 1..60), lost_questions in 1u32..5,
    ) {
        let mut world = World::new(config());
        world.arrives = match lost_questions {
            1 => |_| false,
            2 => |number| number % 2 == 0,
            3 => |number| number % 3 != 0,
            _ => |_| true,
        };
        let answered = courses.iter().filter(|course| course.lost_before.is_none() && !course.is_late).count();
        let lost = courses.len() - answered;
        world.send_all(courses.iter().copied());
        let windows = world.windows();
        prop_assert_eq!(windows.len(), courses.len().div_ceil(10));
        let (mut of_windows, mut halves) = (0, 0);
        for window in windows {
            of_windows += window.lost_at.total();
            halves += window.halves.both + window.halves.own + window.halves.none;
        }
        prop_assert_eq!((of_windows, halves), (lost as u64, answered as u64));
        prop_assert_eq!(world.samples().len(), courses.len());
        for sample in world.samples() {
            if let Some(split) = sample.split {
                let sum: u64 = split.parts().map(|(_, took_ns)| took_ns).sum();
                prop_assert_eq!(sum + split.rest_ns, split.elapsed_ns);
            }
        }
        prop_assert!(world.own.asked.is_empty() && world.own.queue.is_empty());
    }
}
